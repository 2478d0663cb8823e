/* Image Factory plugin ABI 1.0: the boundary between imagefactory-stage-runner (the host) and a
 * plugin.
 *
 * This file holds the rules that are true everywhere and includes the other headers, one concept
 * each; their comments are the manual. docs/PLUGIN_ABI.md numbers every duty of a plugin and names
 * the check behind it. A plugin is a shared library (ELF, one exported symbol: negotiate.h) with a
 * JSON manifest beside it. It may be written in any language.
 *
 * ORDER. One stage is one process:
 *
 *   negotiate --> create --> one operation --> destroy --> the process ends
 *
 * The library is never unloaded. That is what today's host does. A plugin must also stand several
 * operations on one instance, one after the other, and several instances in one process: a
 * validator and a later host do this.
 *
 * THREADS. Every function carries one of these tags:
 *   [stage-thread]  always on the same thread for the life of an instance, one call at a time
 *   [any-thread]    on any thread at any time, beside a [stage-thread] call too
 * A plugin may start threads and call host functions from them. All have ended when the operation
 * returns, at the latest when destroy returns.
 *
 * BLOCKING. "Never blocks": returns at once. "May block": takes the time its work takes and keeps
 * an eye on cancel.
 *
 * MEMORY. Nothing changes its owner at this boundary; there is nothing to free for the other side.
 *   - What is passed in belongs to the caller and is borrowed until the call returns.
 *   - What a plugin has to tell goes into host functions, which copy.
 *   - Descriptor and tables of a plugin are static.
 *   - The few things that a host function hands out live as long as its comment says.
 *
 * GROWTH. Tables of functions (imgf_plugin, imgf_host, imgf_*_v1) are never changed once released;
 * what is new has a new id. Structs marked Growable gain fields at the end only: the writer sets
 * struct_size to its own sizeof, the reader reads a field only if struct_size covers it and takes a
 * missing one as zero. Reserved fields and unknown flags are written as 0 and ignored when read.
 *
 * CANCEL. The host asks a stage to end in three ways at once: is_cancelled() becomes 1, cancel_fd
 * becomes readable, abort() is called if there is one. From then on the operation has 10 seconds
 * (the manifest's limits.cancel_grace_s can raise them) to stop its work and return
 * IMGF_E_CANCELLED; one that was finishing anyway may finish. Whoever stays longer is killed with
 * all its children. The request may come before the operation starts. Look at is_cancelled at least
 * every 5 seconds.
 *
 * ERRORS. status.h says what is returned, error.h what is told besides. An operation that failed
 * leaves nothing outside that is not in the journal.
 *
 * SUCCESS. An operation succeeded if it returned IMGF_OK, the process then ended with status 0, and
 * the host found what was promised: the required results, the output a readable regular file of the
 * declared format.
 *
 * UNWINDING. No exception, panic or longjmp leaves a function of this ABI, in either direction. A
 * plugin never calls exit, _exit, abort, quick_exit or pthread_exit.
 *
 * PROCESS. The process belongs to the host. A plugin does not change the current folder, umask,
 * locale, environment, signal handlers and masks, resource limits, or descriptors that it did not
 * open. It does not fork without exec and leaves no child behind. What it prints on descriptors 1
 * and 2 becomes log lines, nothing else; descriptor 0 is empty.
 *
 * SECRETS come from secret_get and go nowhere but to the provider.
 *
 * AGAIN. Any stage can be interrupted (power, kill -9) and run again with the same stage_id and
 * attempt + 1. The plugin takes over what its journal entries and checkpoints say is there; it
 * never makes a second one. */
#ifndef IMAGEFACTORY_PLUGIN_H
#define IMAGEFACTORY_PLUGIN_H

#include <imagefactory/version.h>
#include <imagefactory/status.h>
#include <imagefactory/text.h>

#include <imagefactory/error.h>
#include <imagefactory/progress.h>
#include <imagefactory/journal.h>
#include <imagefactory/log.h>

#include <imagefactory/host.h>
#include <imagefactory/host_checkpoint.h>
#include <imagefactory/host_artifact.h>
#include <imagefactory/host_reserve.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>
#include <imagefactory/os.h>
#include <imagefactory/os_inputs.h>
#include <imagefactory/os_verify.h>
#include <imagefactory/cloud.h>
#include <imagefactory/cleanup.h>

#include <imagefactory/descriptor.h>
#include <imagefactory/negotiate.h>

#include <imagefactory/layout.h>

#endif

/* What a plugin is, and how its instances begin and end: the answer to
 * imagefactory_plugin_negotiate.
 *
 * The struct and everything that it points to is static: the same address and the same bytes in
 * every answer, valid as long as the process lives (a library is never unloaded). */
#ifndef IMAGEFACTORY_DESCRIPTOR_H
#define IMAGEFACTORY_DESCRIPTOR_H

#include <stdint.h>

#include <imagefactory/host.h>
#include <imagefactory/instance.h>
#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct imgf_plugin {
  uint32_t struct_size;
  uint32_t abi_version; /* the IMGF_ABI that the plugin was compiled against */
  imgf_str id;          /* the manifest's "id" */
  imgf_str version;     /* the manifest's "version" */
  uint32_t kind;        /* IMGF_KIND_OS or IMGF_KIND_CLOUD, the manifest's "type" */
  uint32_t flags;       /* 0: none are defined */

  /* Makes an instance. host: may be kept until destroy returns. *out: set on IMGF_OK only; the
   * plugin owns it and the host hands it back to destroy exactly once. Opens no connection and
   * writes no file: those belong to operations. Should take milliseconds. [stage-thread]. On an
   * error nothing is left behind and destroy is not called.
   * IMGF_E_INVALID_ARGUMENT: NULL, or a host table without what this plugin needs; the host's
   * fault. */
  int32_t (*create)(const imgf_host *host, imgf_instance **out);

  /* Ends the instance after all its operations have returned, whatever they returned: joins its
   * threads, closes its descriptors, frees its memory. NULL is ignored. Not called when the process
   * is killed. Should take milliseconds, may not fail. [stage-thread]. When it returns, host and
   * everything got from it are gone. */
  void (*destroy)(imgf_instance *self);

  /* The table of the interface id, or NULL for an id that this plugin does not know. Compare all
   * id.len bytes and the length: "imagefactory.os/1" is neither "imagefactory.os/" nor
   * "imagefactory.os/10". No NUL may be expected behind the id. The table is static and may be kept
   * for ever. Never blocks. [any-thread], also before create. */
  const void *(*get_interface)(imgf_str id);
} imgf_plugin;

#define IMGF_KIND_OS 1u    /* get_interface answers IMGF_IFACE_OS_V1 */
#define IMGF_KIND_CLOUD 2u /* get_interface answers IMGF_IFACE_CLOUD_V1 */

#ifdef __cplusplus
}
#endif

#endif

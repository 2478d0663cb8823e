/* What the host does for a plugin: a table of functions, handed to imgf_plugin.create.
 *
 * The host owns the table; it may be used until imgf_plugin.destroy returns, and not after. Every
 * function takes ctx as its first argument and is [any-thread]; the calls of several threads do not
 * disturb each other. A host leaves no slot of this table NULL. A plugin that nevertheless finds
 * one that it needs, or a struct_size below its own, returns IMGF_E_INVALID_ARGUMENT from create
 * instead of calling it.
 *
 * Whatever a plugin passes in is copied before the function returns. How long what it gets out may
 * be read stands at each function; an out pointer is set to { NULL, 0 } when the status is not
 * IMGF_OK. A status other than IMGF_OK here is a fact for the plugin to act on; it does not fail
 * the stage by itself. last_error tells the reason in words.
 *
 * Statuses common to all: IMGF_E_INVALID_ARGUMENT (NULL where something is required, struct_size
 * too small, text that is not UTF-8 or not JSON where JSON is asked for, too long),
 * IMGF_E_INVALID_STATE (called outside create, an operation or destroy) and IMGF_E_IO (the host
 * went away; end the operation). All three except the last are the plugin's fault.
 *
 * Released tables never change: later services come through get_interface under their own ids. */
#ifndef IMAGEFACTORY_HOST_H
#define IMAGEFACTORY_HOST_H

#include <stdint.h>

#include <imagefactory/error.h>
#include <imagefactory/journal.h>
#include <imagefactory/log.h>
#include <imagefactory/progress.h>
#include <imagefactory/status.h>
#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct imgf_host imgf_host;

struct imgf_host {
  uint32_t struct_size;
  uint32_t abi_version; /* what negotiate.h settled on */
  void *ctx;            /* the host's own: first argument here and in the further host tables */

  /* Adds one line to the stage's log. level: log.h. fields_json: JSON object, absent allowed.
   * Blocks only while the host is behind with reading. Never fails; lines may be cut (64 KiB) or
   * dropped when they come too fast. */
  void (*log)(void *ctx, uint32_t level, imgf_str message, imgf_str fields_json);

  /* Tells how far the operation is (progress.h). Blocks as log does.
   * IMGF_E_CANCELLED: the stage is to end; stop, and return IMGF_E_CANCELLED from the operation. */
  int32_t (*progress)(void *ctx, const imgf_progress *p);

  /* 1 once the stage is to end early, else 0. Never blocks, costs a few nanoseconds, safe in a
   * signal handler. */
  int32_t (*is_cancelled)(void *ctx);

  /* A descriptor that becomes readable once the stage is to end early, for poll() beside other
   * descriptors. Do not read from it and do not close it; the same number until destroy returns.
   * Below 0: there is none, use is_cancelled. Never blocks. */
  int32_t (*cancel_fd)(void *ctx);

  /* Hands over the error record (error.h), once, right before the operation returns its code.
   * Blocks as log does.
   * IMGF_E_INVALID_STATE: a record was given before; the first one stands. */
  int32_t (*report_error)(void *ctx, const imgf_error *e);

  /* Sets one result of the operation; the last value of a key wins. value_json is one JSON value,
   * so a text has its quotes: "raw" with them. Results count only if the operation returns IMGF_OK.
   * Blocks as log does.
   *
   *   key                          JSON type, and in which operations
   *   format                       string (raw, qcow2, vmdk, ...), required where the operation
   *                                wrote IMGF_PATH_OUTPUT_IMAGE: create_base_image,
   *                                create_target_image, builder_should_create_target_image,
   *                                builder_did_create_target_image
   *   icicle                       string (XML): the same four, push_image_to_provider,
   *                                snapshot_image_on_provider
   *   identifier_on_provider       string, required: push_image_to_provider,
   *                                snapshot_image_on_provider
   *   provider_account_identifier  string: the same two
   *   input_digest                 string, required: resolve_inputs
   *   verified                     {"ok": bool, "how": string}, required: verify_image
   *   properties                   object, merged into the image's: all
   *   effective_parameters         object, the values used with defaults included: all
   *
   * IMGF_E_INVALID_ARGUMENT: a key that the operation does not have, or a value of another type. */
  int32_t (*set_result)(void *ctx, imgf_str key, imgf_str value_json);

  /* Records what is about to exist, exists, or no longer exists outside (journal.h). Blocks until
   * the entry is durable: milliseconds, more on a busy disk. On any status but IMGF_OK nothing was
   * recorded, so nothing may be created. */
  int32_t (*journal)(void *ctx, const imgf_journal_entry *e);

  /* One value of the configuration, as JSON: the plugin's own section and the public keys of the
   * host. Readable until destroy returns. Never blocks. IMGF_E_NOT_FOUND: not configured. */
  int32_t (*config_get)(void *ctx, imgf_str key, imgf_str *out_json);

  /* Where things lie: an absolute path. which: IMGF_PATH_*. Readable until destroy returns. Never
   * blocks.
   * IMGF_E_NOT_FOUND: this operation has no such path. */
  int32_t (*path_get)(void *ctx, uint32_t which, imgf_str *out);

  /* Another image of the store, as a JSON object of the shape in imgf_stage.images_json. Only ids
   * that stand in this stage's parameters or lineage; the host keeps the image until the stage
   * ends. Readable until destroy returns. Blocks for one question to the store. IMGF_E_PERMISSION:
   * not an id of this stage. IMGF_E_NOT_FOUND: no such image. */
  int32_t (*image_get)(void *ctx, imgf_str image_id, imgf_str *out_json);

  /* The text of a secret that was granted to this stage; imgf_stage.credential_name is the name of
   * its credentials. Readable until secret_release or the return of destroy, whichever is first.
   * Never write it to a file, a log line, an argument list or an environment. Blocks for one
   * question to the host.
   * IMGF_E_PERMISSION: not granted. IMGF_E_NOT_FOUND: no such name. */
  int32_t (*secret_get)(void *ctx, imgf_str name, imgf_str *out);

  /* Gives the secret back; the host wipes its memory. A name that was not got is ignored. Never
   * blocks. */
  void (*secret_release)(void *ctx, imgf_str name);

  /* Cloud plugin, in builder_will_create_target_image: what the OS plugin is to add for this cloud.
   * Recorded by the host and delivered, in order, to imgf_os_v1.add_cloud_plugin_content.
   * content_json is a TargetContent object:
   *   {"repositories": [...], "packages": ["name", ...],
   *    "files":    [{"name": path, "type": "raw" | "base64", "file": content}],
   *    "commands": [{"name": text, "type": "raw" | "base64", "command": text}]}
   * All keys optional. Blocks as log does. IMGF_E_INVALID_STATE: not that hook. */
  int32_t (*add_cloud_plugin_content)(void *ctx, imgf_str content_json);

  /* Why the last host function that this thread called did not return IMGF_OK, in words. Readable
   * until this thread's next call of a host function. Never blocks. IMGF_E_NOT_FOUND: nothing
   * failed. */
  int32_t (*last_error)(void *ctx, imgf_str *out);

  /* A further host table by its versioned id, or NULL if this host does not have it. The same
   * pointer every time, valid until destroy returns. Never blocks. */
  const void *(*get_interface)(void *ctx, imgf_str id);
};

/* Private scratch of this attempt. The host removes it with everything in it when the attempt is
 * over. */
#define IMGF_PATH_WORK_DIR 1u

/* The image to start from. Never written, by no operation. create_target_image: the base image.
 * builder_did_create_target_image: the image made so far. verify_image: the image to prove.
 * push_image_to_provider: the target image. Absent elsewhere. */
#define IMGF_PATH_INPUT_IMAGE 2u

/* The image file to make: a name that does not exist yet, on the file system of the store, in a
 * folder of this attempt. Create it as a regular file. builder_did_create_target_image: nothing
 * written = the image stays as it is. Absent where the operation makes no image. */
#define IMGF_PATH_OUTPUT_IMAGE 3u

/* Read-only data that the plugin's package installed. Absent if there is none. */
#define IMGF_PATH_PLUGIN_DATA 4u

/* Kept over all attempts of this stage; removed when the order is final. */
#define IMGF_PATH_STATE_DIR 5u

/* Of this plugin, shared by its stages, which may run at the same time; bounded by the host. What
 * lies there may be gone the next time. Absent if the host has none. */
#define IMGF_PATH_CACHE_DIR 6u

#ifdef __cplusplus
}
#endif

#endif

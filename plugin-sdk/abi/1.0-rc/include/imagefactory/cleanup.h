/* Undo what a stage left outside when it crashed, was killed, or its order failed for good.
 *
 * A plugin of either kind that calls imgf_host.journal offers this table; one that does not has no
 * need of it. */
#ifndef IMAGEFACTORY_CLEANUP_H
#define IMAGEFACTORY_CLEANUP_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>
#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_IFACE_CLEANUP_V1 "imagefactory.cleanup/1"

typedef struct imgf_cleanup_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Removes the resources that journal_json lists, in a fresh process that knows nothing but its
   * arguments. Idempotent: what is gone already counts as removed. For each resource that is gone
   * it records REMOVED with the same token. It goes on after a resource that cannot be removed and
   * returns the first error at the end.
   *
   * journal_json: JSON array in the order of recording, only tokens without REMOVED, each entry
   *   {"event": "will_create" | "created", "scratch": bool, "token", "kind",
   *    "resource_id": text or null, "details": object or null}
   * A token that has only will_create may or may not exist: look for it by the token.
   * st: that of the stage which left them, with the same stage_id. Both borrowed until return.
   * [stage-thread]; may block for minutes. IMGF_ERR_RETRYABLE: the host calls it again later. */
  int32_t (*cleanup)(imgf_instance *self, const imgf_stage *st, imgf_str journal_json);
} imgf_cleanup_v1;

#ifdef __cplusplus
}
#endif

#endif

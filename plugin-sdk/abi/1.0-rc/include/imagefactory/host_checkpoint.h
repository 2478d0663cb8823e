/* Further host table: what a stage wants to know when it is run again after an interruption.
 *
 * Get it with imgf_host.get_interface(IMGF_HOST_CHECKPOINT_V1); NULL = this host keeps none, start
 * over each time. Checkpoints belong to the stage (stage_id), survive the process and the machine,
 * and are dropped with the order. */
#ifndef IMAGEFACTORY_HOST_CHECKPOINT_H
#define IMAGEFACTORY_HOST_CHECKPOINT_H

#include <stdint.h>

#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_HOST_CHECKPOINT_V1 "imagefactory.host.checkpoint/1"

/* [any-thread] both functions; ctx is imgf_host.ctx; statuses as host.h says for all. */
typedef struct imgf_host_checkpoint_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Keeps value_json (one JSON value) under key; the last value wins. Blocks until it is durable:
   * milliseconds. On any status but IMGF_OK the former value stands. IMGF_E_QUOTA: more than the
   * host keeps for a stage. */
  int32_t (*put)(void *ctx, imgf_str key, imgf_str value_json);

  /* What was put under key by this or an earlier attempt. Readable until destroy returns. Never
   * blocks.
   * IMGF_E_NOT_FOUND: nothing was. */
  int32_t (*get)(void *ctx, imgf_str key, imgf_str *out_json);
} imgf_host_checkpoint_v1;

#ifdef __cplusplus
}
#endif

#endif

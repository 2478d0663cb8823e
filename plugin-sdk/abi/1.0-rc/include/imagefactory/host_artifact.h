/* Further host table: files that a stage hands over beside the image, such as an SBOM, a serial
 * log, a screenshot.
 *
 * Get it with imgf_host.get_interface(IMGF_HOST_ARTIFACT_V1); NULL = this host keeps none, go on
 * without. */
#ifndef IMAGEFACTORY_HOST_ARTIFACT_H
#define IMAGEFACTORY_HOST_ARTIFACT_H

#include <stdint.h>

#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_HOST_ARTIFACT_V1 "imagefactory.host.artifact/1"

/* [any-thread]; ctx is imgf_host.ctx; statuses as host.h says for all. */
typedef struct imgf_host_artifact_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Hands over the regular file at path, which lies below IMGF_PATH_WORK_DIR. The host takes it
   * when the stage ends, also when it fails; leave it there and do not write to it any more. name:
   * letters, digits, '.', '_', '-', beginning with a letter or digit, at most 128; the last file of
   * a name wins. media_type: "application/spdx+json". Blocks for one question to the host.
   * IMGF_E_NOT_FOUND: no such file. IMGF_E_PERMISSION: not below the work folder. IMGF_E_QUOTA: too
   * many or too large. */
  int32_t (*add)(void *ctx, imgf_str name, imgf_str media_type, imgf_str path);
} imgf_host_artifact_v1;

#ifdef __cplusplus
}
#endif

#endif

/* Optional: what a build depends on that the template does not say, such as the release file of a
 * package repository.
 *
 * The host makes the key of finished images from it. Without this table finished images of the
 * plugin are never reused for another order. */
#ifndef IMAGEFACTORY_OS_INPUTS_H
#define IMAGEFACTORY_OS_INPUTS_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_IFACE_OS_INPUTS_V1 "imagefactory.os.inputs/1"

typedef struct imgf_os_inputs_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Digests everything outside the template that changes what create_base_image would make, and
   * sets the result input_digest: any text, equal if and only if a new build would be equal.
   * Creates nothing. st: borrowed until return. [stage-thread]; may ask the network; should take
   * seconds. On any status but IMGF_OK the image is built anew. */
  int32_t (*resolve_inputs)(imgf_instance *self, const imgf_stage *st);
} imgf_os_inputs_v1;

#ifdef __cplusplus
}
#endif

#endif

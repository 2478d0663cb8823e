/* Optional: prove that an image works, for instance by booting it.
 *
 * A stage of its own, run after the base image and after the target image where the order asks for
 * it. */
#ifndef IMAGEFACTORY_OS_VERIFY_H
#define IMAGEFACTORY_OS_VERIFY_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_IFACE_OS_VERIFY_V1 "imagefactory.os.verify/1"

typedef struct imgf_os_verify_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Judges the image at IMGF_PATH_INPUT_IMAGE without changing it and sets the result verified. An
   * image that does not work is IMGF_OK with {"ok": false, "how": what was seen}; an error status
   * means that no judgement was possible.
   * st: borrowed until return. [stage-thread]; may block for minutes. */
  int32_t (*verify_image)(imgf_instance *self, const imgf_stage *st);
} imgf_os_verify_v1;

#ifdef __cplusplus
}
#endif

#endif

/* What an OS plugin does: make a system image from a template, and adapt it to a cloud.
 *
 * imgf_plugin.get_interface(IMGF_IFACE_OS_V1) answers a static table. Operations are
 * [stage-thread], may block for hours, report progress, and end within the cancel grace when asked
 * to (plugin.h). A NULL slot means IMGF_E_UNSUPPORTED; create_base_image is the one that an OS
 * plugin must have. */
#ifndef IMAGEFACTORY_OS_H
#define IMAGEFACTORY_OS_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>
#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_IFACE_OS_V1 "imagefactory.os/1"

typedef struct imgf_os_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Makes the base image that the template describes, as a raw, sparse file at
   * IMGF_PATH_OUTPUT_IMAGE.
   * st: borrowed until return. Results: format, icicle. The host checks the file itself before it
   * believes success.
   * IMGF_E_INVALID_ARGUMENT with IMGF_ERR_USER_FAULT: the template asks for what cannot be done.
   * Any other status: the build failed, for the reason in the error record. */
  int32_t (*create_base_image)(imgf_instance *self, const imgf_stage *st);

  /* Makes the image for the cloud st->target from the base image at IMGF_PATH_INPUT_IMAGE: copies
   * it to IMGF_PATH_OUTPUT_IMAGE and adds what add_cloud_plugin_content received on this instance,
   * in that order. st, results and statuses as for create_base_image. */
  int32_t (*create_target_image)(imgf_instance *self, const imgf_stage *st);

  /* Receives one TargetContent (imgf_host.add_cloud_plugin_content) right before
   * create_target_image, as often as the cloud plugin gave one. content_json: borrowed until
   * return, so copy it. Should not block; does nothing else.
   * IMGF_E_INVALID_ARGUMENT: content that this plugin cannot add; the cloud plugin's fault. */
  int32_t (*add_cloud_plugin_content)(imgf_instance *self, imgf_str content_json);

  /* Asks the operation that runs on self, of whichever table, to end. [any-thread]; must not block;
   * may come twice, before the operation started or after it returned; never after destroy began.
   * An instance that was aborted may answer IMGF_E_CANCELLED to every later operation too.
   * NULL = the flag is enough. */
  void (*abort)(imgf_instance *self);
} imgf_os_v1;

#ifdef __cplusplus
}
#endif

#endif

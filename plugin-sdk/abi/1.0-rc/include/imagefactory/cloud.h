/* What a cloud plugin does: prepare a target image for its cloud, bring it to a provider, and take
 * it away again.
 *
 * imgf_plugin.get_interface(IMGF_IFACE_CLOUD_V1) answers a static table. Operations are
 * [stage-thread], may block for hours, report progress, and end within the cancel grace when asked
 * to (plugin.h). A NULL slot means IMGF_E_UNSUPPORTED, for the three hooks: nothing to do. Each
 * operation is a stage of its own and may run in a process of its own: an instance must not expect
 * to have seen the hook before.
 *
 * A target image is made in this order:
 *
 *   builder_should_create_target_image --0--> done, the image is complete
 *                 | 1
 *   builder_will_create_target_image          what the OS plugin is to add
 *                 |
 *   imgf_os_v1.create_target_image
 *                 |
 *   builder_did_create_target_image           transform what the OS plugin made */
#ifndef IMAGEFACTORY_CLOUD_H
#define IMAGEFACTORY_CLOUD_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/stage.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_IFACE_CLOUD_V1 "imagefactory.cloud/1"

/* st is borrowed until return in every operation. Results: the table at imgf_host.set_result. */
typedef struct imgf_cloud_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Decides whether the usual way is gone: *out_yes = 1 to go on, 0 when this call has itself
   * written the complete target image to IMGF_PATH_OUTPUT_IMAGE and nothing more is to be done. It
   * is a full stage and may take hours. The host sets *out_yes to 1 before the call and ignores it
   * unless the status is IMGF_OK. NULL slot = 1. */
  int32_t (*builder_should_create_target_image)(imgf_instance *self, const imgf_stage *st,
                                                uint32_t *out_yes);

  /* Says with imgf_host.add_cloud_plugin_content what the OS plugin is to add for this cloud.
   * Writes no image. */
  int32_t (*builder_will_create_target_image)(imgf_instance *self, const imgf_stage *st);

  /* Transforms the target image: reads IMGF_PATH_INPUT_IMAGE, writes IMGF_PATH_OUTPUT_IMAGE, never
   * its input. Nothing written = the image stays as it is. */
  int32_t (*builder_did_create_target_image)(imgf_instance *self, const imgf_stage *st);

  /* Makes the provider image from the target image at IMGF_PATH_INPUT_IMAGE. Announces in the
   * journal whatever it creates. The same stage_id never makes a second image: another attempt
   * takes over what is there. Result identifier_on_provider required. */
  int32_t (*push_image_to_provider)(imgf_instance *self, const imgf_stage *st);

  /* Makes the provider image on the provider itself, by building in an instance there and keeping a
   * snapshot of it. Duties and results as for push_image_to_provider; there is no input image. */
  int32_t (*snapshot_image_on_provider)(imgf_instance *self, const imgf_stage *st);

  /* Removes the provider image that images_json.self.identifier_on_provider names. One that is gone
   * already is success. IMGF_E_NOT_FOUND is taken as success too. */
  int32_t (*delete_from_provider)(imgf_instance *self, const imgf_stage *st);

  /* As imgf_os_v1.abort: ask the operation that runs on self to end. [any-thread]; must not block;
   * NULL allowed. */
  void (*abort)(imgf_instance *self);
} imgf_cloud_v1;

#ifdef __cplusplus
}
#endif

#endif

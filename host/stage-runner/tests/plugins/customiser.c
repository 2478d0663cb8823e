/* An OS plugin that only makes target images, and says what it was given before. */
#include "plugin.h"

static int32_t add_cloud_plugin_content(imgf_instance* self, imgf_str content) {
  (void)self;
  say(content.ptr);
  return IMGF_OK;
}
static int32_t create_target_image(imgf_instance* self, const imgf_stage* st) {
  (void)self;
  (void)st;
  say("target");
  return IMGF_OK;
}

static const imgf_os_v1 os = {sizeof os, 0, NULL, create_target_image, add_cloud_plugin_content,
                              NULL};
#define OS_TABLE os
#include "plugin_end.h"

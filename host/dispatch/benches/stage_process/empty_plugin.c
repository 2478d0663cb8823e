/* A cloud plugin whose one operation does nothing: what a stage costs besides its work. */
#include <string.h>

#include <imagefactory/plugin.h>

#define TEXT(literal) { literal, sizeof(literal) - 1 }

struct imgf_instance { const imgf_host *host; };

static imgf_instance the_instance;

static int32_t nothing(imgf_instance *self, const imgf_stage *st) {
  (void)self;
  (void)st;
  return IMGF_OK;
}

static const imgf_cloud_v1 cloud = {
    .struct_size = sizeof(imgf_cloud_v1),
    .builder_will_create_target_image = nothing,
    .push_image_to_provider = nothing,
    .delete_from_provider = nothing,
};

static int32_t create(const imgf_host *host, imgf_instance **out) {
  the_instance.host = host;
  *out = &the_instance;
  return IMGF_OK;
}

static void destroy(imgf_instance *self) { (void)self; }

static const void *get_interface(imgf_str id) {
  static const char name[] = IMGF_IFACE_CLOUD_V1;
  return id.len == sizeof(name) - 1 && memcmp(id.ptr, name, id.len) == 0 ? &cloud : NULL;
}

static const imgf_plugin plugin = {
    .struct_size = sizeof(imgf_plugin),
    .abi_version = IMGF_ABI_1_0,
    .id = TEXT("Empty"),
    .version = TEXT("1.0.0"),
    .kind = IMGF_KIND_CLOUD,
    .create = create,
    .destroy = destroy,
    .get_interface = get_interface,
};

int32_t imagefactory_plugin_negotiate(imgf_negotiate *n) {
  if (n == NULL || n->struct_size < IMGF_NEGOTIATE_SIZE_1_0) return IMGF_E_INVALID_ARGUMENT;
  if (n->host_abi_min > IMGF_ABI_1_0 || n->host_abi_max < IMGF_ABI_1_0) return IMGF_E_ABI;
  n->chosen_abi = IMGF_ABI_1_0;
  n->plugin = &plugin;
  return IMGF_OK;
}

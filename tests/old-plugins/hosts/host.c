/* A host that knows nothing but the headers it was compiled with: host PLUGIN FOLDER TOKEN.
 *
 * tests/tests/abi_old_plugins.rs compiles it against each frozen plugin-sdk/abi/VERSION/include and
 * runs today's plugins in it: a plugin that asks for something that VERSION did not have fails
 * here. It loads the plugin, negotiates for exactly that version, creates an instance, runs
 * create_base_image or push_image_to_provider, destroys it, and prints a line for each thing it
 * was told. Of the further host tables it has checkpoints; it confines nothing and is no model for
 * a real host. FOLDER gets the output image, or the mock provider's ledger. */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <imagefactory/plugin.h>

static char folder[2048];
static char output[4096];

static imgf_str text(const char *c_string) {
  imgf_str s;
  s.ptr = c_string;
  s.len = strlen(c_string);
  return s;
}

static void print(const char *what, imgf_str a, imgf_str b) {
  printf("%s %.*s %.*s\n", what, (int)a.len, a.ptr ? a.ptr : "", (int)b.len, b.ptr ? b.ptr : "");
}

/* ---- the host table ---------------------------------------------------------------------- */

static void host_log(void *ctx, uint32_t level, imgf_str message, imgf_str fields_json) {
  (void)ctx, (void)level;
  print("log", message, fields_json);
}

static int32_t host_progress(void *ctx, const imgf_progress *p) {
  (void)ctx, (void)p;
  return IMGF_OK;
}

static int32_t host_is_cancelled(void *ctx) {
  (void)ctx;
  return 0;
}

static int32_t host_cancel_fd(void *ctx) {
  (void)ctx;
  return -1;
}

static int32_t host_report_error(void *ctx, const imgf_error *e) {
  (void)ctx;
  print("error", e->message, e->hint);
  return IMGF_OK;
}

static int32_t host_set_result(void *ctx, imgf_str key, imgf_str value_json) {
  (void)ctx;
  print("result", key, value_json);
  return IMGF_OK;
}

static int32_t host_journal(void *ctx, const imgf_journal_entry *e) {
  static const char *const events[] = {"", "will_create", "created", "removed"};
  (void)ctx;
  if (e->event < 1 || e->event > 3) return IMGF_E_INVALID_ARGUMENT;
  printf("journal ");
  print(events[e->event], e->kind, e->token);
  return IMGF_OK;
}

static int32_t not_found(imgf_str *out) {
  out->ptr = NULL;
  out->len = 0;
  return IMGF_E_NOT_FOUND;
}

static int32_t host_config_get(void *ctx, imgf_str key, imgf_str *out_json) {
  (void)ctx, (void)key;
  return not_found(out_json);
}

static int32_t host_path_get(void *ctx, uint32_t which, imgf_str *out) {
  (void)ctx;
  if (which == IMGF_PATH_OUTPUT_IMAGE) {
    *out = text(output);
  } else if (which == IMGF_PATH_WORK_DIR || which == IMGF_PATH_STATE_DIR) {
    *out = text(folder);
  } else {
    return not_found(out);
  }
  return IMGF_OK;
}

static int32_t host_image_get(void *ctx, imgf_str image_id, imgf_str *out_json) {
  (void)ctx, (void)image_id;
  return not_found(out_json);
}

static int32_t host_secret_get(void *ctx, imgf_str name, imgf_str *out) {
  (void)ctx, (void)name;
  return not_found(out);
}

static void host_secret_release(void *ctx, imgf_str name) { (void)ctx, (void)name; }

static int32_t host_add_content(void *ctx, imgf_str content_json) {
  (void)ctx, (void)content_json;
  return IMGF_E_INVALID_STATE;
}

static int32_t host_last_error(void *ctx, imgf_str *out) {
  (void)ctx;
  return not_found(out);
}

static int32_t host_checkpoint_put(void *ctx, imgf_str key, imgf_str value_json) {
  (void)ctx;
  print("checkpoint", key, value_json);
  return IMGF_OK;
}

static int32_t host_checkpoint_get(void *ctx, imgf_str key, imgf_str *out_json) {
  (void)ctx, (void)key;
  return not_found(out_json);
}

static const imgf_host_checkpoint_v1 checkpoints = {
    sizeof(imgf_host_checkpoint_v1), 0, host_checkpoint_put, host_checkpoint_get};

static const void *host_get_interface(void *ctx, imgf_str id) {
  const imgf_str known = text(IMGF_HOST_CHECKPOINT_V1);
  (void)ctx;
  if (id.len != known.len || memcmp(id.ptr, known.ptr, known.len) != 0) return NULL;
  return &checkpoints;
}

static const imgf_host table = {
    sizeof(imgf_host),  IMGF_ABI_1_0,      NULL,
    host_log,           host_progress,     host_is_cancelled,
    host_cancel_fd,     host_report_error, host_set_result,
    host_journal,       host_config_get,   host_path_get,
    host_image_get,     host_secret_get,   host_secret_release,
    host_add_content,   host_last_error,   host_get_interface,
};

/* ---- one stage --------------------------------------------------------------------------- */

static int refuse(const char *why, imgf_str more) {
  fprintf(stderr, "host: %s: %.*s\n", why, (int)more.len, more.ptr ? more.ptr : "");
  return 1;
}

static const imgf_plugin *load(const char *path) {
  int32_t (*negotiate)(imgf_negotiate *);
  imgf_negotiate n;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return refuse("dlopen", text(dlerror())), NULL;
  *(void **)&negotiate = dlsym(library, IMGF_ENTRY_SYMBOL);
  if (negotiate == NULL) return refuse("dlsym", text(dlerror())), NULL;
  memset(&n, 0, sizeof n);
  n.struct_size = sizeof n;
  n.host_abi_min = n.host_abi_max = IMGF_ABI_1_0;
  if (negotiate(&n) != IMGF_OK) return refuse("negotiate", n.refusal), NULL;
  if (n.chosen_abi != IMGF_ABI_1_0) return refuse("negotiate", text("another ABI")), NULL;
  return n.plugin;
}

static int32_t run(const imgf_plugin *plugin, imgf_instance *instance, const imgf_stage *stage) {
  if (plugin->kind == IMGF_KIND_OS) {
    const imgf_os_v1 *os = (const imgf_os_v1 *)plugin->get_interface(text(IMGF_IFACE_OS_V1));
    return os ? os->create_base_image(instance, stage) : IMGF_E_UNSUPPORTED;
  } else {
    const imgf_cloud_v1 *cloud =
        (const imgf_cloud_v1 *)plugin->get_interface(text(IMGF_IFACE_CLOUD_V1));
    return cloud ? cloud->push_image_to_provider(instance, stage) : IMGF_E_UNSUPPORTED;
  }
}

int main(int argc, char **argv) {
  const imgf_plugin *plugin;
  imgf_instance *instance = NULL;
  imgf_stage stage;
  char provider[4096];
  int32_t status;
  if (argc != 4) return refuse("usage", text("host PLUGIN FOLDER TOKEN"));
  snprintf(folder, sizeof folder, "%s", argv[2]);
  snprintf(output, sizeof output, "%s/output", folder);
  snprintf(provider, sizeof provider, "{\"ledger\": \"%s\"}", folder);
  plugin = load(argv[1]);
  if (plugin == NULL) return 1;
  memset(&stage, 0, sizeof stage);
  stage.struct_size = sizeof stage;
  stage.attempt = 1;
  stage.stage_id = text(argv[3]);
  stage.image_id = text("1f0c3a5e-0000-4000-8000-0000000000ff");
  stage.template_xml = text("<template><name>new</name></template>");
  stage.parameters_json = stage.images_json = stage.resources_json = text("{}");
  if (plugin->kind == IMGF_KIND_CLOUD) {
    stage.target = text("mock");
    stage.provider = text(provider);
  }
  status = plugin->create(&table, &instance);
  if (status != IMGF_OK) return refuse("create", plugin->id);
  print("plugin", plugin->id, plugin->version);
  status = run(plugin, instance, &stage);
  plugin->destroy(instance);
  printf("status %d\n", (int)status);
  return status == IMGF_OK ? 0 : 1;
}

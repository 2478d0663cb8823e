/* What loading and calling a plugin costs inside one process: in_process PLUGIN load | call.
 *
 * load: dlopen + negotiate + get_interface once, in nanoseconds; the caller starts a process for
 * each
 * measurement, because a second dlopen finds everything mapped. call: one operation through the ABI
 * table beside the same function called directly, in picoseconds. Links no plugin; the daemon's own
 * code never does this. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <imagefactory/plugin.h>

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const imgf_plugin *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return NULL;
  int32_t (*negotiate)(imgf_negotiate *);
  *(void **)&negotiate = dlsym(library, IMGF_ENTRY_SYMBOL);
  if (negotiate == NULL) return NULL;
  imgf_negotiate n = {.struct_size = sizeof n,
                      .host_abi_min = IMGF_ABI_1_0,
                      .host_abi_max = IMGF_ABI_1_0};
  return negotiate(&n) == IMGF_OK ? n.plugin : NULL;
}

__attribute__((noinline)) static int32_t direct(imgf_instance *self, const imgf_stage *st) {
  __asm__ volatile("" : : "r"(self), "r"(st) : "memory");
  return IMGF_OK;
}

enum { ROUNDS = 20000000 };

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const uint64_t begun = now_ns();
  const imgf_plugin *plugin = load(argv[1]);
  if (plugin == NULL) return 1;
  const imgf_str id = {IMGF_IFACE_CLOUD_V1, sizeof(IMGF_IFACE_CLOUD_V1) - 1};
  const imgf_cloud_v1 *cloud = plugin->get_interface(id);
  const uint64_t loaded = now_ns();
  if (cloud == NULL) return 1;
  if (strcmp(argv[2], "load") == 0) {
    printf("%" PRIu64 "\n", loaded - begun);
    return 0;
  }
  imgf_instance *instance = NULL;
  imgf_stage stage = {.struct_size = sizeof stage};
  if (plugin->create(NULL, &instance) != IMGF_OK) return 1;
  int32_t sum = 0;
  const uint64_t a = now_ns();
  for (int i = 0; i < ROUNDS; i++) sum += direct(instance, &stage);
  const uint64_t b = now_ns();
  for (int i = 0; i < ROUNDS; i++) sum += cloud->builder_will_create_target_image(instance, &stage);
  const uint64_t c = now_ns();
  printf("%" PRIu64 " %" PRIu64 "\n", (b - a) * 1000 / ROUNDS, (c - b) * 1000 / ROUNDS);
  return sum;
}

/* A plugin that breaks one duty of negotiating, chosen by ENTRY. */
#include "plugin.h"
#define OWN_ENTRY

enum {
  ABI_REFUSED = 1,
  INTERNAL,
  WRONG_ABI,
  NO_PLUGIN,
  SHORT_PLUGIN,
  NO_CREATE,
  NO_TABLE,
  SHORT_TABLE,
  EMPTY_TABLE,
  MISALIGNED
};

static int32_t build(imgf_instance* self, const imgf_stage* st) {
  (void)self;
  (void)st;
  return IMGF_OK;
}
static const imgf_os_v1 os = {
    ENTRY == SHORT_TABLE ? 8 : sizeof os, 0, ENTRY == EMPTY_TABLE ? NULL : build, NULL, NULL, NULL};
#define OS_TABLE os
#include "plugin_end.h"

static const void* no_interface(imgf_str id) {
  (void)id;
  return NULL;
}
static char room[sizeof(imgf_plugin) + 16];

IMGF_EXPORT int32_t imagefactory_plugin_negotiate(imgf_negotiate* n) {
  static imgf_plugin p;
  p = the_plugin;
  n->chosen_abi = ENTRY == WRONG_ABI ? IMGF_ABI(2, 0) : IMGF_ABI_1_0;
  if (ENTRY == ABI_REFUSED) {
    n->refusal = TEXT("I speak 7.0 to 7.2");
    return IMGF_E_ABI;
  }
  if (ENTRY == INTERNAL) return IMGF_E_INTERNAL;
  if (ENTRY == SHORT_PLUGIN) p.struct_size = 16;
  if (ENTRY == NO_CREATE) p.create = NULL;
  if (ENTRY == NO_TABLE) p.get_interface = no_interface;
  n->plugin = ENTRY == NO_PLUGIN ? NULL : &p;
  if (ENTRY == MISALIGNED) n->plugin = (const imgf_plugin*)(room + 1);
  return IMGF_OK;
}

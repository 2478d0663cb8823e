/* The descriptor and the entry of a test plugin. */
#ifndef CREATE
static struct imgf_instance the_instance;
static int32_t create(const imgf_host* h, imgf_instance** out) {
  host = h;
  *out = &the_instance;
  return IMGF_OK;
}
#else
static int32_t create(const imgf_host* h, imgf_instance** out) {
  host = h;
  return CREATE(out);
}
#endif
#ifndef DESTROY
static void destroy(imgf_instance* self) { (void)self; }
#else
static void destroy(imgf_instance* self) {
  (void)self;
  DESTROY();
}
#endif

static const void* get_interface(imgf_str id) {
#ifdef OS_TABLE
  if (is(id, IMGF_IFACE_OS_V1)) return &OS_TABLE;
#endif
#ifdef CLOUD_TABLE
  if (is(id, IMGF_IFACE_CLOUD_V1)) return &CLOUD_TABLE;
#endif
#ifdef CLEANUP_TABLE
  if (is(id, IMGF_IFACE_CLEANUP_V1)) return &CLEANUP_TABLE;
#endif
  (void)id;
  return NULL;
}

#ifdef CLOUD_TABLE
#define KIND IMGF_KIND_CLOUD
#else
#define KIND IMGF_KIND_OS
#endif

static const imgf_plugin the_plugin = {sizeof(imgf_plugin),
                                       IMGF_ABI_1_0,
                                       {ID, sizeof(ID) - 1},
                                       {VERSION, sizeof(VERSION) - 1},
                                       KIND,
                                       0,
                                       create,
                                       destroy,
                                       get_interface};

#ifndef OWN_ENTRY
IMGF_EXPORT int32_t imagefactory_plugin_negotiate(imgf_negotiate* n) {
  if (n == NULL || n->struct_size < sizeof *n) return IMGF_E_INVALID_ARGUMENT;
  n->chosen_abi = IMGF_ABI_1_0;
  n->plugin = &the_plugin;
  return IMGF_OK;
}
#endif

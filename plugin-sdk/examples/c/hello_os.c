/* HelloOS: a complete OS plugin in one file, to copy and to change.
 *
 * It "builds" an image that holds one line of text. Everything that a plugin needs is here once:
 * negotiate, create and destroy, one operation with progress, cancel, an error and a result. What
 * each part must do stands in <imagefactory/plugin.h> and the headers that it includes.
 *
 * To make it yours: change PLUGIN_ID and PLUGIN_VERSION here and in the manifest (HelloOS.json),
 * name the targets that you serve there, and do your work in write_image. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <imagefactory/plugin.h>

#define PLUGIN_ID "HelloOS"
#define PLUGIN_VERSION "0.1.0"

/* The state of one instance. The host never looks inside. */
struct imgf_instance {
  const imgf_host *host;
};

/* ---- small conveniences ------------------------------------------------------------------ */

static imgf_str text(const char *c_string) {
  imgf_str s;
  s.ptr = c_string;
  s.len = strlen(c_string);
  return s;
}

/* Reports an error to the host and answers its code: return fail(host, IMGF_E_IO, errno, "..."); */
static int32_t fail(const imgf_host *host, int32_t code, int os_errno, const char *message) {
  imgf_error e;
  memset(&e, 0, sizeof e);
  e.struct_size = (uint32_t)sizeof e;
  e.code = code;
  e.os_errno = os_errno;
  e.message = text(message);
  host->report_error(host->ctx, &e);
  return code;
}

static int32_t tell_progress(const imgf_host *host, const char *message, uint64_t done,
                             uint64_t total) {
  imgf_progress p;
  memset(&p, 0, sizeof p);
  p.struct_size = (uint32_t)sizeof p;
  p.done = done;
  p.total = total;
  p.phase = text("write");
  p.message = text(message);
  return host->progress(host->ctx, &p);
}

/* ---- the operation ----------------------------------------------------------------------- */

/* Writes the image in so many pieces, and asks before each whether it is still wanted. */
static int32_t write_image(const imgf_host *host, int fd) {
  static const char line[] = "Hello from a plugin\n";
  uint64_t piece, pieces = 4;
  for (piece = 0; piece < pieces; piece++) {
    if (host->is_cancelled(host->ctx)) return IMGF_E_CANCELLED;
    if (write(fd, line, sizeof line - 1) != (ssize_t)(sizeof line - 1))
      return fail(host, IMGF_E_IO, errno, "cannot write the image");
    tell_progress(host, "writing the image", piece + 1, pieces);
  }
  return IMGF_OK;
}

static int32_t create_base_image(imgf_instance *self, const imgf_stage *st) {
  const imgf_host *host = self->host;
  imgf_str path;
  int32_t status;
  int fd;
  host->log(host->ctx, IMGF_LOG_INFO, text("this is HelloOS"), text("{\"example\":true}"));
  if (st->template_xml.ptr == NULL)
    return fail(host, IMGF_E_INVALID_ARGUMENT, 0, "there is no template");
  if (host->path_get(host->ctx, IMGF_PATH_OUTPUT_IMAGE, &path) != IMGF_OK)
    return fail(host, IMGF_E_INTERNAL, 0, "the host names no output image");
  fd = open(path.ptr, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return fail(host, IMGF_E_IO, errno, "cannot create the image");
  status = write_image(host, fd);
  if (close(fd) != 0 && status == IMGF_OK)
    status = fail(host, IMGF_E_IO, errno, "cannot finish the image");
  if (status == IMGF_OK && host->set_result(host->ctx, text("format"), text("\"raw\"")) != IMGF_OK)
    status = fail(host, IMGF_E_INTERNAL, 0, "the host refused the format");
  return status;
}

/* A NULL slot is an operation that this plugin does not have. */
static const imgf_os_v1 OS_TABLE = {
    (uint32_t)sizeof(imgf_os_v1), 0,
    create_base_image, /* create_base_image */
    NULL,              /* create_target_image */
    NULL,              /* add_cloud_plugin_content */
    NULL,              /* abort: is_cancelled is enough */
};

/* ---- the plugin -------------------------------------------------------------------------- */

static int32_t create(const imgf_host *host, imgf_instance **out) {
  imgf_instance *self;
  if (host == NULL || host->struct_size < sizeof *host || out == NULL)
    return IMGF_E_INVALID_ARGUMENT;
  if (!host->log || !host->progress || !host->is_cancelled || !host->report_error ||
      !host->path_get || !host->set_result)
    return IMGF_E_INVALID_ARGUMENT;
  self = (imgf_instance *)calloc(1, sizeof *self);
  if (self == NULL) return IMGF_E_QUOTA;
  self->host = host;
  *out = self;
  return IMGF_OK;
}

static void destroy(imgf_instance *self) { free(self); }

/* The id needs no NUL behind it: compare length and bytes. */
static const void *get_interface(imgf_str id) {
  static const char os[] = IMGF_IFACE_OS_V1;
  if (id.ptr == NULL || id.len != sizeof os - 1) return NULL;
  return memcmp(id.ptr, os, id.len) == 0 ? &OS_TABLE : NULL;
}

static const imgf_plugin PLUGIN = {(uint32_t)sizeof(imgf_plugin),
                                   IMGF_ABI_1_0,
                                   {PLUGIN_ID, sizeof PLUGIN_ID - 1},
                                   {PLUGIN_VERSION, sizeof PLUGIN_VERSION - 1},
                                   IMGF_KIND_OS,
                                   0,
                                   create,
                                   destroy,
                                   get_interface};

IMGF_EXPORT int32_t imagefactory_plugin_negotiate(imgf_negotiate *n) {
  if (n == NULL || n->struct_size < IMGF_NEGOTIATE_SIZE_1_0) return IMGF_E_INVALID_ARGUMENT;
  if (n->host_abi_min > IMGF_ABI_1_0 || n->host_abi_max < IMGF_ABI_1_0) {
    n->refusal = text(PLUGIN_ID " speaks plugin ABI 1.0 only");
    return IMGF_E_ABI;
  }
  n->chosen_abi = IMGF_ABI_1_0;
  n->plugin = &PLUGIN;
  return IMGF_OK;
}

/* What the test plugins share: texts, a descriptor, an entry. Each plugin defines OS_TABLE or
 * CLOUD_TABLE before it includes the second part (plugin_end.h). */
#include <errno.h>
#include <imagefactory/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef ID
#define ID "TestPlugin"
#endif
#ifndef VERSION
#define VERSION "1.2.3"
#endif

static const imgf_host* host;

#define TEXT(literal) ((imgf_str){(literal), sizeof(literal) - 1})

static inline imgf_str text(const char* s) {
  imgf_str t = {s, strlen(s)};
  return t;
}

static inline void say(const char* line) {
  host->log(host->ctx, IMGF_LOG_INFO, text(line), TEXT(""));
}

/* Reports an error in words and returns its code. */
static inline int32_t fail(int32_t code, const char* message) {
  imgf_error e;
  memset(&e, 0, sizeof e);
  e.struct_size = sizeof e;
  e.code = code;
  e.os_errno = errno;
  e.message = text(message);
  host->report_error(host->ctx, &e);
  return code;
}

static inline int is(imgf_str t, const char* s) {
  return t.len == strlen(s) && memcmp(t.ptr, s, t.len) == 0;
}

static inline const char* path(uint32_t which) {
  imgf_str p;
  return host->path_get(host->ctx, which, &p) == IMGF_OK ? p.ptr : NULL;
}

struct imgf_instance {
  int nothing;
};

/* Text across the boundary: a borrowed pointer and a length.
 *
 * imgf_str is the only struct that is passed by value (16 bytes, two registers on the ABIs we run
 * on). It owns nothing and is never freed by the receiver.
 *
 *   absent        { NULL, 0 }       the value was not given
 *   empty         { non-NULL, 0 }   the value was given and is ""
 *   present       { non-NULL, n }   n bytes of UTF-8
 *
 * How long the bytes live: during the call that carries them, unless the function that hands them
 * out says otherwise.
 *
 * From the host: valid UTF-8, no NUL among the len bytes, one NUL right after them, so that C may
 * treat a present string as its own kind. The one exception is the id given to
 * imgf_plugin.get_interface, which may lack the NUL.
 *
 * From a plugin: no NUL is needed. What is for people (log lines, messages, hints) is mended if it
 * is not UTF-8 and cut if it is too long; what is data (keys, names, JSON) is refused instead, with
 * IMGF_E_INVALID_ARGUMENT. A host takes at least 4 KiB of a name or key, 64 KiB of a line, 1 MiB of
 * JSON. */
#ifndef IMAGEFACTORY_TEXT_H
#define IMAGEFACTORY_TEXT_H

#include <stddef.h>

typedef struct imgf_str {
  const char *ptr; /* not NUL-terminated as a rule; see above */
  size_t len;      /* bytes */
} imgf_str;

#endif

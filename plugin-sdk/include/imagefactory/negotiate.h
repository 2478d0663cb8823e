/* The one symbol that a plugin exports. Its name and its type are frozen for ever; everything else
 * is negotiated.
 *
 * Host and plugin each know a range of ABI versions. The plugin answers with the highest that both
 * know, or refuses with a sentence that the host shows. Because the symbol carries no version, an
 * old host and a new plugin always understand each other well enough to say why they do not fit. */
#ifndef IMAGEFACTORY_NEGOTIATE_H
#define IMAGEFACTORY_NEGOTIATE_H

#include <stdint.h>

#include <imagefactory/descriptor.h>
#include <imagefactory/status.h>
#include <imagefactory/text.h>
#include <imagefactory/version.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#  define IMGF_EXPORT __attribute__((visibility("default")))
#else
#  define IMGF_EXPORT
#endif

/* Growable. The host owns the struct and zeroes the fields marked out. */
typedef struct imgf_negotiate {
  uint32_t struct_size;      /* in: may exceed what you know; the bytes behind stay untouched */
  uint32_t host_abi_min;     /* in: the oldest IMGF_ABI that the host speaks */
  uint32_t host_abi_max;     /* in: the newest */
  uint32_t flags;            /* in: IMGF_NEGOTIATE_*; unknown ones are ignored */
  uint32_t chosen_abi;       /* out: on IMGF_OK, between min and max */
  uint32_t reserved0;        /* 0 */
  const imgf_plugin *plugin; /* out: on IMGF_OK; static */
  imgf_str refusal;          /* out: on IMGF_E_ABI, one sentence with both ranges; static */
} imgf_negotiate;

/* sizeof(imgf_negotiate) in ABI 1.0, and the least that a host sends. A plugin compares struct_size
 * with this and not with sizeof: compiled against a later header, whose struct has grown, it must
 * still accept a host of 1.0. Fields behind it are read only if struct_size covers them. */
#define IMGF_NEGOTIATE_SIZE_1_0 48u

/* The host only wants to know what this is; it will not call create. */
#define IMGF_NEGOTIATE_DESCRIBE_ONLY 1u

#define IMGF_ENTRY_SYMBOL "imagefactory_plugin_negotiate"

/* Settles on an ABI version and describes the plugin. n: borrowed until return. Pure: no thread,
 * file, environment or network is touched; the same question always gets the same answer. Never
 * blocks, returns within milliseconds. [any-thread], as often as the host likes.
 *   IMGF_OK                   chosen_abi and plugin are set
 *   IMGF_E_ABI                no common version; refusal is set
 *   IMGF_E_INVALID_ARGUMENT   n is NULL or its struct_size below IMGF_NEGOTIATE_SIZE_1_0;
 *                             nothing was written */
IMGF_EXPORT int32_t imagefactory_plugin_negotiate(imgf_negotiate *n);

#ifdef __cplusplus
}
#endif

#endif

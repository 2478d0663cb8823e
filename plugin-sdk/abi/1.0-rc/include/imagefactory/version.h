/* Which revision of the plugin ABI this is.
 *
 * One number, two halves: the major half changes when something is taken away, the minor half when
 * something is added (a table under a new id, a field at the end of a growable struct, a status).
 * It is independent of the version of Image Factory and of the version of any SDK. Both sides offer
 * what they speak in negotiate.h and settle on one number.
 *
 * Read plugin.h first: it holds the rules that every header here takes for granted. */
#ifndef IMAGEFACTORY_VERSION_H
#define IMAGEFACTORY_VERSION_H

#include <stdint.h>

/* major and minor: 0 to 65535. The result compares like the version does. */
#define IMGF_ABI(major, minor) (((uint32_t)(major) << 16) | (uint32_t)(minor))

/* The first release. Its text is a release candidate until real plugins have been built on it. */
#define IMGF_ABI_1_0 IMGF_ABI(1, 0)

#endif

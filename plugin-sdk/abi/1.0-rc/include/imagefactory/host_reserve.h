/* Further host table: things of which the whole factory has only one of each: names to lock, ports
 * to listen on.
 *
 * Get it with imgf_host.get_interface(IMGF_HOST_RESERVE_V1). Whatever a stage holds is given back
 * by the host when the stage's process ends, however it ends. */
#ifndef IMAGEFACTORY_HOST_RESERVE_H
#define IMAGEFACTORY_HOST_RESERVE_H

#include <stdint.h>

#include <imagefactory/text.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMGF_HOST_RESERVE_V1 "imagefactory.host.reserve/1"

/* [any-thread] all functions; ctx is imgf_host.ctx; statuses as host.h says for all. */
typedef struct imgf_host_reserve_v1 {
  uint32_t struct_size;
  uint32_t reserved0;

  /* Waits at most timeout_ms (0 = do not wait) until no other stage holds name, then holds it.
   * Names are chosen by plugins and shared by all of them; begin yours with the plugin's id unless
   * it is meant to be shared. Take several in alphabetical order, or two stages may wait for each
   * other.
   * IMGF_E_TIMEOUT: somebody else holds it. IMGF_E_INVALID_STATE: this stage holds it.
   * IMGF_E_CANCELLED: asked to end while waiting. */
  int32_t (*lock)(void *ctx, imgf_str name, uint64_t timeout_ms);

  /* Gives name back before the stage ends. Blocks for one question to the host.
   * IMGF_E_NOT_FOUND: this stage does not hold it. */
  int32_t (*unlock)(void *ctx, imgf_str name);

  /* A TCP port of this machine that no other stage was given. The port is reserved among stages,
   * not bound: another program may have taken it, so on EADDRINUSE ask for the next. Blocks for one
   * question to the host.
   * IMGF_E_QUOTA: all ports of the host's range are given away. */
  int32_t (*next_listen_port)(void *ctx, uint32_t *out_port);
} imgf_host_reserve_v1;

#ifdef __cplusplus
}
#endif

#endif

/* The plugin's own state, opaque to the host.
 *
 * Made by imgf_plugin.create, first argument of every operation, ended by imgf_plugin.destroy. The
 * plugin defines the struct as it likes; the host only carries the pointer. Several instances may
 * live in one process, and several operations may be called on one, one at a time. */
#ifndef IMAGEFACTORY_INSTANCE_H
#define IMAGEFACTORY_INSTANCE_H

typedef struct imgf_instance imgf_instance;

#endif

/* What a function of this ABI returns: an int32_t, 0 for success.
 *
 * The same list serves both directions: operations return it to the host, host services return it
 * to the plugin. Each status has one usual culprit, named below, and the host tells its users
 * accordingly.
 *
 *   0            success
 *   1 .. 999     the statuses of this file; a host takes one it does not know for IMGF_E_INTERNAL
 *   1000 ..      the plugin's own ("vendor") statuses, explained in the error record
 *   below 0      reserved for the host's own use; a plugin never returns one
 *
 * A number, once given, is never given a second meaning. What a plugin must do besides returning
 * one: error.h. */
#ifndef IMAGEFACTORY_STATUS_H
#define IMAGEFACTORY_STATUS_H

/* Done, and everything that the operation promises is there. */
#define IMGF_OK 0

/* A defect of the side that returns it. */
#define IMGF_E_INTERNAL 1

/* This optional operation is not implemented; nothing was done. Nobody's fault. A NULL slot says
 * the same. */
#define IMGF_E_UNSUPPORTED 2

/* A value that was handed over is wrong. From a plugin: the request's fault (set
 * IMGF_ERR_USER_FAULT) when the value came from the client, the host's when the structs are
 * malformed. From a host service: the plugin's fault. */
#define IMGF_E_INVALID_ARGUMENT 3

/* The call came at the wrong time, for instance on an instance that failed before. The caller's
 * fault. */
#define IMGF_E_INVALID_STATE 4

/* The thing that was named does not exist: an image, a secret, a region. The request's fault as a
 * rule. */
#define IMGF_E_NOT_FOUND 5

/* The thing to be made exists and is not ours to take over. The request's fault as a rule. */
#define IMGF_E_ALREADY_EXISTS 6

/* Not allowed: a file, a device, a right that the provider's account lacks, a name that was not
 * granted to this stage. The operator's fault as a rule. */
#define IMGF_E_PERMISSION 7

/* The credentials were refused, or there are none. The request's fault. */
#define IMGF_E_AUTH 8

/* Reading, writing or transferring failed. The machine's or the network's fault; os_errno tells
 * more. */
#define IMGF_E_IO 9

/* Something outside did not answer in time. Often worth another attempt. */
#define IMGF_E_TIMEOUT 10

/* The stage ended early because the host asked for it. Nobody's fault, and no failure. */
#define IMGF_E_CANCELLED 11

/* A limit was reached: disk, memory, the account's quota. The operator's or the account's fault. */
#define IMGF_E_QUOTA 12

/* The outside is there but busy or broken at the moment (429, 503). Set IMGF_ERR_RETRYABLE. */
#define IMGF_E_UNAVAILABLE 13

/* No ABI version that both sides speak. Only from imagefactory_plugin_negotiate. */
#define IMGF_E_ABI 14

/* A panic or an exception was caught at the boundary; the instance can only be destroyed. The
 * plugin's fault. */
#define IMGF_E_PANIC 15

#endif

/* The record of what went wrong, beside the bare status.
 *
 * An operation that returns anything but IMGF_OK calls imgf_host.report_error exactly once before
 * it returns, with the same code. An operation that returns IMGF_OK does not call it. A host that
 * gets a status without a record still fails the stage, but its user reads only a number.
 * IMGF_E_UNSUPPORTED and IMGF_E_CANCELLED need no record.
 *
 * The struct and its strings belong to the caller; the host has copied them when report_error
 * returns. */
#ifndef IMAGEFACTORY_ERROR_H
#define IMAGEFACTORY_ERROR_H

#include <stdint.h>

#include <imagefactory/text.h>

/* Growable. Zero it, set struct_size to sizeof(imgf_error), fill in what is known. */
typedef struct imgf_error {
  uint32_t struct_size;
  int32_t code;            /* what the operation is about to return; never IMGF_OK */
  uint32_t flags;          /* IMGF_ERR_* */
  int32_t os_errno;        /* errno of the call that failed; 0 = none */
  uint64_t retry_after_ms; /* with IMGF_ERR_RETRYABLE: not before; 0 = unknown */
  imgf_str message;        /* required: one line for people, with the values in it; no secrets */
  imgf_str hint;           /* what the reader can do about it; absent allowed */
  imgf_str vendor_code;    /* the provider's own code, "InvalidAMIID.NotFound"; absent allowed */
  imgf_str details_json;   /* JSON object for machines; absent allowed; no secrets */
} imgf_error;

/* The same stage may succeed if it is run again; the host tries a small number of times. */
#define IMGF_ERR_RETRYABLE 1u

/* The request is wrong (template, parameters, provider, credentials), not the plugin or the
 * factory. */
#define IMGF_ERR_USER_FAULT 2u

#endif

/* The input of one stage, that is, of one call of one operation.
 *
 * Everything that an operation may know stands here or comes from host services; secrets only from
 * the latter. The host owns the struct and its strings and drops them when the operation returns:
 * copy what must live longer. */
#ifndef IMAGEFACTORY_STAGE_H
#define IMAGEFACTORY_STAGE_H

#include <stdint.h>

#include <imagefactory/instance.h>
#include <imagefactory/text.h>

/* Growable: read a field that a later minor version added only if struct_size reaches behind it. */
typedef struct imgf_stage {
  uint32_t struct_size;
  uint32_t flags;            /* 0: none are defined */
  uint64_t deadline_unix_ms; /* the host ends the stage then; milliseconds since 1970, 0 = none */
  uint32_t attempt;          /* 1 the first time, one more each time the stage is run again */
  uint32_t reserved0;        /* 0 */

  /* UUID of the stage, the same in every attempt: use it as idempotency token at the provider. */
  imgf_str stage_id;

  /* UUID of the image that this stage fills or deletes. */
  imgf_str image_id;

  /* "ec2"; absent for a base image. */
  imgf_str target;

  /* The provider's definition, as the client or the configuration gives it; absent elsewhere. */
  imgf_str provider;

  /* TDL as the client sent it; absent where the order has none. */
  imgf_str template_xml;

  /* The same parsed by the host, for authors without an XML parser. */
  imgf_str template_json;

  /* JSON object. The names that the manifest declares were checked against its schema. */
  imgf_str parameters_json;

  /* JSON object with those of the keys "self", "base", "target", "provider", "jeos" that exist,
   * each {"id", "kind", "target", "format", "size", "sha256", "path", "icicle", "parameters",
   * "properties", "identifier_on_provider", "provider_account_identifier"}. */
  imgf_str images_json;

  /* JSON object, what the stage was granted: "cpus", "memory_bytes", "work_bytes",
   * "bandwidth_bytes_per_s". A missing key = not limited. */
  imgf_str resources_json;

  /* For imgf_host.secret_get; absent = this stage has no credentials. */
  imgf_str credential_name;
} imgf_stage;

#endif

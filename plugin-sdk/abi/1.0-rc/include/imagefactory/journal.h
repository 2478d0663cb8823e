/* What exists outside the stage's process because of the stage: a virtual machine, a mount, a
 * snapshot, an upload.
 *
 * A process can die between any two instructions. So the order is fixed: announce with WILL_CREATE,
 * create, confirm with CREATED; remove, then confirm with REMOVED. imgf_host.journal makes each
 * entry durable before it returns, hence nothing can exist that the host does not know of. After a
 * crash the host hands the entries that are still open to the plugin's imagefactory.cleanup/1 in a
 * fresh process, or runs the stage again, which takes them over.
 *
 * All entries of one resource carry the same token. The plugin chooses it before it creates, makes
 * it unique within the factory (the stage_id plus a name of its own does) and puts it on the
 * resource itself (tag, name, client token): only so can the resource be found again when its id
 * never reached the journal.
 *
 *    WILL_CREATE --> CREATED --> REMOVED   the usual life
 *    WILL_CREATE --> REMOVED               creating failed, or cleanup found nothing
 *
 * Repeating an event of a token is allowed and changes nothing but the resource_id and details. */
#ifndef IMAGEFACTORY_JOURNAL_H
#define IMAGEFACTORY_JOURNAL_H

#include <stdint.h>

#include <imagefactory/text.h>

/* Growable. The struct and its strings belong to the caller; the host has copied them when journal
 * returns. */
typedef struct imgf_journal_entry {
  uint32_t struct_size;
  uint32_t event;        /* IMGF_JOURNAL_WILL_CREATE, _CREATED or _REMOVED */
  uint32_t flags;        /* IMGF_JOURNAL_SCRATCH or 0, the same in all entries of a token */
  uint32_t reserved0;    /* 0 */
  imgf_str token;        /* required */
  imgf_str kind;         /* required: "libvirt-domain", "ebs-snapshot", ... */
  imgf_str resource_id;  /* as the outside names it; absent in WILL_CREATE while not known */
  imgf_str details_json; /* JSON object, what cleanup needs (region); absent allowed; no secrets */
} imgf_journal_entry;

#define IMGF_JOURNAL_WILL_CREATE 1u
#define IMGF_JOURNAL_CREATED 2u
#define IMGF_JOURNAL_REMOVED 3u

/* A helper (VM, mount, loop device): removed by cleanup before the stage is run again. Without this
 * flag the resource is part of the product: the next attempt takes it over, and it is removed only
 * when the order has failed for good, was cancelled or is deleted. */
#define IMGF_JOURNAL_SCRATCH 1u

#endif

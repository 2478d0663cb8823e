/* How far an operation is.
 *
 * Reported with imgf_host.progress. The message becomes the image's activity, done and total its
 * percentage; nothing is stored for longer. Say something at least once a minute while work goes
 * on, and rather not more than ten times a second: a host may drop what comes faster. */
#ifndef IMAGEFACTORY_PROGRESS_H
#define IMAGEFACTORY_PROGRESS_H

#include <stdint.h>

#include <imagefactory/text.h>

/* Growable. The struct and its strings belong to the caller; the host has copied them when progress
 * returns. */
typedef struct imgf_progress {
  uint32_t struct_size;
  uint32_t flags;   /* 0: none are defined */
  uint64_t done;    /* units done in this phase; never falls, never above a known total */
  uint64_t total;   /* units of this phase; 0 = unknown */
  imgf_str phase;   /* required: stable id of a-z, 0-9 and '-': "install", "upload" */
  imgf_str message; /* one line for people; absent = as before */
} imgf_progress;

#endif

/* Severities of imgf_host.log. A line is for people: one fact, no line end, no secrets. */
#ifndef IMAGEFACTORY_LOG_H
#define IMAGEFACTORY_LOG_H

#define IMGF_LOG_ERROR 1u /* the operation will fail because of this */
#define IMGF_LOG_WARN 2u  /* odd, but it goes on */
#define IMGF_LOG_INFO 3u  /* one line per thing that a reader of the build log wants to see */
#define IMGF_LOG_DEBUG 4u /* for the plugin's developers */
#define IMGF_LOG_TRACE 5u /* everything */

#endif

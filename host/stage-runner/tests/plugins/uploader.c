/* A cloud plugin without a did-hook and without snapshots. */
#include "plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static pthread_t stray;
static atomic_int destroyed;

/* Calls the host when it must not any more: a crash here would fail the whole stage. */
static void *call_late(void *nothing) {
  imgf_str out;
  while (!destroyed) usleep(100);
  for (int i = 0; i < 1000; i++) {
    host->secret_get(host->ctx, TEXT("ec2"), &out);
    host->log(host->ctx, IMGF_LOG_INFO, TEXT("late"), TEXT("{}"));
    usleep(10);
  }
  return nothing;
}

static int32_t should(imgf_instance *self, const imgf_stage *st, uint32_t *yes) {
  (void)self;
  if (is(st->provider, "all done")) *yes = 0;
  return IMGF_OK;
}

static int32_t will(imgf_instance *self, const imgf_stage *st) {
  (void)self; (void)st;
  return host->add_cloud_plugin_content(host->ctx, TEXT("{\"packages\":[\"cloud-init\"]}"));
}

static int32_t push(imgf_instance *self, const imgf_stage *st) {
  (void)self;
  if (is(st->provider, "stray thread")) pthread_create(&stray, NULL, call_late, NULL);
  return host->set_result(host->ctx, TEXT("identifier_on_provider"), TEXT("\"ami-1\""));
}

static int32_t undo(imgf_instance *self, const imgf_stage *st, imgf_str journal) {
  (void)self; (void)st;
  say(journal.ptr);
  return IMGF_OK;
}

static void end(void) { destroyed = 1; }
#define DESTROY end

static const imgf_cloud_v1 cloud = { sizeof cloud, 0, should, will, NULL, push, NULL, NULL, NULL };
static const imgf_cleanup_v1 cleanup = { sizeof cleanup, 0, undo };
#define CLOUD_TABLE cloud
#define CLEANUP_TABLE cleanup
#include "plugin_end.h"

/* An OS plugin whose create_base_image does what the template's text says: one word, one deed. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plugin.h"

static int sleeping_abort;
static volatile sig_atomic_t aborted;

static void abort_operation(imgf_instance* self) {
  (void)self;
  aborted++;
  if (sleeping_abort) pause();
}

static int32_t write_image(void) {
  const char* output = path(IMGF_PATH_OUTPUT_IMAGE);
  FILE* f = fopen(output, "w");
  if (!f) return fail(IMGF_E_IO, "cannot open the output image");
  fputs("an image", f);
  fclose(f);
  host->set_result(host->ctx, TEXT("format"), TEXT("\"raw\""));
  return IMGF_OK;
}

static int32_t wait_for_cancel(void) {
  struct pollfd p = {host->cancel_fd(host->ctx), POLLIN, 0};
  say("waiting");
  poll(&p, 1, -1);
  while (!aborted) usleep(1000);
  if (!host->is_cancelled(host->ctx)) return fail(IMGF_E_INTERNAL, "descriptor without flag");
  imgf_progress pr = {sizeof pr, 0, 1, 2, TEXT("install"), TEXT("x")};
  if (host->progress(host->ctx, &pr) != IMGF_E_CANCELLED)
    return fail(IMGF_E_INTERNAL, "progress went on");
  return fail(IMGF_E_CANCELLED, "stopped as asked");
}

/* Leaves children of all kinds behind: their names are found in /proc afterwards. */
static int32_t leave_children(void) {
  if (fork() == 0) {
    prctl(PR_SET_NAME, "imgf-left-plain");
    for (;;) pause();
  }
  if (fork() == 0) {
    setsid();
    prctl(PR_SET_NAME, "imgf-left-setsid");
    if (fork() == 0)
      for (;;) pause();
    _exit(0);
  }
  return write_image();
}

static void* end_thread(void* nothing) { pthread_exit(nothing); }

/* Writes an End frame wherever a descriptor accepts it; the nonce is not known. */
static void forge_end(int first, int last) {
  const char* body = "{\"end\":{\"code\":0,\"should\":null,\"nonce\":\"guess\"}}";
  uint32_t length = (uint32_t)strlen(body);
  for (int fd = first; fd <= last; fd++) {
    if (write(fd, &length, 4) == 4 && write(fd, body, length) < 0) return;
  }
}

static int32_t secrets(void) {
  imgf_str secret, again;
  if (host->secret_get(host->ctx, TEXT("denied"), &secret) != IMGF_E_PERMISSION || secret.ptr)
    return fail(IMGF_E_INTERNAL, "denied secret given");
  if (host->last_error(host->ctx, &again) != IMGF_OK || !is(again, "not granted"))
    return fail(IMGF_E_INTERNAL, "no reason");
  if (host->secret_get(host->ctx, TEXT("ec2"), &secret) != IMGF_OK)
    return fail(IMGF_E_INTERNAL, "no secret");
  if (!is(secret, "hunter2") || secret.ptr[7] != 0) return fail(IMGF_E_INTERNAL, "another secret");
  if (host->last_error(host->ctx, &again) != IMGF_E_NOT_FOUND)
    return fail(IMGF_E_INTERNAL, "stale reason");
  host->secret_release(host->ctx, TEXT("ec2"));
  return IMGF_OK;
}

static int32_t services(void) {
  imgf_str out;
  char bad[] = {'"', (char)0xff, '"'};
  imgf_str bad_utf8 = {bad, 3};
  imgf_journal_entry j = {sizeof j,
                          IMGF_JOURNAL_WILL_CREATE,
                          IMGF_JOURNAL_SCRATCH,
                          0,
                          TEXT("t1"),
                          TEXT("libvirt-domain"),
                          {NULL, 0},
                          TEXT("{\"uri\":1}")};
  const imgf_host_checkpoint_v1* c = host->get_interface(host->ctx, TEXT(IMGF_HOST_CHECKPOINT_V1));
  const imgf_host_artifact_v1* a = host->get_interface(host->ctx, TEXT(IMGF_HOST_ARTIFACT_V1));
  const imgf_host_reserve_v1* r = host->get_interface(host->ctx, TEXT(IMGF_HOST_RESERVE_V1));
  uint32_t port = 0;
#define MUST(what) \
  if (!(what)) return fail(IMGF_E_INTERNAL, #what)
  MUST(c && a && r);
  MUST(!host->get_interface(host->ctx, TEXT("imagefactory.host.checkpoint/10")));
  MUST(host->journal(host->ctx, &j) == IMGF_OK);
  j.details_json = TEXT("[]");
  MUST(host->journal(host->ctx, &j) == IMGF_E_INVALID_ARGUMENT);
  j.struct_size = 3;
  MUST(host->journal(host->ctx, &j) == IMGF_E_INVALID_ARGUMENT);
  MUST(host->journal(host->ctx, NULL) == IMGF_E_INVALID_ARGUMENT);
  MUST(c->put(host->ctx, TEXT("part"), TEXT("7")) == IMGF_OK);
  MUST(c->get(host->ctx, TEXT("part"), &out) == IMGF_OK && is(out, "7"));
  MUST(c->get(host->ctx, TEXT("old"), &out) == IMGF_OK && is(out, "\"kept\""));
  MUST(c->get(host->ctx, TEXT("none"), &out) == IMGF_E_NOT_FOUND && out.ptr == NULL);
  MUST(a->add(host->ctx, TEXT("serial.log"), TEXT("text/plain"), text(path(IMGF_PATH_WORK_DIR))) ==
       IMGF_OK);
  MUST(a->add(host->ctx, TEXT("../serial"), TEXT("text/plain"), TEXT("/x")) ==
       IMGF_E_INVALID_ARGUMENT);
  MUST(r->lock(host->ctx, TEXT("oz"), 10) == IMGF_OK);
  MUST(r->unlock(host->ctx, TEXT("oz")) == IMGF_OK);
  MUST(r->next_listen_port(host->ctx, &port) == IMGF_OK && port == 4711);
  MUST(host->config_get(host->ctx, TEXT("mirror"), &out) == IMGF_OK && is(out, "\"here\""));
  MUST(host->config_get(host->ctx, TEXT("nothing"), &out) == IMGF_E_NOT_FOUND);
  MUST(host->path_get(host->ctx, IMGF_PATH_INPUT_IMAGE, &out) == IMGF_E_NOT_FOUND);
  MUST(host->path_get(host->ctx, 99, &out) == IMGF_E_INVALID_ARGUMENT);
  MUST(host->path_get(host->ctx, IMGF_PATH_WORK_DIR, NULL) == IMGF_E_INVALID_ARGUMENT);
  MUST(host->image_get(host->ctx, TEXT("some-id"), &out) == IMGF_OK &&
       is(out, "{\"id\":\"some-id\"}"));
  MUST(host->set_result(host->ctx, TEXT("identifier_on_provider"), TEXT("\"x\"")) ==
       IMGF_E_INVALID_ARGUMENT);
  MUST(host->set_result(host->ctx, TEXT("format"), TEXT("raw")) == IMGF_E_INVALID_ARGUMENT);
  MUST(host->set_result(host->ctx, TEXT("format"), bad_utf8) == IMGF_E_INVALID_ARGUMENT);
  MUST(host->add_cloud_plugin_content(host->ctx, TEXT("{}")) == IMGF_E_INVALID_STATE);
  host->log(host->ctx, IMGF_LOG_WARN, bad_utf8, (imgf_str){NULL, 0});
  return IMGF_OK;
}

#ifdef MISSING
extern int imgf_test_missing(void);
#endif

static int32_t create_base_image(imgf_instance* self, const imgf_stage* st) {
  imgf_str t = st->template_xml;
  (void)self;
#ifdef MISSING
  imgf_test_missing();
#endif
  if (t.ptr == NULL || is(t, "build")) return write_image();
  if (is(t, "print")) {
    printf("hello from stdout, not flushed");
    fprintf(stderr, "and stderr\n");
    return write_image();
  }
  if (is(t, "fail")) {
    errno = EDQUOT;
    return fail(IMGF_E_QUOTA, "no more instances");
  }
  if (is(t, "fail silently")) return IMGF_E_IO;
  if (is(t, "fail oddly")) return fail(777, "an undefined code");
  if (is(t, "fail as vendor")) return fail(1234, "a vendor's code");
  if (is(t, "fail twice")) {
    fail(IMGF_E_IO, "first");
    return fail(IMGF_E_AUTH, "second");
  }
  if (is(t, "segv")) {
    *(volatile int*)8 = 1;
  }
  if (is(t, "abort")) abort();
  if (is(t, "exit 0")) exit(0);
  if (is(t, "exit 3")) exit(3);
  if (is(t, "kill self")) kill(getpid(), SIGKILL);
  if (is(t, "end thread")) end_thread(NULL);
  if (is(t, "end thread quietly")) syscall(SYS_exit, 0);
  if (is(t, "hang")) {
    say("hanging");
    for (;;) pause();
  }
  if (is(t, "stop")) {
    say("stopping");
    kill(getpid(), SIGSTOP);
    for (;;) pause();
  }
  if (is(t, "cancel")) return wait_for_cancel();
  if (is(t, "block abort")) {
    sleeping_abort = 1;
    say("hanging");
    for (;;) pause();
  }
  if (is(t, "children")) return leave_children();
  if (is(t, "forge on log pipes")) {
    forge_end(0, 2);
    exit(0);
  }
  if (is(t, "forge everywhere")) {
    forge_end(3, 64);
    exit(0);
  }
  if (is(t, "close descriptors")) {
    for (int fd = 3; fd < 64; fd++) close(fd);
    say("lost");
    return write_image();
  }
  if (is(t, "read stdin")) {
    char c;
    return read(0, &c, 1) == 0 ? IMGF_OK : fail(IMGF_E_IO, "stdin has data");
  }
  if (is(t, "secrets")) return secrets();
  if (is(t, "services")) return services();
  return fail(IMGF_E_INVALID_ARGUMENT, "what am I to do?");
}

static void late_call(void) {
#ifdef LATE
  /* Still allowed: destroy has not returned. */
  say("destroying");
#endif
}
#define DESTROY late_call

static const imgf_os_v1 os = {sizeof os, 0, create_base_image, NULL, NULL, abort_operation};
#define OS_TABLE os
#include "plugin_end.h"

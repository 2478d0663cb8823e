/* Tries doors: every line of the template is a deed, and every deed logs how it went. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin.h"

static char answer[512];
static const char* outcome(long result) { return result >= 0 ? "ok" : strerrorname_np(errno); }
static void number(long value) { snprintf(answer, sizeof answer, "%ld", value); }

static long connect_to(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_port = htons((uint16_t)port),
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  long result = fd < 0 ? -1 : connect(fd, (struct sockaddr*)&a, sizeof a);
  int kept = errno;
  if (fd >= 0) close(fd);
  errno = kept;
  return result;
}

static long connect_to_path(const char* path) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  strncpy(a.sun_path, path, sizeof a.sun_path - 1);
  return connect(fd, (struct sockaddr*)&a, sizeof a);
}

static void count_processes(void) {
  DIR* d = opendir("/proc");
  struct dirent* e;
  long n = 0;
  while (d && (e = readdir(d))) n += isdigit((unsigned char)e->d_name[0]) != 0;
  if (d) closedir(d);
  number(n);
}

static void status_line(const char* name) {
  char line[256];
  FILE* f = fopen("/proc/self/status", "r");
  strcpy(answer, "?");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, name, strlen(name))) {
      snprintf(answer, sizeof answer, "%.*s", (int)strcspn(line + strlen(name) + 2, "\n"),
               line + strlen(name) + 2);
    }
  if (f) fclose(f);
}

static void fork_many(int most) {
  int made = 0;
  pid_t children[4096];
  while (made < most && (children[made] = fork()) >= 0) {
    if (children[made] == 0) {
      pause();
      _exit(0);
    }
    made++;
  }
  for (int i = 0; i < made; i++) {
    kill(children[i], SIGKILL);
    waitpid(children[i], NULL, 0);
  }
  number(made);
}

/* unshare in a child, so that the prober itself stays where it is. */
static long in_child(long (*deed)(void)) {
  int status;
  pid_t child = fork();
  if (child == 0) _exit(deed() < 0 ? errno : 0);
  waitpid(child, &status, 0);
  errno = WEXITSTATUS(status);
  return errno ? -1 : 0;
}
static long new_user(void) { return unshare(CLONE_NEWUSER); }
static long new_mounts(void) { return unshare(CLONE_NEWNS); }
static long cloned(void) {
  long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  return pid;
}
static long chrooted(void) { return chroot("/usr"); }

/* In a child: a system call that kills instead of failing is then a fact, too. */
static void tool(const char* line) {
  int status = system(line);
  if (WIFSIGNALED(status))
    snprintf(answer, sizeof answer, "signal %d", WTERMSIG(status));
  else
    snprintf(answer, sizeof answer, "exit %d", WEXITSTATUS(status));
}

static void act(const char* deed, const char* a) {
  strcpy(answer, "unknown deed");
#define DEED(name) else if (!strcmp(deed, name))
#define TRY(what)                                       \
  do {                                                  \
    errno = 0;                                          \
    long r_ = (what);                                   \
    snprintf(answer, sizeof answer, "%s", outcome(r_)); \
  } while (0)
  if (!strcmp(deed, "read")) TRY(open(a, O_RDONLY | O_CLOEXEC));
  DEED("write") TRY(open(a, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  DEED("open") TRY(open(a, O_RDWR | O_CLOEXEC));
  DEED("list") TRY(open(a, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DEED("mkdir") TRY(mkdir(a, 0755));
  DEED("mount") {
    mkdir(a, 0755);
    TRY(mount("none", a, "tmpfs", 0, NULL));
  }
  DEED("umount") TRY(umount2(a, MNT_DETACH));
  DEED("chown") TRY(chown(a, 1000, 1000));
  DEED("chroot") TRY(in_child(chrooted));
  DEED("new-user") TRY(in_child(new_user));
  DEED("new-mounts") TRY(in_child(new_mounts));
  DEED("clone-user") TRY(in_child(cloned));
  DEED("clone3") TRY(syscall(SYS_clone3, NULL, 0));
  DEED("ptrace") TRY(ptrace(PTRACE_TRACEME, 0, 0, 0));
  DEED("keyctl") TRY(syscall(SYS_keyctl, 0, -3, 0));
  DEED("bpf") TRY(syscall(SYS_bpf, 0, NULL, 0));
  DEED("x32") TRY(syscall(0x40000000 + SYS_getpid));
  DEED("inet") TRY(socket(AF_INET, SOCK_STREAM, 0));
  DEED("unix") TRY(socket(AF_UNIX, SOCK_STREAM, 0));
  DEED("connect") TRY(connect_to(atoi(a)));
  DEED("connect-unix") TRY(connect_to_path(a));
  DEED("kill") TRY(kill(atoi(a), 0));
  DEED("become-root") TRY(setuid(0));
  DEED("uid") number(getuid());
  DEED("gid") number(getgid());
  DEED("groups") number(getgroups(0, NULL));
  DEED("pid") number(getpid());
  DEED("parent") number(getppid());
  DEED("processes") count_processes();
  DEED("fork") fork_many(atoi(a));
  DEED("sealed") number(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  DEED("dumpable") number(prctl(PR_GET_DUMPABLE));
  DEED("status") status_line(a);
  DEED("core") {
    struct rlimit l;
    getrlimit(RLIMIT_CORE, &l);
    number((long)l.rlim_max);
  }
  DEED("files") {
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    number((long)l.rlim_max);
  }
  DEED("cwd") {
    if (!getcwd(answer, sizeof answer)) strcpy(answer, "?");
  }
  DEED("tool") tool(a);
}

static int32_t probe(imgf_instance* self, const imgf_stage* st) {
  char *deeds = strdup(st->template_xml.ptr ? st->template_xml.ptr : ""), *save = NULL;
  (void)self;
  for (char* line = strtok_r(deeds, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
    char report[1024];
    char* argument = strchr(line, ' ');
    if (argument) *argument++ = 0;
    act(line, argument ? argument : "");
    snprintf(report, sizeof report, "%s%s%s: %s", line, argument ? " " : "",
             argument ? argument : "", answer);
    say(report);
  }
  return IMGF_OK;
}

#ifdef CLOUD
static const imgf_cloud_v1 cloud = {sizeof cloud, 0, NULL, NULL, NULL, probe, NULL, NULL, NULL};
#define CLOUD_TABLE cloud
#else
static const imgf_os_v1 os = {sizeof os, 0, probe, NULL, NULL, NULL};
#define OS_TABLE os
#endif
#include "plugin_end.h"

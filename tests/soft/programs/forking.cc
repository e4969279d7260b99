// Preloaded into a program: a thread that forks every few milliseconds,
// whatever the program does meanwhile. ND_FORK_CHILD says what the children do:
// "exit", "close" all descriptors that they inherited, "open" the device anew,
// or it is a command, which they run. A child that ends otherwise than with 0
// ends the program with status 99.
#include <infiniband/verbs.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr useconds_t kPauseUs = 5000;
// Seconds until a child that hangs is ended.
constexpr unsigned kChildSeconds = 20;
constexpr int kFailed = 99;

bool OpensDevice() {
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  ibv_context* const context =
      list != nullptr && count > 0 ? ibv_open_device(list[0]) : nullptr;
  ibv_pd* const pd = context != nullptr ? ibv_alloc_pd(context) : nullptr;
  return pd != nullptr && ibv_dealloc_pd(pd) == 0 &&
         ibv_close_device(context) == 0;
}

[[noreturn]] void BeChild(const char* way) {
  alarm(kChildSeconds);
  if (strcmp(way, "exit") == 0) _exit(0);
  if (strcmp(way, "close") == 0) {
    _exit(close_range(STDERR_FILENO + 1, UINT_MAX, 0) == 0 ? 0 : 1);
  }
  if (strcmp(way, "open") == 0) _exit(OpensDevice() ? 0 : 1);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): of its threads a child has one
  unsetenv("ND_FORK_CHILD");
  execl("/bin/sh", "sh", "-c", way, nullptr);
  _exit(1);
}

void* Fork(void* way) {
  for (;;) {
    usleep(kPauseUs);
    const pid_t child = fork();
    if (child == 0) BeChild(static_cast<const char*>(way));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      dprintf(STDERR_FILENO, "a child ended with 0x%x\n",
              static_cast<unsigned>(status));
      _exit(kFailed);
    }
  }
}

[[gnu::constructor]] void Begin() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet
  char* const way = getenv("ND_FORK_CHILD");
  if (way == nullptr) return;
  pthread_t thread;
  if (pthread_create(&thread, nullptr, Fork, way) == 0) pthread_detach(thread);
}

}  // namespace

// Preloaded, gives a program a second thread that sleeps: from then on the
// kernel counts references at each of its system calls, as it does for any
// program that has threads.
#include <pthread.h>
#include <unistd.h>

namespace {

[[gnu::constructor]] void StartIdleThread() {
  pthread_t thread;
  const auto sleep = [](void*) -> void* {
    for (;;) pause();
  };
  if (pthread_create(&thread, nullptr, sleep, nullptr) == 0) {
    pthread_detach(thread);
  }
}

}  // namespace

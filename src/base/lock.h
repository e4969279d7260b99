// A lock for short holds on hot paths.
#ifndef ND_BASE_LOCK_H_
#define ND_BASE_LOCK_H_

#include <pthread.h>

#include "absl/base/thread_annotations.h"

namespace nd {

// A mutex that spins a little before it sleeps. absl::Mutex, as Debian builds
// it, keeps account of the order in which locks are taken, on each Lock.
class ABSL_LOCKABLE Lock {
 public:
  Lock() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() { pthread_mutex_destroy(&mutex_); }

  void Acquire() ABSL_EXCLUSIVE_LOCK_FUNCTION() { pthread_mutex_lock(&mutex_); }
  bool TryAcquire() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    return pthread_mutex_trylock(&mutex_) == 0;
  }
  void Release() ABSL_UNLOCK_FUNCTION() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

// Holds the lock for as long as it lives.
class ABSL_SCOPED_LOCKABLE Holding {
 public:
  explicit Holding(Lock& lock) ABSL_EXCLUSIVE_LOCK_FUNCTION(lock)
      : lock_(lock) {
    lock_.Acquire();
  }
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;
  ~Holding() ABSL_UNLOCK_FUNCTION() { lock_.Release(); }

 private:
  Lock& lock_;
};

}  // namespace nd

#endif  // ND_BASE_LOCK_H_

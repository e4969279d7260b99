// The lock guard to use with absl::Mutex.
#ifndef ND_BASE_MUTEX_H_
#define ND_BASE_MUTEX_H_

#include "absl/base/config.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#ifdef ABSL_HAVE_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace nd {

// Holds `mutex` for as long as it lives. Like absl::MutexLock, which
// ThreadSanitizer does not understand when Abseil comes from the system: that
// library is built without it, so every guarded access would look like a race.
// This one tells ThreadSanitizer what happens.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(absl::Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(*mutex) {
#ifdef ABSL_HAVE_THREAD_SANITIZER
    __tsan_mutex_pre_lock(&mutex_, 0);
    mutex_.Lock();
    __tsan_mutex_post_lock(&mutex_, 0, 0);
#else
    mutex_.Lock();
#endif
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {
#ifdef ABSL_HAVE_THREAD_SANITIZER
    __tsan_mutex_pre_unlock(&mutex_, 0);
    mutex_.Unlock();
    __tsan_mutex_post_unlock(&mutex_, 0);
#else
    mutex_.Unlock();
#endif
  }

 private:
  absl::Mutex& mutex_;
};

}  // namespace nd

#endif  // ND_BASE_MUTEX_H_

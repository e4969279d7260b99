// Lets code of ours see files and libraries as they are.
#ifndef ND_SOFT_ABI_HOOKS_OFF_H_
#define ND_SOFT_ABI_HOOKS_OFF_H_

namespace nd::soft {

// While one lives, this thread's calls go on to libc. Wanted around calls of
// the real libibverbs that look for devices, and in threads of the device; it
// is so already while the hooks call the device.
class HooksOff {
 public:
  HooksOff() { ++depth_; }
  HooksOff(const HooksOff&) = delete;
  HooksOff& operator=(const HooksOff&) = delete;
  ~HooksOff() { --depth_; }

  static bool Active() { return depth_ > 0; }

 private:
  // No allocation on a thread's first access.
  [[gnu::tls_model(
      "initial-exec")]] static inline constinit thread_local int depth_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_HOOKS_OFF_H_

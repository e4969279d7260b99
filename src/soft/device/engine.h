// The thread that serves peers, timers and connections while the application
// does something else.
#ifndef ND_SOFT_DEVICE_ENGINE_H_
#define ND_SOFT_DEVICE_ENGINE_H_

#include <atomic>
#include <thread>

#include "base/fd.h"
#include "soft/device/device.h"
#include "soft/device/vigilance.h"
#include "soft/net/device_fds.h"

namespace nd::soft {

// Runs from its construction to its destruction, with all signals blocked.
class Engine {
 public:
  // The device outlives it, and is told when the host's addresses change.
  explicit Engine(Device& device, AddressWatch watch = {});
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

 private:
  void Run();
  // The application polls: leaves it alone, for a while. False: it has called
  // for this thread, as it is about to sleep.
  bool Nap();
  // Makes progress once; false: there was nothing to do, for a while already,
  // and peers will wake this thread.
  bool Work(int& fruitless);
  // Whether it was called.
  bool Sleep(std::optional<Instant> until);
  void LookAtAddresses();

  Device& device_;
  AddressWatch watch_;
  int network_fd_ = -1;
  Vigilance vigilance_;
  OwnFd wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_ENGINE_H_

// The thread in which sessions make progress.
#ifndef ND_REACTOR_H_
#define ND_REACTOR_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nd {

namespace transport {
class Hub;
}  // namespace transport

// Sessions belong to a reactor, and a reactor to one thread: all callbacks of
// its sessions run there, and nothing on their data path takes a lock. Other
// threads may use the sessions as well; what they ask for is handed over.
//
//   auto reactor = nd::Reactor::Create({});   // this thread's, which polls it
//   (*reactor)->Start();                      // or: a thread of its own
//
// The blocking calls of sessions and streams poll a reactor that is their own
// thread's, so a program with one thread needs no more than Create.
class Reactor {
 public:
  enum class Progress {
    kBusy,      // polls all the time: the lowest latency, a whole CPU
    kEvent,     // sleeps as soon as there is nothing to do
    kAdaptive,  // polls for `spin` after the last message, then sleeps
  };
  struct Options {
    Progress progress = Progress::kAdaptive;
    std::chrono::nanoseconds spin = std::chrono::microseconds(50);
    // Registered memory, in bytes, of all sessions together that are opened by
    // Session::Connect; those of a server have Server::Options' instead.
    // RESOURCE_EXHAUSTED: a session, or a message that it receives, would need
    // more.
    uint64_t send_memory = uint64_t{4} << 30;
    uint64_t receive_memory = uint64_t{4} << 30;
  };

  static absl::StatusOr<std::unique_ptr<Reactor>> Create(
      const Options& options);
  ~Reactor();  // its sessions and servers have gone before
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Runs it in a thread of its own, which ends with Stop. FAILED_PRECONDITION:
  // it has one.
  absl::Status Start();
  // Runs it in the thread that calls, whose it then is, until Stop.
  void Run();
  // Any thread. Ends Run, or where nobody is in it yet, the next one. Waits for
  // the thread that Start began, unless it is called there; the reactor is then
  // the caller's, who may poll it, and Start it again.
  void Stop();

  // One turn of it, in its thread: that which created it, last called Run, or
  // ended its own thread by Stop.
  // Never sleeps. Whether there was anything to do. Not from a callback of its
  // sessions, which must not wait by polling either.
  bool Poll();

  // For an event loop of the application's, in its thread: fd() is readable
  // when Poll has something to do. Before that loop sleeps it calls
  // PrepareToSleep: nothing means that Poll has something to do already; a
  // time, that it is due then at the latest. A reactor of kBusy that has
  // sessions never lets it sleep.
  int fd() const;
  std::optional<std::chrono::steady_clock::time_point> PrepareToSleep();

  // Of nd's own rooms.
  transport::Hub& hub() { return *hub_; }

 private:
  explicit Reactor(std::unique_ptr<transport::Hub> hub);

  const std::unique_ptr<transport::Hub> hub_;
};

}  // namespace nd

#endif  // ND_REACTOR_H_

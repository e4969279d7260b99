// What the tests of net share: packets, what became of them, and waiting.
#ifndef ND_TESTS_SOFT_NET_BENCH_H_
#define ND_TESTS_SOFT_NET_BENCH_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "soft/net/host_network.h"
#include "soft/wire/mad.h"

namespace nd::soft {

// An arrival, with its payload.
struct Arrived {
  Path path;
  Bth bth;
  uint8_t packets = 1;
  std::vector<std::byte> payload{};
  bool far = false;   // it was
  bool lost = false;  // and not to be had
};

// Runs `body` in a child process; the destructor kills it.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { Kill(); }

  void Kill();
  // Its exit status, once it has ended.
  int Wait();

 private:
  pid_t pid_;
};

class Collector final : public ArrivalSink {
 public:
  void OnArrival(const Arrival& arrival) override;
  void OnPeerGone(uint32_t slot) override { gone.push_back(slot); }

  std::vector<Arrived> arrived;
  std::vector<uint32_t> gone;  // slots
};

// IPv4 of the loopback interface: 127.0.0.`last`.
Gid Localhost(uint8_t last);

// A QP of the process that has the slot.
Qpn QpnOf(uint32_t slot, uint32_t index = 17);

// `size` bytes that depend on `seed`.
std::vector<std::byte> Payload(size_t size, uint32_t seed = 0);

// Sends an RC SEND ONLY to the QP, its PSN the seed of its payload.
void SendTo(Network& network, const Path& path, Qpn destination, uint32_t psn,
            size_t size, uint8_t packets = 1);
// Lends that many bytes at `bytes`, as a burst of SEND ONLY of packets of
// 1,024.
void Lend(Network& network, const Path& path, Qpn destination, uint32_t psn,
          std::span<std::byte> bytes, const LoanWord& word);
// A request for a service.
CmReq Request(CommId id, uint64_t service_id);
// Sends a datagram to QP1.
void SendMad(Network& network, const Path& path, const CmMessage& message);
// What such an arrival says.
CmMessage MessageOf(const Arrived& arrived);

// Whether an arrival is what SendTo sent.
bool IsIntact(const Arrived& arrived, size_t size);

// A prefix of names that nothing else on the machine uses.
std::string FreshPrefix();

std::unique_ptr<HostNetwork> OpenNetwork(const HostNetworkOptions& options,
                                         const Gid& local);

// A process of a host: a network, and what came to it.
struct Process {
  explicit Process(const HostNetworkOptions& options,
                   const Gid& local = Localhost(1))
      : network(OpenNetwork(options, local)) {}

  size_t Receive();

  std::unique_ptr<HostNetwork> network;
  Collector sink;
};

// Lets the processes receive until `done`; false: not within some seconds.
bool ReceiveUntil(std::span<Process* const> processes,
                  const std::function<bool()>& done);

// Waits until `network` has something to do; false: not within some seconds.
bool WaitFor(const Network& network);
// Whether its descriptor is readable now.
bool IsReadable(const Network& network);

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_NET_BENCH_H_

// A network that loses, duplicates, delays, reorders and corrupts what it
// carries, by chance, and can be cut.
#ifndef ND_TESTS_SOFT_SIM_NETWORK_H_
#define ND_TESTS_SOFT_SIM_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/random.h"

namespace nd::soft {

struct NetworkOptions {
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;
  double reorder = 0;  // comes up to `straggle` late
  Duration delay{};
  Duration straggle{};
};

struct Datagram {
  size_t source = 0;  // devices
  size_t destination = 0;
  bool corrupted = false;
  uint8_t packets = 1;  // that go as one
  std::vector<std::byte> bytes;
};

// One thread at a time.
class SimNetwork {
 public:
  SimNetwork(const NetworkOptions& options, Random& random)
      : options_(options), random_(random) {}

  void Send(Instant now, Datagram datagram);
  std::optional<Instant> NextArrival() const;
  // The one that NextArrival told of.
  Datagram Take();

  // While it is cut, what is sent is lost.
  void SetCut(bool cut) { cut_ = cut; }
  // So is what a device that is cut off exchanges with the others.
  void SetCutOff(size_t device, bool cut) {
    if (cut) {
      cut_off_.insert(device);
    } else {
      cut_off_.erase(device);
    }
  }
  uint64_t sent() const { return sent_; }

 private:
  bool Reaches(const Datagram& datagram) const;
  void Carry(Instant now, Datagram datagram);
  void Corrupt(Datagram& datagram);

  const NetworkOptions options_;
  Random& random_;
  std::multimap<Instant, Datagram> in_flight_;
  bool cut_ = false;
  std::set<size_t> cut_off_;
  uint64_t sent_ = 0;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_SIM_NETWORK_H_

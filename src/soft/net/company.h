// Whether a queue pair has this process, or the way from it, to itself.
#ifndef ND_SOFT_NET_COMPANY_H_
#define ND_SOFT_NET_COMPANY_H_

#include <chrono>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// Told of each packet that comes. To fetch what is lent keeps the receiver from
// short messages of others for longer than to take what was copied.
class Company {
 public:
  // How long a packet of another queue pair is expected to be followed by more.
  static constexpr Duration kStay = std::chrono::milliseconds(1);

  void OnPacket(Qpn destination, Instant now) {
    if (last_.has_value() && *last_ != destination) until_ = now + kStay;
    last_ = destination;
  }
  // Packets have come for two queue pairs lately.
  bool any(Instant now) const { return now < until_; }

 private:
  std::optional<Qpn> last_;
  Instant until_{};
};

// Told of each message in one packet that goes. What another queue pair has put
// into the ring before it, the receiver takes first.
class ShortMessages {
 public:
  static constexpr Duration kStay = Company::kStay;

  void OnMessage(Qpn destination, Instant now) {
    if (last_.destination != destination) {
      before_ = std::exchange(last_, {.destination = destination});
    }
    last_.at = now;
  }
  // Some have gone to others lately.
  bool ForOthers(Qpn destination, Instant now) const {
    const Message& other = last_.destination == destination ? before_ : last_;
    return other.destination.has_value() && now - other.at < kStay;
  }

 private:
  struct Message {
    std::optional<Qpn> destination;
    Instant at{};
  };
  Message last_;    // to whom the last one went
  Message before_;  // and the last one to somebody else
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_COMPANY_H_

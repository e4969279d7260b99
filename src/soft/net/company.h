// Whether a queue pair of this process has the process to itself.
#ifndef ND_SOFT_NET_COMPANY_H_
#define ND_SOFT_NET_COMPANY_H_

#include <chrono>
#include <optional>

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

}  // namespace nd::soft

#endif  // ND_SOFT_NET_COMPANY_H_

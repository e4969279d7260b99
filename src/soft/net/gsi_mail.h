// Packets to QP1 whose receiver's queue was full: connections are not made so
// often that they may be lost for that.
#ifndef ND_SOFT_NET_GSI_MAIL_H_
#define ND_SOFT_NET_GSI_MAIL_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "soft/net/frame.h"
#include "soft/net/gsi_target.h"

namespace nd::soft {

// One thread at a time.
class GsiMail {
 public:
  static constexpr size_t kCapacity = 256;

  struct Letter {
    GsiTarget target;
    FrameHeader header;
    std::vector<std::byte> packet;
  };
  // False: still no room.
  using Sender = absl::FunctionRef<bool(const Letter&)>;

  size_t room() const { return kCapacity - letters_.size(); }
  // False: no room.
  bool Keep(const GsiTarget& target, const FrameHeader& header,
            const PacketSource& packet, Instant now);

  std::optional<Instant> NextDeadline() const { return retry_at_; }
  // Tries all that is kept again, if it is time.
  void Retry(Instant now, Sender send);

 private:
  std::deque<Letter> letters_;
  std::optional<Instant> retry_at_;  // while there are letters
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_GSI_MAIL_H_

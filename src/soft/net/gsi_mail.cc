#include "soft/net/gsi_mail.h"

#include <chrono>

namespace nd::soft {
namespace {

constexpr Duration kRetryEvery = std::chrono::milliseconds(1);

}  // namespace

bool GsiMail::Keep(const GsiTarget& target, const FrameHeader& header,
                   const PacketSource& packet, Instant now) {
  if (room() == 0) return false;
  Letter& letter = letters_.emplace_back(
      Letter{.target = target, .header = header, .packet = {}});
  letter.packet.resize(packet.size());
  packet.CopyTo(letter.packet);
  if (!retry_at_.has_value()) retry_at_ = now + kRetryEvery;
  return true;
}

void GsiMail::Retry(Instant now, Sender send) {
  if (!retry_at_.has_value() || now < *retry_at_) return;
  std::erase_if(letters_, send);
  retry_at_.reset();
  if (!letters_.empty()) retry_at_ = now + kRetryEvery;
}

}  // namespace nd::soft

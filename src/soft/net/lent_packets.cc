#include "soft/net/lent_packets.h"

#include <algorithm>
#include <utility>

#include "soft/wire/burst.h"

namespace nd::soft {
namespace {

constexpr size_t kMost = 256;  // packets that wait
// What is fetched in about a microsecond, and how long something that has
// passed is expected to be followed by more.
constexpr size_t kBytesOfPart = size_t{32} << 10;
constexpr uint32_t kPartsPerPassing = 8;

class LentPayload final : public FarPayload {
 public:
  LentPayload(const Loan& loan, Lender& lender)
      : FarPayload(loan.length), loan_(loan), lender_(lender) {}

  [[nodiscard]] bool CopyTo(
      std::span<const std::span<std::byte>> pieces) const override {
    return lender_.Fetch(loan_, pieces);
  }

 private:
  const Loan& loan_;
  Lender& lender_;
};

}  // namespace

Lender::Lender(pid_t pid, bool fetches, RingConsumer& ring)
    : memory_(pid), ring_(&ring) {
  const uint64_t self = ring.producer_self();
  fetches_ = fetches && pid > 0 && memory_.Holds(self, self);
  ring.set_fetches(fetches_);
}

void Lender::Invite(bool invited) {
  if (ring_ != nullptr) ring_->set_fetches(fetches_ && invited);
}

void Lender::StopFetching() {
  if (ring_ != nullptr) ring_->set_fetches(false);
  ring_ = nullptr;
  fetches_ = false;
}

bool Lender::Fetch(const Loan& loan,
                   std::span<const std::span<std::byte>> pieces) {
  if (!fetches_) return false;
  const PeerMemory::Fetched fetched = memory_.Fetch(loan, pieces);
  if (fetched == PeerMemory::Fetched::kUnreachable) StopFetching();
  return fetched == PeerMemory::Fetched::kAll;
}

void LentPackets::Push(const Path& path, const Packet& packet, const Loan& loan,
                       std::shared_ptr<Lender> lender, ArrivalSink& sink) {
  MakeRoom(sink);
  Push({.path = path,
        .packet = packet,
        .loan = loan,
        .lender = std::move(lender)});
}

void LentPackets::MakeRoom(ArrivalSink& sink) {
  while (packets_.size() >= kMost) HandOutSome(sink);
}

void LentPackets::Push(Waiting waiting) {
  waiting.number = next_number_++;
  packets_.push_back(std::move(waiting));
}

// Requests to a queue pair keep their order, and so do answers.
bool LentPackets::TakeBehind(const Arrival& arrival, ArrivalSink& sink) {
  MakeRoom(sink);
  const Packet& packet = arrival.packet;
  const bool passes =
      std::ranges::none_of(packets_, [&packet](const Waiting& waiting) {
        return waiting.packet.bth.destination == packet.bth.destination &&
               waiting.packet.facts().is_response() ==
                   packet.facts().is_response();
      });
  if (passes) {
    if (!packet.facts().is_response()) parts_ = kPartsPerPassing;
    return false;
  }
  Push({.path = arrival.path,
        .packet = packet,
        .payload = {packet.payload.begin(), packet.payload.end()}});
  return true;
}

// Of a burst that is lent, its next packets.
void LentPackets::HandOut(Waiting& waiting, uint8_t packets,
                          ArrivalSink& sink) {
  Packet& whole = waiting.packet;
  const LentPayload all(waiting.loan, *waiting.lender);
  whole.far = &all;
  const PayloadRange range = RangeOfPart(whole, waiting.handed_out, packets);
  Loan loan = waiting.loan;
  loan.address += range.offset;
  loan.length = range.length;
  const LentPayload payload(loan, *waiting.lender);
  Packet part = PartOfBurst(whole, waiting.handed_out, packets);
  part.far = &payload;
  waiting.handed_out += packets;
  sink.OnArrival({.path = waiting.path, .packet = part});
}

void LentPackets::HandOutSome(ArrivalSink& sink) {
  Waiting& waiting = packets_.front();
  const size_t mtu = MtuOfBurst(waiting.packet.packets, waiting.loan.length);
  const size_t left = waiting.packet.packets - waiting.handed_out;
  const size_t most =
      parts_ > 0 ? std::max<size_t>(kBytesOfPart / mtu, 1) : left;
  if (parts_ > 0) --parts_;
  HandOut(waiting, static_cast<uint8_t>(std::min(left, most)), sink);
  if (waiting.handed_out < waiting.packet.packets) return;
  packets_.pop_front();
  while (!packets_.empty() && packets_.front().lender == nullptr) {
    Waiting behind = std::move(packets_.front());
    packets_.pop_front();
    behind.packet.payload = behind.payload;
    sink.OnArrival({.path = behind.path, .packet = behind.packet});
  }
}

}  // namespace nd::soft

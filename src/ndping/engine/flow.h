// Who may send how much: the arithmetic of windows and credits. Counts run on
// for ever here and travel as their low 32 bits.
#ifndef ND_NDPING_ENGINE_FLOW_H_
#define ND_NDPING_ENGINE_FLOW_H_

#include <algorithm>
#include <cstdint>
#include <optional>

namespace nd::ndping {

// The full count that `low` abbreviates, the first one from `base` on.
constexpr uint64_t ExpandCount(uint64_t base, uint32_t low) {
  return base + static_cast<uint32_t>(low - static_cast<uint32_t>(base));
}

// A count of messages as the peer writes it into this side's memory, where it
// may be read while it is being written: IBA promises nothing about the bytes
// of a WRITE that is under way, so the count comes with its complement.
constexpr uint64_t EncodeCredit(uint32_t count) {
  return uint64_t{~count} << 32 | count;
}
constexpr std::optional<uint32_t> DecodeCredit(uint64_t word) {
  const auto count = static_cast<uint32_t>(word);
  if (static_cast<uint32_t>(word >> 32) != ~count) return std::nullopt;
  return count;
}

// The sender's side of one QP.
class SendWindow {
 public:
  struct Limits {
    uint64_t in_flight = 1;   // posted and not completed
    uint64_t uncredited = 0;  // posted and not taken by the peer; 0: any number
  };
  constexpr explicit SendWindow(const Limits& limits) : limits_(limits) {}

  // Messages that may be posted now.
  constexpr uint64_t Room() const {
    const uint64_t room = limits_.in_flight - (posted_ - completed_);
    return limits_.uncredited == 0 ? room : std::min(room, CreditRoom());
  }

  // Nothing but a credit can make room.
  constexpr bool WaitsForCredit() const {
    return limits_.uncredited != 0 && CreditRoom() == 0;
  }

  constexpr void OnPosted(uint64_t count) { posted_ += count; }

  // All up to the message number `low` (from 1) are complete: completions of a
  // send queue come in order.
  constexpr void OnCompleted(uint32_t low) {
    const uint64_t upto = ExpandCount(completed_, low);
    if (upto <= posted_) completed_ = upto;
  }

  // The peer has taken so many. False, and without effect, if it says more
  // than it was sent.
  constexpr bool OnCredit(uint32_t low) {
    const uint64_t taken = ExpandCount(credited_, low);
    if (taken > posted_) return false;
    credited_ = taken;
    return true;
  }

  constexpr uint64_t posted() const { return posted_; }
  constexpr uint64_t completed() const { return completed_; }

 private:
  constexpr uint64_t CreditRoom() const {
    return limits_.uncredited - (posted_ - credited_);
  }

  Limits limits_;
  uint64_t posted_ = 0;
  uint64_t completed_ = 0;
  uint64_t credited_ = 0;
};

// The receiver's side: when to tell the sender how many were taken.
class CreditReturn {
 public:
  // After every `every` messages; 0: never.
  constexpr explicit CreditReturn(uint32_t every) : every_(every) {}

  constexpr void OnTaken(uint64_t count) { taken_ += count; }

  // One return is under way at a time; the next one says all that was taken
  // meanwhile. So returns take one place of the send queue and no more.
  constexpr bool Due() const {
    return every_ != 0 && !under_way_ && taken_ - returned_ >= every_;
  }
  constexpr uint32_t Start() {
    under_way_ = true;
    returned_ = taken_;
    return static_cast<uint32_t>(taken_);
  }
  constexpr void OnDone() { under_way_ = false; }

  constexpr bool under_way() const { return under_way_; }
  constexpr uint64_t taken() const { return taken_; }

 private:
  uint32_t every_;
  uint64_t taken_ = 0;
  uint64_t returned_ = 0;
  bool under_way_ = false;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_FLOW_H_

// The syndrome of an AETH: a positive acknowledgement with credits, a
// receiver-not-ready NAK with its timer, or a NAK with its cause (IBA vol. 1,
// 9.7.5.1).
#ifndef ND_SOFT_WIRE_SYNDROME_H_
#define ND_SOFT_WIRE_SYNDROME_H_

#include <cstdint>

#include "base/clock.h"

namespace nd::soft {

enum class NakCode : uint8_t {
  kPsnSequenceError = 0,
  kInvalidRequest = 1,
  kRemoteAccessError = 2,
  kRemoteOperationalError = 3,
  kInvalidRdRequest = 4,
};

class Syndrome {
 public:
  enum class Kind : uint8_t { kAck, kRnrNak, kNak, kReserved };

  // Credit count codes: 0 to 30, or no flow control (table 47).
  static constexpr uint8_t kNoCreditLimit = 31;

  constexpr Syndrome() = default;
  constexpr explicit Syndrome(uint8_t value) : value_(value) {}

  static constexpr Syndrome Ack(uint8_t credit_code = kNoCreditLimit) {
    return Syndrome(credit_code & kCodeMask);
  }
  static constexpr Syndrome RnrNak(uint8_t timer_code) {
    return Syndrome(kRnrNakBits | (timer_code & kCodeMask));
  }
  static constexpr Syndrome Nak(NakCode code) {
    return Syndrome(kNakBits | static_cast<uint8_t>(code));
  }

  constexpr Kind kind() const {
    switch (value_ & ~kCodeMask) {
      case 0:
        return Kind::kAck;
      case kRnrNakBits:
        return Kind::kRnrNak;
      case kNakBits:
        return Kind::kNak;
      default:
        return Kind::kReserved;
    }
  }
  // The lower five bits: credits, timer, or what nak_code() names.
  constexpr uint8_t code() const { return value_ & kCodeMask; }
  constexpr NakCode nak_code() const { return static_cast<NakCode>(code()); }
  constexpr uint8_t value() const { return value_; }
  constexpr bool operator==(const Syndrome&) const = default;

 private:
  static constexpr uint8_t kCodeMask = 0x1f;
  static constexpr uint8_t kRnrNakBits = 0x20;
  static constexpr uint8_t kNakBits = 0x60;

  uint8_t value_ = kNoCreditLimit;
};

// The least time to wait after an RNR NAK with this timer code, 0 to 31 (table
// 45): 0 is the longest, 655.36 ms.
Duration RnrTime(uint8_t timer_code);

// The local ACK timeout of an exponent, 0 to 31: 4.096 us * 2^n, 0 for never
// (9.7.6.1.3, C9-140).
Duration AckTime(uint8_t exponent);

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_SYNDROME_H_

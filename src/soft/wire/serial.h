// The numbers and keys of the wire, each a type of its own.
#ifndef ND_SOFT_WIRE_SERIAL_H_
#define ND_SOFT_WIRE_SERIAL_H_

#include <cstdint>

namespace nd::soft {

// A number of 24 bits that wraps. Two of them compare by their distance, which
// is right as long as they are less than 2^23 apart (IBA vol. 1, 9.7.2).
template <typename Tag>
class Serial24 {
 public:
  static constexpr uint32_t kMask = 0xffffff;

  constexpr Serial24() = default;
  constexpr explicit Serial24(uint32_t value) : value_(value & kMask) {}

  constexpr uint32_t value() const { return value_; }

  constexpr Serial24 operator+(uint32_t count) const {
    return Serial24(value_ + count);
  }
  constexpr Serial24 operator-(uint32_t count) const {
    return Serial24(value_ - count);
  }
  constexpr Serial24& operator++() { return *this = *this + 1; }

  // From `b` to `a`: -2^23 to 2^23 - 1, positive where `a` is the later one.
  friend constexpr int32_t operator-(Serial24 a, Serial24 b) {
    const uint32_t ahead = (a.value_ - b.value_) & kMask;
    return static_cast<int32_t>(ahead ^ kSign) - static_cast<int32_t>(kSign);
  }
  constexpr bool operator==(const Serial24&) const = default;

 private:
  static constexpr uint32_t kSign = 1u << 23;

  uint32_t value_ = 0;
};

using Psn = Serial24<struct PsnTag>;  // packet sequence number
using Msn = Serial24<struct MsnTag>;  // message sequence number

enum class Qpn : uint32_t {};   // queue pair number, 24 bits
enum class Rkey : uint32_t {};  // key of a memory region or window
enum class Qkey : uint32_t {};  // key of a datagram QP

constexpr uint32_t ToUint(Qpn qpn) { return static_cast<uint32_t>(qpn); }
constexpr uint32_t ToUint(Rkey rkey) { return static_cast<uint32_t>(rkey); }
constexpr uint32_t ToUint(Qkey qkey) { return static_cast<uint32_t>(qkey); }

// The QP of the communication manager, and its Q_Key (IBA vol. 1, 13.5.1, 3.9).
inline constexpr Qpn kGsiQpn{1};
// Those that are attached to the group that the address names.
inline constexpr Qpn kMulticastQpn{0xffffff};
inline constexpr Qkey kGsiQkey{0x80010000};

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_SERIAL_H_

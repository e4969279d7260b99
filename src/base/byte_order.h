// Unsigned integers of any size and byte order, from and to bytes.
#ifndef ND_BASE_BYTE_ORDER_H_
#define ND_BASE_BYTE_ORDER_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace nd {

// The unsigned integer in `bytes`. Written as one expression because gcc turns
// that into one load and a byte swap, and a loop it does not.
template <std::endian kOrder, size_t kSize>
constexpr uint64_t LoadUint(std::span<const std::byte, kSize> bytes) {
  return [&]<size_t... kI>(std::index_sequence<kI...>) {
    return ((std::to_integer<uint64_t>(bytes[kI])
             << 8 * (kOrder == std::endian::big ? kSize - 1 - kI : kI)) |
            ...);
  }
  (std::make_index_sequence<kSize>());
}

// Stores the low bytes of `value` into `bytes`.
template <std::endian kOrder, size_t kSize>
constexpr void StoreUint(std::span<std::byte, kSize> bytes, uint64_t value) {
  [&]<size_t... kI>(std::index_sequence<kI...>) {
    ((bytes[kI] = static_cast<std::byte>(
          value >> 8 * (kOrder == std::endian::big ? kSize - 1 - kI : kI))),
     ...);
  }
  (std::make_index_sequence<kSize>());
}

}  // namespace nd

#endif  // ND_BASE_BYTE_ORDER_H_

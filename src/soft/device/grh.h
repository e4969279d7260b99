// The global route header that a datagram's receiver finds in front of it: what
// the IP header said (IBA vol. 1, ch. 8; annex A17).
#ifndef ND_SOFT_DEVICE_GRH_H_
#define ND_SOFT_DEVICE_GRH_H_

#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "soft/net/network.h"

namespace nd::soft {

inline constexpr size_t kGrhBytes = 40;

// IPv4: 20 bytes of zeros, then its header.
std::array<std::byte, kGrhBytes> MakeGrh(const Path& path,
                                         const Packet& packet);

// The way back to whoever sent the datagram; nothing if these bytes are no
// header of IP.
std::optional<Path> ReadGrh(std::span<const std::byte, kGrhBytes> grh);

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_GRH_H_

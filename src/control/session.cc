#include "control/session.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::control {
namespace {

constexpr uint64_t kMaxDepth = 1 << 20;
constexpr uint64_t kMaxRing = uint64_t{1} << 32;
constexpr uint64_t kMaxRdAtomic = 255;  // an 8-bit field of the REQ

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

bool Ends(uint64_t address, uint64_t size) {
  return size <= std::numeric_limits<uint64_t>::max() - address;
}

absl::Status CheckRing(const LinkLayout& link, const SessionLayout& session) {
  if (session.eager_mode == EagerMode::kSend) {
    if (link.ring_size == 0) return absl::OkStatus();
    return Invalid("link_layout.ring_size: ", link.ring_size,
                   ", but the session's eager_mode is SEND");
  }
  ND_RETURN_IF_ERROR(CheckRange("link_layout.ring_size", link.ring_size,
                                session.slots * session.slot_size, kMaxRing));
  if (Ends(link.ring_address, link.ring_size)) return absl::OkStatus();
  return Invalid("link_layout.ring_address: ", link.ring_address, " and ",
                 link.ring_size, " bytes are beyond 2^64");
}

}  // namespace

absl::Status CheckLinkLayout(const LinkLayout& link,
                             const SessionLayout& session) {
  ND_RETURN_IF_ERROR(
      CheckRange("link_layout.send_depth", link.send_depth, 1, kMaxDepth));
  ND_RETURN_IF_ERROR(CheckRange("link_layout.receive_depth", link.receive_depth,
                                session.slots, kMaxDepth));
  ND_RETURN_IF_ERROR(CheckRing(link, session));
  ND_RETURN_IF_ERROR(CheckRange("link_layout.max_rd_atomic", link.max_rd_atomic,
                                0, kMaxRdAtomic));
  ND_RETURN_IF_ERROR(CheckRange("link_layout.max_dest_rd_atomic",
                                link.max_dest_rd_atomic, 0, kMaxRdAtomic));
  for (const uint64_t mtu : {256, 512, 1024, 2048, 4096}) {
    if (link.path_mtu == mtu) return absl::OkStatus();
  }
  return Invalid("link_layout.path_mtu: ", link.path_mtu,
                 " is none of 256, 512, 1024, 2048, 4096");
}

absl::Status CheckRegion(absl::string_view name, const Region& region) {
  ND_RETURN_IF_ERROR(CheckRange("name", name.size(), 1, kMaxRegionName));
  ND_RETURN_IF_ERROR(CheckRange("region.size", region.size, 1,
                                std::numeric_limits<uint64_t>::max()));
  if (!Ends(region.address, region.size)) {
    return Invalid("region.address: ", region.address, " and ", region.size,
                   " bytes are beyond 2^64");
  }
  if (region.access == RegionAccess{}) {
    return Invalid("region.access: neither read, write nor atomic");
  }
  // IBA vol. 1, 9.4.5: an ATOMIC's address is aligned to 8 bytes.
  if (region.access.atomic && region.address % 8 != 0) {
    return Invalid("region.address: ", region.address,
                   " is not a multiple of 8, which atomic access needs");
  }
  return absl::OkStatus();
}

std::string SessionName(uint64_t id) {
  return absl::StrCat("session ", absl::Hex(id, absl::kZeroPad16));
}

}  // namespace nd::control

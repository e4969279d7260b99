// The user's part of a message: of any length up to a limit on the way in, of
// the message's full size on the wire and at the receiver.
#ifndef ND_SOFT_CM_PRIVATE_DATA_H_
#define ND_SOFT_CM_PRIVATE_DATA_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "soft/cm/commands.h"

namespace nd::soft {

inline absl::Status CheckPrivateData(PrivateDataView data, size_t limit) {
  if (data.size() <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      data.size(), " bytes of private data, at most ", limit, " fit"));
}

// `data` fits: CheckPrivateData said so.
template <size_t kBytes>
void StorePrivateData(PrivateDataView data, std::array<uint8_t, kBytes>& out) {
  std::ranges::copy(data.first(std::min(data.size(), kBytes)), out.begin());
}

// Behind rdma_cm's header.
template <size_t kBytes>
void StoreWithHeader(const RdmaCmHeader& header, PrivateDataView data,
                     std::array<uint8_t, kBytes>& out) {
  const std::span<uint8_t, kBytes> all(out);
  header.Write(all.template first<RdmaCmHeader::kSize>());
  std::ranges::copy(data, all.template subspan<RdmaCmHeader::kSize>().begin());
}

template <size_t kBytes>
RdmaCmHeader HeaderOf(const std::array<uint8_t, kBytes>& data) {
  return RdmaCmHeader::Read(std::span<const uint8_t, kBytes>(data)
                                .template first<RdmaCmHeader::kSize>());
}

template <size_t kBytes>
std::vector<uint8_t> UserData(const std::array<uint8_t, kBytes>& data) {
  return {data.begin() + RdmaCmHeader::kSize, data.end()};
}

template <size_t kBytes>
std::vector<uint8_t> AllData(const std::array<uint8_t, kBytes>& data) {
  return {data.begin(), data.end()};
}

}  // namespace nd::soft

#endif  // ND_SOFT_CM_PRIVATE_DATA_H_

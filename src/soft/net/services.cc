#include "soft/net/services.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::soft {

absl::Status Services::Claim(uint64_t service_id) {
  if (const auto claim = claims_.find(service_id); claim != claims_.end()) {
    ++claim->second.times;
    return absl::OkStatus();
  }
  auto socket = UnixSocket::Bind(names_.Service(service_id));
  if (!socket.ok()) {
    return Annotate(socket.status(),
                    absl::StrCat("service 0x", absl::Hex(service_id)));
  }
  const uint32_t number = next_number_++;
  ND_RETURN_IF_ERROR(events_.Add(
      socket->fd(), {.kind = EventToken::Kind::kService, .number = number}));
  claims_.emplace(service_id, ClaimedService{.socket = *std::move(socket),
                                             .number = number});
  return absl::OkStatus();
}

void Services::Release(uint64_t service_id) {
  const auto claim = claims_.find(service_id);
  if (claim == claims_.end() || --claim->second.times > 0) return;
  events_.Remove(claim->second.socket.fd());
  claims_.erase(claim);
}

const UnixSocket* Services::SocketOf(uint32_t number) const {
  const auto claim = std::ranges::find_if(claims_, [number](const auto& entry) {
    return entry.second.number == number;
  });
  return claim == claims_.end() ? nullptr : &claim->second.socket;
}

}  // namespace nd::soft

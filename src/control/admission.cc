#include "control/admission.h"

#include <optional>

#include "absl/strings/str_cat.h"

namespace nd::control {

absl::StatusOr<Admission::Id> Admission::Invite(const Token& token,
                                                uint32_t connections,
                                                Instant now) {
  if (closed_) return absl::UnavailableError("the server is shutting down");
  if (invitations_.size() >= options_.max_invitations) {
    return absl::ResourceExhaustedError(absl::StrCat(
        options_.max_invitations, " invitations are out, which is the limit"));
  }
  const Id id = next_id_++;
  invitations_.emplace(id, Invitation{.token = token,
                                      .expires = now + options_.token_lifetime,
                                      .used = std::vector<bool>(connections)});
  return id;
}

// Compares with every token, found or not: how long it takes says nothing about
// where a guess was close.
Admission::Map::iterator Admission::Find(const Token& token) {
  auto found = invitations_.end();
  for (auto it = invitations_.begin(); it != invitations_.end(); ++it) {
    if (it->second.token.Matches(token)) found = it;
  }
  return found;
}

Admission::Decision Admission::Decide(std::span<const std::byte> private_data,
                                      Instant now) {
  const std::optional<ConnectHello> hello = ConnectHello::Parse(private_data);
  if (!hello.has_value()) return RejectReason::kNoHello;
  if (closed_) return RejectReason::kShuttingDown;
  const auto found = Find(hello->token);
  if (found == invitations_.end()) return RejectReason::kUnknownToken;
  auto& [id, invitation] = *found;
  if (now >= invitation.expires) return RejectReason::kUnknownToken;
  if (hello->index >= invitation.used.size()) return RejectReason::kBadIndex;
  if (invitation.used[hello->index]) return RejectReason::kUsedToken;
  invitation.used[hello->index] = true;
  invitation.expires = now + options_.token_lifetime;
  return Admitted{.invitation = id, .index = hello->index};
}

}  // namespace nd::control

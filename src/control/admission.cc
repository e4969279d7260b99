#include "control/admission.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::control {

bool Admission::Invitation::SpentLinks(Instant now) const {
  return !links.empty() &&
         (now >= expires || std::ranges::all_of(links, [](const Link& link) {
            return link.used || link.superseded;
          }));
}

// Invitations by index are withdrawn by those who gave them; those for links
// stay, so that who comes late hears why he is too late, until there is no
// room.
absl::Status Admission::MakeRoom(Instant now) {
  if (closed_) return absl::UnavailableError("the server is shutting down");
  if (invitations_.size() < options_.max_invitations) return absl::OkStatus();
  std::erase_if(invitations_, [now](const auto& entry) {
    return entry.second.SpentLinks(now);
  });
  if (invitations_.size() < options_.max_invitations) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      options_.max_invitations, " invitations are out, which is the limit"));
}

absl::StatusOr<Admission::Id> Admission::Invite(const Token& token,
                                                uint32_t connections,
                                                Instant now) {
  ND_RETURN_IF_ERROR(MakeRoom(now));
  const Id id = next_id_++;
  invitations_.emplace(id, Invitation{.token = token,
                                      .expires = now + options_.token_lifetime,
                                      .used = std::vector<bool>(connections)});
  return id;
}

absl::Status Admission::InviteLinks(const Token& token, uint64_t session,
                                    std::span<const LinkId> links,
                                    Instant now) {
  ND_RETURN_IF_ERROR(MakeRoom(now));
  Invitation invitation{.token = token,
                        .expires = now + options_.token_lifetime,
                        .session = session};
  for (const LinkId& id : links) invitation.links.push_back({.id = id});
  for (auto& [id, earlier] : invitations_) {
    if (earlier.session != session) continue;
    for (Link& link : earlier.links) {
      link.superseded |=
          std::ranges::any_of(links, [&link](const LinkId& later) {
            return later.number == link.id.number;
          });
    }
  }
  invitations_.emplace(next_id_++, std::move(invitation));
  return absl::OkStatus();
}

void Admission::WithdrawLinks(uint64_t session) {
  std::erase_if(invitations_, [session](const auto& entry) {
    return !entry.second.links.empty() && entry.second.session == session;
  });
}

// Compares with every token, found or not: how long it takes says nothing about
// where a guess was close.
Admission::Map::iterator Admission::Find(const Token& token, Instant now) {
  auto found = invitations_.end();
  for (auto it = invitations_.begin(); it != invitations_.end(); ++it) {
    if (it->second.token.Matches(token)) found = it;
  }
  if (found == invitations_.end() || now < found->second.expires) return found;
  return invitations_.end();
}

Admission::Decision Admission::Decide(std::span<const std::byte> private_data,
                                      Instant now) {
  const auto by_index = ConnectHello::Parse(private_data);
  const auto by_link = LinkHello::Parse(private_data);
  if (!by_index.has_value() && !by_link.has_value()) {
    return RejectReason::kNoHello;
  }
  if (closed_) return RejectReason::kShuttingDown;
  return by_index.has_value() ? DecideIndex(*by_index, now)
                              : DecideLink(*by_link, now);
}

Admission::Decision Admission::DecideIndex(const ConnectHello& hello,
                                           Instant now) {
  const auto found = Find(hello.token, now);
  if (found == invitations_.end()) return RejectReason::kUnknownToken;
  auto& [id, invitation] = *found;
  if (hello.index >= invitation.used.size()) return RejectReason::kBadIndex;
  if (invitation.used[hello.index]) return RejectReason::kUsedToken;
  invitation.used[hello.index] = true;
  invitation.expires = now + options_.token_lifetime;
  return Admitted{.invitation = id, .index = hello.index};
}

Admission::Decision Admission::DecideLink(const LinkHello& hello, Instant now) {
  if (hello.version != LinkHello::kVersion) {
    return RejectReason::kUnknownVersion;
  }
  const auto found = Find(hello.token, now);
  if (found == invitations_.end()) return RejectReason::kUnknownToken;
  Invitation& invitation = found->second;
  if (invitation.links.empty() || invitation.session != hello.session) {
    return RejectReason::kOtherSession;
  }
  const auto link = std::ranges::find(invitation.links, hello.link, &Link::id);
  if (link == invitation.links.end()) return RejectReason::kBadIndex;
  if (link->used) return RejectReason::kUsedToken;
  if (link->superseded) return RejectReason::kOldIncarnation;
  link->used = true;
  invitation.expires = now + options_.token_lifetime;
  return AdmittedLink{.session = hello.session, .link = hello.link};
}

}  // namespace nd::control

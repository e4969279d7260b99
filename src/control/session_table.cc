#include "control/session_table.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::control {
namespace {

absl::Status NoRegion(absl::string_view name) {
  return absl::NotFoundError(
      absl::StrCat("region \"", name, "\": none of that name is published"));
}

}  // namespace

absl::Status RegionTable::Publish(absl::string_view name,
                                  const Region& region) {
  ND_RETURN_IF_ERROR(CheckRegion(name, region));
  if (regions_.contains(name)) {
    return absl::AlreadyExistsError(
        absl::StrCat("region \"", name, "\": one of that name is published"));
  }
  if (regions_.size() >= max_regions_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("region \"", name, "\": ", max_regions_,
                     " are published, which is the limit"));
  }
  regions_.emplace(name, region);
  return absl::OkStatus();
}

absl::StatusOr<Region> RegionTable::Find(absl::string_view name) const {
  const auto found = regions_.find(name);
  if (found == regions_.end()) return NoRegion(name);
  return found->second;
}

absl::StatusOr<Region> RegionTable::Withdraw(absl::string_view name) {
  const auto found = regions_.find(name);
  if (found == regions_.end()) return NoRegion(name);
  const Region region = found->second;
  regions_.erase(found);
  return region;
}

absl::StatusOr<uint64_t> SessionTable::Begin(absl::string_view client,
                                             const Token& secret,
                                             const SessionLayout& layout,
                                             Random& random) {
  if (sessions_.size() >= options_.max_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the server has ", options_.max_sessions,
                     " sessions, which is its limit"));
  }
  if (full()) {
    absl::Status status = absl::ResourceExhaustedError(
        absl::StrCat("the server sets up ", options_.max_set_ups,
                     " sessions, which is its limit at a time"));
    status.SetPayload(kTryAgain, absl::Cord());
    return status;
  }
  uint64_t id = 0;
  while (id == 0 || sessions_.contains(id)) id = random.Next();
  Session session;
  session.client = std::string(client);
  session.secret = secret;
  session.layout = layout;
  session.of_client = RegionTable(options_.max_regions);
  session.of_server = RegionTable(options_.max_regions);
  session.links.resize(layout.links());
  sessions_.emplace(id, std::move(session));
  ++set_ups_;
  return id;
}

void SessionTable::Opened(uint64_t id, Duration patience, Instant now) {
  Session& session = sessions_.at(id);
  session.open = true;
  session.patience = patience;
  session.set_up_by = now + patience;
}

std::optional<SessionTable::Session> SessionTable::Remove(uint64_t id) {
  auto node = sessions_.extract(id);
  if (node.empty()) return std::nullopt;
  if (!node.mapped().set_up) --set_ups_;
  return std::move(node.mapped());
}

SessionTable::Session* SessionTable::Find(uint64_t id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

absl::StatusOr<SessionTable::Session*> SessionTable::Find(uint64_t id,
                                                          const Token& secret) {
  Session* const session = Find(id);
  if (session != nullptr && session->open && session->secret.Matches(secret)) {
    return session;
  }
  return absl::NotFoundError(absl::StrCat(
      SessionName(id), ": is not known to the server: it was closed, its ",
      "set-up took too long, the server was started again, or its secret is ",
      "another one"));
}

std::vector<LinkId> SessionTable::AllLinks(const Session& session) {
  std::vector<LinkId> links;
  for (const Session::Link& link : session.links) {
    links.push_back({.number = static_cast<uint32_t>(links.size()),
                     .incarnation = link.incarnation});
  }
  return links;
}

absl::StatusOr<std::vector<LinkId>> SessionTable::Reconnect(
    Session& session, std::span<const uint32_t> numbers) {
  if (numbers.empty()) return absl::InvalidArgumentError("links: none");
  std::set<uint32_t> seen;
  for (const uint32_t number : numbers) {
    ND_RETURN_IF_ERROR(
        CheckRange("links", number, 0, session.links.size() - 1));
    if (seen.insert(number).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("links: ", number, " is there twice"));
  }
  std::vector<LinkId> next;
  for (const uint32_t number : numbers) {
    Session::Link& link = session.links[number];
    ++link.incarnation;
    link.exchange = Session::Exchange::kNone;
    next.push_back({.number = number, .incarnation = link.incarnation});
  }
  return next;
}

absl::Status SessionTable::BeginExchange(Session& session, LinkId id) {
  ND_RETURN_IF_ERROR(
      CheckRange("link.number", id.number, 0, session.links.size() - 1));
  Session::Link& link = session.links[id.number];
  if (id.incarnation != link.incarnation) {
    return absl::FailedPreconditionError(
        absl::StrCat("link.incarnation: ", id.incarnation, ", but link ",
                     id.number, " is at ", link.incarnation));
  }
  if (link.exchange != Session::Exchange::kNone) {
    return absl::FailedPreconditionError(
        absl::StrCat("link: ", id.number, ", incarnation ", id.incarnation,
                     ", was exchanged already"));
  }
  link.exchange = Session::Exchange::kUnderWay;
  return absl::OkStatus();
}

void SessionTable::EndExchange(uint64_t id, LinkId link_id, bool ok,
                               Instant now) {
  Session* const session = Find(id);
  if (session == nullptr) return;
  Session::Link& link = session->links[link_id.number];
  if (link.incarnation != link_id.incarnation) return;
  link.exchange = ok ? Session::Exchange::kDone : Session::Exchange::kNone;
  if (!ok) return;
  link.was_made = true;
  session->set_up_by = now + session->patience;
  if (session->set_up ||
      !std::ranges::all_of(session->links, &Session::Link::was_made)) {
    return;
  }
  session->set_up = true;
  --set_ups_;
}

std::vector<uint64_t> SessionTable::Late(Instant now) const {
  std::vector<uint64_t> late;
  for (const auto& [id, session] : sessions_) {
    if (session.open && !session.set_up && now >= session.set_up_by) {
      late.push_back(id);
    }
  }
  return late;
}

std::vector<uint64_t> SessionTable::ids() const {
  std::vector<uint64_t> ids;
  for (const auto& [id, session] : sessions_) ids.push_back(id);
  return ids;
}

}  // namespace nd::control

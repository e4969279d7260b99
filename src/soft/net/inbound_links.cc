#include "soft/net/inbound_links.h"

#include <algorithm>
#include <utility>

#include "absl/base/attributes.h"
#include "base/status.h"

namespace nd::soft {
namespace {

// Frames of one sender before it is the next one's turn.
constexpr size_t kFramesATurn = 16;

// Links from other users, of whom at most a few hold the UDP port in turn.
constexpr ptrdiff_t kMaxUntrusted = 16;

}  // namespace

absl::Status InboundLinks::Adopt(std::array<Fd, 2> offer, bool trusted,
                                 pid_t pid) {
  if (!trusted && std::ranges::count_if(links_, [](const auto& sender) {
                    return !sender->trusted;
                  }) >= kMaxUntrusted) {
    return absl::ResourceExhaustedError("too many links from other users");
  }
  if (links_.size() >= max_links_) {
    return absl::ResourceExhaustedError("too many links from other processes");
  }
  ND_ASSIGN_OR_RETURN(InboundLink link, InboundLink::Adopt(std::move(offer)));
  const uint32_t id = next_id_++;
  ND_RETURN_IF_ERROR(events_.Add(
      link.bell().fd(), {.kind = EventToken::Kind::kInbound, .number = id}));
  auto& sender = *links_.emplace_back(std::make_unique<Sender>(
      Sender{.id = id, .trusted = trusted, .link = std::move(link)}));
  sender.lender =
      std::make_shared<Lender>(pid, fetches_ && trusted, sender.link.ring());
  sender.lender->Invite(invites_);
  return absl::OkStatus();
}

void InboundLinks::Invite(bool invited) {
  if (std::exchange(invites_, invited) == invited) return;
  for (const auto& sender : links_) sender->lender->Invite(invited);
}

ABSL_ATTRIBUTE_HOT size_t InboundLinks::Receive(size_t budget,
                                                PeerFrameSink sink) {
  if (std::exchange(resting_, false)) [[unlikely]] {
    for (const auto& sender : links_) sender->link.ring().StopResting();
  }
  size_t received = 0;
  const size_t count = links_.size();
  bool enough = false;
  bool any_finished = false;
  for (size_t i = 0; i < count && received < budget && !enough; ++i) {
    turn_ = turn_ + 1 < count ? turn_ + 1 : 0;
    received +=
        ReceiveFrom(*links_[turn_], std::min(kFramesATurn, budget - received),
                    sink, enough);
    any_finished |= links_[turn_]->finished;
  }
  if (any_finished) [[unlikely]]
    DropFinished();
  return received;
}

void InboundLinks::DropFinished() {
  std::erase_if(links_, [](const auto& sender) {
    if (sender->finished) sender->lender->StopFetching();
    return sender->finished;
  });
}

ABSL_ATTRIBUTE_HOT size_t InboundLinks::ReceiveFrom(Sender& sender,
                                                    size_t budget,
                                                    PeerFrameSink sink,
                                                    bool& enough) {
  RingConsumer& ring = sender.link.ring();
  RingState state = RingState::kRecord;
  size_t received = 0;
  for (; received < budget && !enough; ++received) {
    PeerFrame frame{.trusted = sender.trusted,
                    .ends = &sender.ends,
                    .lender = &sender.lender};
    state = ring.Peek(frame.bytes);
    if (state != RingState::kRecord) break;
    enough = !sink(frame);
    ring.Pop();
  }
  // While there is more to come, room is given back in large parts.
  if (received == 0 ? ring.Publish() : ring.PublishMuch()) {
    sender.link.bell().Ring();
  }
  if (state == RingState::kBroken) [[unlikely]]
    HangUp(sender);
  if (sender.hung_up && state != RingState::kRecord) [[unlikely]]
    sender.finished = true;
  return received;
}

bool InboundLinks::empty() const {
  return std::ranges::all_of(
      links_, [](const auto& sender) { return sender->link.ring().empty(); });
}

void InboundLinks::Mark() {
  for (const auto& sender : links_) sender->link.ring().Mark();
}

bool InboundLinks::PassedMark() const {
  return std::ranges::all_of(links_, [](const auto& sender) {
    return sender->link.ring().PassedMark();
  });
}

bool InboundLinks::Rest() {
  resting_ = true;
  return std::ranges::all_of(
      links_, [](const auto& sender) { return sender->link.ring().Rest(); });
}

void InboundLinks::OnBell(uint32_t id, bool hung_up) {
  const auto sender = std::ranges::find_if(
      links_, [id](const auto& sender) { return sender->id == id; });
  if (sender == links_.end()) return;
  if (!(*sender)->link.bell().Silence() || hung_up) HangUp(**sender);
}

void InboundLinks::HangUp(Sender& sender) {
  if (sender.hung_up) return;
  sender.hung_up = true;
  events_.Remove(sender.link.bell().fd());
}

}  // namespace nd::soft

#include "soft/net/groups.h"

#include <array>
#include <cerrno>
#include <utility>

#include "base/status.h"

namespace nd::soft {
namespace {

constexpr uint32_t kSlots = 1 << kSlotBits;  // 0 is nobody's

// News that are taken at a time: what is left of them is news the next time.
constexpr int kNews = 16;

// What sending to a name says about it: a socket that takes no more is there.
bool IsThere(int error) {
  return error == 0 || error == EAGAIN || error == ENOBUFS;
}

}  // namespace

absl::Status Groups::Join(const Gid& group) {
  ND_ASSIGN_OR_RETURN(UnixSocket socket,
                      UnixSocket::Bind(names_.Group(group, slot_)));
  joined_.emplace(group, std::move(socket));
  Tell();
  return absl::OkStatus();
}

void Groups::Leave(const Gid& group) {
  if (joined_.erase(group) > 0) Tell();
}

// Where the socket is full there are news that were not taken yet.
void Groups::Tell() const {
  for (uint32_t slot = 1; slot < kSlots; ++slot) {
    if (slot != slot_) (void)socket_.SendTo(names_.GroupNews(slot), {});
  }
}

std::span<const uint32_t> Groups::Others(const Gid& group) {
  const bool lasting = TakeNews();
  if (!lasting || known_.size() >= kMaxKnown) known_.clear();
  const auto known = known_.find(group);
  if (known != known_.end()) return known->second;
  return known_[group] = Look(group);
}

bool Groups::TakeNews() {
  if (!news_.has_value()) {
    auto socket = UnixSocket::Bind(names_.GroupNews(slot_));
    if (!socket.ok()) return false;
    news_.emplace(*std::move(socket));
    known_.clear();
  }
  std::array<std::byte, 1> buffer;
  for (int i = 0; i < kNews && news_->Receive(buffer).has_value(); ++i) {
    known_.clear();
  }
  return true;
}

std::vector<uint32_t> Groups::Look(const Gid& group) const {
  std::vector<uint32_t> slots;
  for (uint32_t slot = 1; slot < kSlots; ++slot) {
    if (slot != slot_ &&
        IsThere(socket_.SendTo(names_.Group(group, slot), {}))) {
      slots.push_back(slot);
    }
  }
  return slots;
}

}  // namespace nd::soft

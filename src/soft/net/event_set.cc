#include "soft/net/event_set.h"

#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::soft {
namespace {

constexpr int kNumberBits = 32;

epoll_event Interest(uint32_t events, EventToken token) {
  epoll_event interest{};
  interest.events = events;
  interest.data.u64 =
      uint64_t{static_cast<uint8_t>(token.kind)} << kNumberBits | token.number;
  return interest;
}

EventToken TokenOf(const epoll_event& event) {
  return {.kind = static_cast<EventToken::Kind>(event.data.u64 >> kNumberBits),
          .number = static_cast<uint32_t>(event.data.u64)};
}

}  // namespace

absl::StatusOr<EventSet> EventSet::Create() {
  Fd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "epoll_create1");
  return EventSet(std::move(fd));
}

absl::Status EventSet::Add(int fd, EventToken token) {
  epoll_event interest = Interest(EPOLLIN, token);
  if (epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &interest) != 0) {
    return ErrnoStatus(errno, absl::StrCat("epoll_ctl, descriptor ", fd));
  }
  return absl::OkStatus();
}

void EventSet::Remove(int fd) {
  epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void EventSet::WatchWritable(int fd, EventToken token, bool watch) {
  epoll_event interest =
      Interest(watch ? EPOLLIN | EPOLLOUT : uint32_t{EPOLLIN}, token);
  epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &interest);
}

std::span<const Event> EventSet::Poll(
    std::span<Event, kMaxEvents> events) const {
  std::array<epoll_event, kMaxEvents> ready;
  const int count = epoll_wait(fd_.get(), ready.data(), kMaxEvents, 0);
  if (count <= 0) return {};
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    events[i] = {.token = TokenOf(ready[i]),
                 .readable = (ready[i].events & EPOLLIN) != 0,
                 .writable = (ready[i].events & EPOLLOUT) != 0,
                 .hung_up = (ready[i].events & (EPOLLHUP | EPOLLERR)) != 0};
  }
  return events.first(static_cast<size_t>(count));
}

}  // namespace nd::soft

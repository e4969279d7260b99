#include "tcp_proxy.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <utility>

#include "api/addresses.h"
#include "base/clock.h"

namespace nd {
namespace {

// All of it; false when the connection is over.
bool Forward(int from, int to) {
  std::array<char, 4096> bytes;
  const ssize_t size = read(from, bytes.data(), bytes.size());
  for (ssize_t sent = 0; sent < size;) {
    const ssize_t more = send(to, bytes.data() + sent,
                              static_cast<size_t>(size - sent), MSG_NOSIGNAL);
    if (more < 0) return false;
    sent += more;
  }
  return size > 0;
}

}  // namespace

TcpProxy::TcpProxy(const std::string& server)
    : server_(api::FindHost(server, Deadline::After(std::chrono::seconds(20)))
                  .value()) {
  verbs::SocketAddress own = server_;
  own.set_port(0);
  listener_ = Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(listener_.get(), own.get(), own.size()), 0);
  EXPECT_EQ(listen(listener_.get(), 16), 0);
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  EXPECT_EQ(
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &size),
      0);
  address_ =
      verbs::SocketAddress::From(reinterpret_cast<const sockaddr&>(bound))
          .value()
          .ToString();
  wake_ = Fd(eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { Serve(); });
}

TcpProxy::~TcpProxy() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  EXPECT_EQ(eventfd_write(wake_.get(), 1), 0);
  thread_.join();
}

void TcpProxy::Cut(bool down) {
  const absl::MutexLock lock(&mutex_);
  down_ = down;
  for (const Fd& end : ends_) shutdown(end.get(), SHUT_RDWR);
}

void TcpProxy::Serve() {
  for (;;) {
    std::vector<pollfd> polled = {{wake_.get(), POLLIN, 0},
                                  {listener_.get(), POLLIN, 0}};
    {
      const absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      for (const Fd& end : ends_) polled.push_back({end.get(), POLLIN, 0});
    }
    poll(polled.data(), polled.size(), -1);
    if (polled[1].revents != 0) Accept();
    for (size_t i = polled.size(); i-- > 2;) {
      if (polled[i].revents == 0 || polled[i].fd < 0) continue;
      const size_t other = i ^ 1;
      if (Forward(polled[i].fd, polled[other].fd)) continue;
      const absl::MutexLock lock(&mutex_);
      const auto pair = ends_.begin() + static_cast<ptrdiff_t>((i - 2) / 2 * 2);
      ends_.erase(pair, pair + 2);
      polled[other].fd = -1;
    }
  }
}

void TcpProxy::Accept() {
  Fd near(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Fd far(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const absl::MutexLock lock(&mutex_);
  if (down_ || connect(far.get(), server_.get(), server_.size()) != 0) return;
  ends_.push_back(std::move(near));
  ends_.push_back(std::move(far));
}

}  // namespace nd

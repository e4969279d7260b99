// A TCP connection's middle, where it can be cut.
#ifndef ND_TESTS_API_TCP_PROXY_H_
#define ND_TESTS_API_TCP_PROXY_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/fd.h"
#include "verbs/address.h"

namespace nd {

// Hands connections to its address on to `server`, an IPv4 "host:port".
class TcpProxy {
 public:
  explicit TcpProxy(const std::string& server);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  const std::string& address() const { return address_; }
  // Breaks all connections, and while `down` refuses more.
  void Cut(bool down);

 private:
  void Serve();
  void Accept();

  const verbs::SocketAddress server_;
  std::string address_;
  Fd listener_, wake_;
  absl::Mutex mutex_;
  bool down_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Both ends of each, side by side.
  std::vector<Fd> ends_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace nd

#endif  // ND_TESTS_API_TCP_PROXY_H_

// Both ends of a test without RDMA: sides and connections that do what a test
// tells them to.
#ifndef ND_TESTS_NDPING_FAKE_RDMA_H_
#define ND_TESTS_NDPING_FAKE_RDMA_H_

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/until_true.h"
#include "base/wait.h"
#include "ndping/harness/reception.h"

namespace nd::ndping {

// Returns when the test has ended elsewhere, as a data loop does.
inline absl::Status UntilCancelled(const Cancellation* cancel) {
  WaitReadable(cancel->fd(), Deadline::After(kLongTime), nullptr).IgnoreError();
  return absl::CancelledError("");
}

// What the TestSide of one end does. The defaults make a test of three messages
// a phase that goes well.
struct FakeBehaviour {
  static absl::StatusOr<v1::PhaseReport> GoodRun(uint32_t index,
                                                 PhaseControl& control,
                                                 Histogram* latencies) {
    v1::PhaseDone mine;
    mine.add_initiated(3);
    control.messages = 3;
    if (latencies != nullptr) latencies->RecordMany(1000 + index, 3);
    absl::StatusOr<v1::PhaseDone> done = control.ExchangeDone(mine);
    if (!done.ok()) return done.status();
    v1::PhaseReport report;
    report.set_messages(3);
    report.set_received(done->initiated(0));
    return report;
  }

  // Connects or accepts; a failure is returned after it.
  std::function<absl::Status(const Cancellation*)> connect =
      [](const Cancellation*) { return absl::OkStatus(); };
  std::function<absl::Status(uint32_t)> prepare = [](uint32_t) {
    return absl::OkStatus();
  };
  std::function<absl::StatusOr<v1::PhaseReport>(uint32_t, PhaseControl&,
                                                Histogram*)>
      run = GoodRun;
  std::function<absl::Status(const Cancellation*)> watch = UntilCancelled;
};

class FakeSide final : public TestSide {
 public:
  explicit FakeSide(const FakeBehaviour& behaviour) : behaviour_(behaviour) {}

  v1::Layout layout() const override {
    v1::Layout layout;
    layout.add_queues()->mutable_data()->set_rkey(0x1234);
    return layout;
  }
  absl::Status SetPeerLayout(const v1::Layout& layout) override {
    if (layout.queues_size() == 1 && layout.queues(0).data().rkey() == 0x1234) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError("the layout has not one queue");
  }
  absl::Status Prepare(uint32_t index) override {
    return behaviour_.prepare(index);
  }
  absl::StatusOr<v1::PhaseReport> Run(uint32_t index, PhaseControl& control,
                                      Histogram* latencies) override {
    return behaviour_.run(index, control, latencies);
  }
  absl::Status WatchConnections(const Deadline&,
                                const Cancellation* cancel) override {
    return behaviour_.watch(cancel);
  }
  void Disconnect() override {}

 private:
  const FakeBehaviour behaviour_;
};

// The wire between FakeDialer and FakeReception.
struct FakeWire {
  struct Link {
    absl::Notification disconnected;
  };
  absl::Mutex mutex;
  std::deque<std::shared_ptr<Link>> requests;
  int open = 0;  // of both ends
  int most_open = 0;
  std::string token = "0123456789abcdef";
  FakeBehaviour client, server;
  absl::Status refuse;  // what the client's bare connections meet
  uint32_t refuse_from = ~0u;
};

class FakeConnection final : public BareConnection {
 public:
  FakeConnection(FakeWire& wire, std::shared_ptr<FakeWire::Link> link)
      : wire_(wire), link_(std::move(link)) {
    absl::MutexLock lock(&wire_.mutex);
    wire_.most_open = std::max(wire_.most_open, ++wire_.open);
  }
  ~FakeConnection() override {
    absl::MutexLock lock(&wire_.mutex);
    --wire_.open;
  }
  absl::Status AwaitDisconnect(const Deadline&,
                               const Cancellation* cancel) override {
    return UntilTrue([this] { return link_->disconnected.HasBeenNotified(); },
                     cancel);
  }
  absl::Status Disconnect(const Deadline&, const Cancellation*) override {
    link_->disconnected.Notify();
    return absl::OkStatus();
  }

 private:
  FakeWire& wire_;
  const std::shared_ptr<FakeWire::Link> link_;
};

class FakeGuest final : public Guest {
 public:
  explicit FakeGuest(FakeWire& wire) : wire_(wire) {}

  std::string token() const override { return wire_.token; }
  absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options&, const Deadline&,
      const Cancellation* cancel) override {
    if (absl::Status s = wire_.server.connect(cancel); !s.ok()) return s;
    return std::make_unique<FakeSide>(wire_.server);
  }
  absl::StatusOr<std::unique_ptr<BareConnection>> AcceptBare(
      const v1::TestSpec&, const Deadline&,
      const Cancellation* cancel) override {
    std::shared_ptr<FakeWire::Link> link;
    const absl::Status waited = UntilTrue(
        [&] {
          absl::MutexLock lock(&wire_.mutex);
          if (wire_.requests.empty()) return false;
          link = wire_.requests.front();
          wire_.requests.pop_front();
          return true;
        },
        cancel);
    if (!waited.ok()) return waited;
    return std::make_unique<FakeConnection>(wire_, link);
  }

 private:
  FakeWire& wire_;
};

class FakeReception final : public Reception {
 public:
  explicit FakeReception(FakeWire& wire) : wire_(wire) {}

  absl::StatusOr<std::unique_ptr<Guest>> Invite(uint32_t) override {
    return std::make_unique<FakeGuest>(wire_);
  }
  absl::StatusOr<std::unique_ptr<Guest>> InviteSession(const v1::TestSpec&,
                                                       uint64_t) override {
    return std::make_unique<FakeGuest>(wire_);
  }
  verbs::SocketAddress address() const override {
    return *verbs::SocketAddress::Parse("127.0.0.1", 7471);
  }
  uint64_t accepted() const override { return 5; }
  uint64_t rejected() const override { return 6; }

 private:
  FakeWire& wire_;
};

class FakeDialer final : public Dialer {
 public:
  explicit FakeDialer(FakeWire& wire) : wire_(wire) {}

  absl::StatusOr<std::unique_ptr<TestSide>> Connect(
      const TestSide::Options&, const Target& target, const Deadline&,
      const Cancellation* cancel) override {
    if (absl::Status s = CheckTarget(target); !s.ok()) return s;
    if (absl::Status s = wire_.client.connect(cancel); !s.ok()) return s;
    return std::make_unique<FakeSide>(wire_.client);
  }
  absl::StatusOr<std::unique_ptr<BareConnection>> ConnectBare(
      const v1::TestSpec&, const Target& target, uint32_t index,
      const Deadline&, const Cancellation*) override {
    if (absl::Status s = CheckTarget(target); !s.ok()) return s;
    if (index >= wire_.refuse_from) return wire_.refuse;
    auto link = std::make_shared<FakeWire::Link>();
    {
      absl::MutexLock lock(&wire_.mutex);
      wire_.requests.push_back(link);
    }
    return std::make_unique<FakeConnection>(wire_, link);
  }

 private:
  absl::Status CheckTarget(const Target& target) const {
    if (target.token.bytes() != wire_.token) {
      return absl::PermissionDeniedError("wrong token");
    }
    if (target.server.ToString() == "127.0.0.1:7471") return absl::OkStatus();
    return absl::NotFoundError(target.server.ToString());
  }

  FakeWire& wire_;
};

}  // namespace nd::ndping

#endif  // ND_TESTS_NDPING_FAKE_RDMA_H_

// Two sessions on devices, each in a reactor with a thread of its own,
// connected through rdma_cm.
#ifndef ND_TESTS_TRANSPORT_ENDPOINT_RUNTIME_PAIR_H_
#define ND_TESTS_TRANSPORT_ENDPOINT_RUNTIME_PAIR_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "transport/endpoint/session_runtime.h"
#include "verbs/listener.h"

namespace nd::transport {

// Far more than any test takes.
inline Instant Late() {
  return Clock::Monotonic().Now() + std::chrono::seconds(60);
}

// One end.
class Side final : public SessionOwner {
 public:
  Side(Reactor::Progress progress, const SessionLayout& layout, bool client);
  ~Side() override;

  Hub& hub() { return *hub_; }
  Engine& engine() { return hub_->engine(); }
  SessionRuntime& runtime() { return *runtime_; }
  // Runs it on the reactor's thread.
  void On(const std::function<void()>& work);

  // Before its session is made: what it may register of the application's.
  void LimitRegistrations(size_t bytes) { registrations_.max_bytes = bytes; }

  // A link's set-up, as a thread of its own does it.
  absl::Status Begin(const verbs::CmId& id);  // makes the session, once
  absl::StatusOr<verbs::QueuePair*> Prepare(uint32_t link, uint32_t incarnation,
                                            verbs::CmId& id);
  void Open(uint32_t link, std::unique_ptr<verbs::CmId> id);
  void Abandon(uint32_t link);

  // Operations of any thread.
  void Send(Stream& stream, SendOperation& operation);
  void Receive(Stream& stream, ReceiveOperation& operation);
  void Close(Stream& stream);

  void Break(uint32_t link);  // moves its QP to the error state
  // The application is through with the session.
  void Bury();
  bool destroyed() const { return alive_.expired(); }

  uint32_t free_links() const { return free_links_; }  // told so far, by bit
  std::optional<absl::Status> ended() const;

 private:
  void OnLinkFree(uint32_t link) override { free_links_ |= 1u << link; }
  void OnEnded(const absl::Status& why) override;

  const SessionLayout layout_;
  const bool client_;
  RegistrationCache::Options registrations_ =
      SessionRuntime::Options().registrations;
  std::unique_ptr<Hub> hub_;
  std::unique_ptr<SessionRuntime> runtime_;
  std::weak_ptr<Budget> alive_;         // the session has it
  std::vector<verbs::QueuePair*> qps_;  // the reactor's thread's
  std::atomic<uint32_t> free_links_{0};
  mutable std::mutex mutex_;
  std::optional<absl::Status> ended_;  // under mutex_
};

class RuntimePair {
 public:
  // 0 connects, 1 listens.
  explicit RuntimePair(Reactor::Progress progress,
                       const SessionLayout& layout = {});

  Side& side(size_t which) { return *sides_[which]; }
  verbs::Listener& listener() { return *listener_; }

  // Each side in a thread of its own.
  absl::Status Connect(uint32_t link, uint32_t incarnation = 0);
  absl::Status ConnectAll();
  // A resolved id of side 0.
  absl::StatusOr<std::unique_ptr<verbs::CmId>> Resolve();
  absl::Status ConnectClient(uint32_t link, uint32_t incarnation);
  absl::Status AcceptServer(uint32_t link, uint32_t incarnation);

  // A stream that side `from` opens, as both see it.
  std::array<Stream*, 2> OpenStream(size_t from, MessageClass message_class);

 private:
  const SessionLayout layout_;
  std::array<std::unique_ptr<Side>, 2> sides_;
  std::unique_ptr<verbs::Listener> listener_;
};

// An accept of any thread.
struct SubmittedAccept : AcceptOperation {
  void Submit(Side& side);
  Stream* stream() { return OperationAccess::TakeAccepted(*this); }
  SessionRuntime* runtime = nullptr;
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_ENDPOINT_RUNTIME_PAIR_H_

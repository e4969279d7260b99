// A session on a device: the protocol's core, its queue pairs and its memory,
// polled by a reactor's engine.
#ifndef ND_TRANSPORT_ENDPOINT_SESSION_RUNTIME_H_
#define ND_TRANSPORT_ENDPOINT_SESSION_RUNTIME_H_

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "transport/endpoint/hub.h"
#include "transport/link/pool_memory.h"
#include "transport/link/verbs_carrier.h"
#include "transport/memory/budget.h"
#include "transport/memory/registered_pool.h"
#include "transport/memory/registration_cache.h"
#include "transport/memory/verbs_registrar.h"
#include "transport/reactor/engine.h"
#include "transport/session/session_core.h"
#include "verbs/cm.h"
#include "verbs/memory.h"
#include "verbs/queue_pair.h"

namespace nd::transport {

// What a session tells of itself: on the engine's thread, at the end of a turn,
// so that it may be called back.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual void OnStreamOpened() {}
  // The link has no connection any more and may be made anew.
  virtual void OnLinkFree(uint32_t link) { (void)link; }
  virtual void OnEnded(const absl::Status& why) { (void)why; }
};

class SessionRuntime final : public Pollable, private SessionEvents {
 public:
  struct Options {
    SessionLayout layout{};
    bool client = false;
    Duration reconnect{};
    uint64_t receive_budget = uint64_t{64} << 20;  // of large messages, bytes
    // Of all sessions; may be null.
    std::shared_ptr<Budget> send_memory{}, receive_memory{};
    // By default of as much as the application has under way, which is its own
    // memory: none is kept.
    RegistrationCache::Options registrations{
        .max_bytes = std::numeric_limits<size_t>::max()};
    std::string name;  // "session 00000000075bcd15 with 10.0.0.2"
  };

  // Requests that may be outstanding on a link, where the device takes so many.
  static constexpr uint32_t kSendDepth = 64;

  // Any thread. `owner` outlives it or is taken from it by Abandon.
  static absl::StatusOr<std::unique_ptr<SessionRuntime>> Create(
      Hub& hub, std::shared_ptr<HubDevice> device, Options options,
      SessionOwner& owner);
  ~SessionRuntime() override;

  const std::string& name() const { return options_.name; }
  const SessionLayout& layout() const { return options_.layout; }
  const std::shared_ptr<HubDevice>& device() const { return device_; }
  uint32_t send_depth() const { return send_depth_; }
  // Any thread: registers for this session's connections.
  const std::shared_ptr<Registrar>& registrar() const { return registrar_; }

  // --- the engine's thread, once it is attached ---

  SessionCore& core() { return *core_; }

  // Setting a link up takes three steps; a QP that was prepared is there until
  // OpenLink or AbandonLink. Another thread moves it to RTS between the two.
  //
  // `id` is resolved, or a request. FAILED_PRECONDITION: the link is there.
  absl::StatusOr<verbs::QueuePair*> PrepareLink(uint32_t link,
                                                uint32_t incarnation,
                                                verbs::CmId& id);
  // Where the peer writes packets of a prepared link; of no bytes where the
  // layout has no ring.
  struct Ring {
    RemotePlace begin{};
    uint64_t size = 0;
  };
  Ring RingOf(uint32_t link) const;
  // `id` reads its events from the hub's channel. `peer_ring`: where the peer's
  // begins.
  void OpenLink(uint32_t link, std::unique_ptr<verbs::CmId> id,
                const RemotePlace& peer_ring);
  void AbandonLink(uint32_t link, absl::Status why);
  // Of a link that is not free.
  const verbs::QueuePair& queue_pair(uint32_t link) const {
    return links_[link].carrier->queue_pair();
  }
  bool LinkIsFree(uint32_t link) const {
    return links_[link].carrier == nullptr;
  }

  // Its owner is no more: whatever is under way ends, streams that nobody took
  // are closed. `on_idle` is called when it may be destroyed.
  void Abandon(std::function<void()> on_idle);
  bool parted() const;  // nothing of it is with a device
  bool idle() const;    // nor with the application

  // Of the hub.
  const verbs::CompletionQueue& queue() const { return *cq_; }
  void OnCompletionEvent() { armed_ = false; }
  bool TakeCmEvents();

  // Pollable:
  void Hasten() override;
  bool Turn(Instant now) override;
  Instant NextDeadline() const override;
  bool Arm() override;

 private:
  struct LinkSlot {
    std::unique_ptr<VerbsCarrier> carrier;
    std::unique_ptr<verbs::CmId> id;  // null while it is set up
    bool sets_up = false;
  };
  static constexpr size_t kTurnCompletions = 16;

  SessionRuntime(Hub& hub, std::shared_ptr<HubDevice> device, Options options,
                 SessionOwner& owner);
  absl::Status Init();
  absl::StatusOr<std::unique_ptr<verbs::QueuePair>> CreateQp();
  bool TakeCompletions(Instant& now);
  void HandOn(const verbs::Completion& completion, Instant now);
  bool TakePutOff(Instant now);
  bool AdvanceLinks(Instant now);
  // Whether it took what was put off.
  bool PumpAll(Instant now);
  void TellOwner();
  ABSL_ATTRIBUTE_COLD void FailQueue(absl::Status why);

  // SessionEvents:
  void OnStreamOpened() override { stream_opened_ = true; }
  void OnLinkFree(uint32_t link) override { free_links_ |= 1u << link; }
  void OnEnded(const absl::Status& why) override { ended_ = why; }
  void OnCall() override;
  Instant Now() override { return hub_.engine().Now(); }
  bool TakeRelease(Stream& stream, uint64_t number) override;

  Hub& hub_;
  const std::shared_ptr<HubDevice> device_;
  const Options options_;
  SessionOwner* owner_;
  std::shared_ptr<verbs::ProtectionDomain> pd_;
  uint32_t max_pieces_ = 1;
  // Of all links: to poll one that is empty may cost more than what comes.
  std::shared_ptr<verbs::CompletionQueue> cq_;

  std::shared_ptr<Registrar> registrar_;
  std::shared_ptr<Budget> send_budget_, receive_budget_;
  std::unique_ptr<RegisteredPool> send_pool_, stage_pool_, slot_pool_,
      loan_pool_, ring_pool_;
  std::unique_ptr<RegistrationCache> cache_;
  std::unique_ptr<PoolMemory> memory_;
  Buffer slot_bytes_;
  std::vector<ReceiveSlot> slots_;
  std::unique_ptr<SessionCore> core_;
  std::vector<LinkSlot> links_;

  std::array<verbs::Completion, kTurnCompletions> completions_;  // of a poll
  size_t put_off_ = 0;  // of them, from the first on: until PumpAll has sent
  uint32_t send_depth_ = kSendDepth;
  bool armed_ = false;
  bool queue_failed_ = false;  // the device does not serve it any more
  bool in_turn_ = false;
  bool sent_ = false;    // something, since the turn's time was read
  bool called_ = false;  // by the application, since the last Pump
  bool pump_due_ = false;
  Instant pump_at_{};
  bool stream_opened_ = false;
  uint32_t free_links_ = 0;  // by bit
  std::optional<absl::Status> ended_;
  std::function<void()> on_idle_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_ENDPOINT_SESSION_RUNTIME_H_

// Two sessions over queue pairs that were connected by hand, in one thread.
#ifndef ND_TESTS_TRANSPORT_LINK_SESSION_PAIR_H_
#define ND_TESTS_TRANSPORT_LINK_SESSION_PAIR_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "transport/link/pool_memory.h"
#include "transport/link/verbs_carrier.h"
#include "transport/memory/verbs_registrar.h"
#include "transport/session/session_core.h"
#include "verbs/hand_pair.h"

namespace nd::transport {

class SessionPair {
 public:
  explicit SessionPair(const SessionLayout& layout);
  ~SessionPair();

  SessionCore& core(size_t side) { return *sides_[side]->core; }
  const std::shared_ptr<verbs::ProtectionDomain>& pd(size_t side) const {
    return sides_[side]->pd;
  }
  // Moves one end's QP to the error state, as a broken connection would.
  void Break(size_t side, uint32_t link);
  // Polls both ends until `done`; false after 20 s.
  bool Run(const std::function<bool()>& done);
  const std::optional<absl::Status>& ended(size_t side) const {
    return sides_[side]->ended;
  }

 private:
  struct Side final : SessionEvents {
    Side(size_t which, const SessionLayout& layout);
    ~Side() override;
    void OnEnded(const absl::Status& why) override { ended = why; }
    std::unique_ptr<verbs::QueuePair> NewQp() const;
    void Turn();

    const SessionLayout layout;
    std::shared_ptr<verbs::Context> context;
    std::shared_ptr<verbs::ProtectionDomain> pd;
    std::shared_ptr<verbs::CompletionQueue> cq;
    verbs::GidEntry gid;
    std::shared_ptr<Registrar> registrar;
    std::shared_ptr<Budget> budget;
    std::unique_ptr<RegisteredPool> slot_pool;
    std::unique_ptr<RegisteredPool> loan_pool;
    std::unique_ptr<RegistrationCache> cache;
    std::unique_ptr<PoolMemory> memory;
    Buffer slot_bytes;
    std::vector<ReceiveSlot> slots;
    std::unique_ptr<SessionCore> core;
    std::vector<std::unique_ptr<VerbsCarrier>> carriers;  // by link
    std::optional<absl::Status> ended;
  };

  void Connect(uint32_t link);

  std::array<std::unique_ptr<Side>, 2> sides_;
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_LINK_SESSION_PAIR_H_

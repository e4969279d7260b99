// The receiving side of one QP in a bandwidth test.
#ifndef ND_NDPING_ENGINE_TARGET_H_
#define ND_NDPING_ENGINE_TARGET_H_

#include <cstdint>

#include "absl/status/status.h"
#include "ndping/engine/flow.h"
#include "ndping/engine/phase.h"
#include "verbs/completion.h"

namespace nd::ndping {

// Takes messages, or notices of them, checks them, posts their receives again,
// and returns credits. Receives are posted again before a credit says so: the
// sender never finds none. One thread.
class Target {
 public:
  Target(VerbsPhase& phase, Queue& queue, Verdict& verdict)
      : phase_(&phase),
        queue_(&queue),
        verdict_(&verdict),
        credits_(phase.plan.credit_every) {}

  // A receive into `slot` is complete.
  absl::Status OnReceive(const verbs::Completion& completion, uint32_t slot);

  // The credit that was under way has arrived.
  absl::Status OnCreditDone();

  uint64_t taken() const { return credits_.taken(); }
  bool credit_under_way() const { return credits_.under_way(); }

 private:
  absl::Status TakeMessage(const verbs::Completion& completion, uint32_t slot);
  absl::Status TakeNotice(uint32_t upto);
  absl::Status ReturnCredit();

  VerbsPhase* phase_;
  Queue* queue_;
  Verdict* verdict_;
  CreditReturn credits_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_TARGET_H_

#include "ndping/engine/phase.h"

#include <time.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

uint64_t ThreadCpuNs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

void Meter::Start(Instant now) {
  started_ = true;
  start_ = now;
  cpu_at_start_ = ThreadCpuNs();
}

void Meter::Stop(Instant now) {
  if (!started_) return;
  elapsed_ns_ = static_cast<uint64_t>((now - start_).count());
  cpu_ns_ = ThreadCpuNs() - cpu_at_start_;
}

void Meter::AddTo(v1::PhaseReport& report) const {
  report.set_elapsed_ns(elapsed_ns_);
  report.set_cpu_ns(cpu_ns_);
}

bool Phase::Cancelled() const {
  const Cancellation* const cancel = control.cancellation();
  return cancel != nullptr && cancel->cancelled();
}

absl::StatusOr<v1::PhaseDone> MeetPeer(const Phase& phase,
                                       std::span<const uint64_t> initiated,
                                       bool interrupted, uint64_t load) {
  v1::PhaseDone mine;
  mine.set_load(load);
  for (const uint64_t count : initiated) mine.add_initiated(count);
  mine.set_interrupted(interrupted);
  ND_ASSIGN_OR_RETURN(v1::PhaseDone peer, phase.control.ExchangeDone(mine));
  if (peer.initiated_size() != static_cast<int>(phase.plan.qps)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer tells of ", peer.initiated_size(),
                     " queues, the test has ", phase.plan.qps));
  }
  return peer;
}

void CheckAtomicTargets(const VerbsPhase& phase, const v1::PhaseDone& peer,
                        Verdict& verdict) {
  for (const Queue& queue : phase.queues) {
    const uint64_t count = peer.initiated(static_cast<int>(queue.index()));
    const uint64_t expected = AtomicValue(queue.index(), count);
    const uint64_t found = queue.AtomicTarget().load();
    if (found == expected) continue;
    verdict.AddFault(absl::StrCat("qp ", queue.index(), ", after ", count,
                                  " atomics: 0x", absl::Hex(found), ", not 0x",
                                  absl::Hex(expected)));
  }
}

}  // namespace nd::ndping

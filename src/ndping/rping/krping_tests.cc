#include "ndping/rping/krping_tests.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/rping/rping_link.h"
#include "verbs/listener.h"

namespace nd::ndping {
namespace {

constexpr Duration kConnectTimeout = std::chrono::seconds(10);
constexpr Duration kStepTimeout = std::chrono::seconds(10);
// The side that only serves waits as long as the other one measures.
constexpr Duration kTestTimeout = std::chrono::hours(1);
constexpr Duration kListenSlice = std::chrono::seconds(1);
// Polls between two looks at the connection and the clock.
constexpr int kPollsPerLook = 4096;
// krping times the first 1000 iterations piece by piece.
constexpr uint32_t kCycleIters = 1000;

class Test {
 public:
  Test(const KrpingOptions& options, const Cancellation& interrupt)
      : options_(options), interrupt_(interrupt) {
    figures_.iterations = options.count;
    figures_.size = options.size;
    figures_.cycle_iters = std::min(options.count, kCycleIters);
  }

  absl::Status Run(std::ostream& out) {
    ND_RETURN_IF_ERROR(options_.server ? Accept(out) : Connect());
    ND_ASSIGN_OR_RETURN(local_,
                        RpingBuffer::Create(link_->pd(), options_.size));
    ND_ASSIGN_OR_RETURN(exposed_,
                        RpingBuffer::Create(link_->pd(), options_.size));
    ND_RETURN_IF_ERROR(SwapAdverts());
    if (Measures()) {
      ND_RETURN_IF_ERROR(Measure());
      out << FormatKrpingFigures(options_.test, figures_) << std::flush;
    }
    if (options_.server) ND_RETURN_IF_ERROR(AwaitDisconnect());
    link_->Disconnect();
    return absl::OkStatus();
  }

 private:
  RpingLink::Options LinkOptions() const {
    const bool reads = options_.test == KrpingTest::kReadLatency;
    return {.wait = reads && !options_.poll ? verbs::WaitMode::kEvent
                                            : verbs::WaitMode::kBusy,
            .rdma_depth = options_.txdepth,
            .interrupt = &interrupt_};
  }

  absl::Status Connect() {
    ND_ASSIGN_OR_RETURN(
        link_,
        RpingLink::Connect({.address = options_.address, .tos = options_.tos},
                           LinkOptions(), Deadline::After(kConnectTimeout)));
    return absl::OkStatus();
  }

  absl::Status Accept(std::ostream& out) {
    ND_ASSIGN_OR_RETURN(const auto listener,
                        verbs::Listener::Create({.address = options_.address}));
    out << "krping: waiting for a client at " << listener->address().ToString()
        << std::endl;
    for (;;) {
      auto event = listener->Next(Deadline::After(kListenSlice), &interrupt_);
      if (absl::IsDeadlineExceeded(event.status())) continue;
      ND_RETURN_IF_ERROR(event);
      ND_ASSIGN_OR_RETURN(
          link_, RpingLink::Accept(std::move(event->request), LinkOptions(),
                                   Deadline::After(kConnectTimeout)));
      return absl::OkStatus();
    }
  }

  absl::Status SwapAdverts() {
    const RpingLink::Step step{.what = "the peer's advert",
                               .timeout = kStepTimeout};
    if (!options_.server) {
      ND_RETURN_IF_ERROR(link_->SendAdvert(exposed_->advert(), step));
    }
    ND_ASSIGN_OR_RETURN(remote_, link_->ReceiveAdvert(step));
    if (options_.server) {
      ND_RETURN_IF_ERROR(link_->SendAdvert(exposed_->advert(), step));
    }
    if (remote_.size >= options_.size) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        link_->name(), ": the peer offers ", remote_.size, " bytes and this ",
        "side has size=", options_.size, "; give both the same"));
  }

  // Whether this side initiates anything.
  bool Measures() const {
    return !options_.server || options_.duplex ||
           options_.test == KrpingTest::kWriteLatency;
  }

  absl::Status Measure() {
    const Instant start = Clock::Monotonic().Now();
    ND_RETURN_IF_ERROR(
        options_.test == KrpingTest::kWriteLatency  ? WriteInTurn()
        : options_.test == KrpingTest::kReadLatency ? ReadOneByOne()
                                                    : WriteAtOnce());
    figures_.delta_ns = Since(start);
    return absl::OkStatus();
  }

  absl::Status ReadOneByOne() {
    for (uint32_t i = 0; i < options_.count; ++i) {
      ND_RETURN_IF_ERROR(
          link_->Transfer(IBV_WR_RDMA_READ, *local_, options_.size, remote_,
                          {.what = "a READ", .timeout = kStepTimeout}));
    }
    return absl::OkStatus();
  }

  // The first byte of a WRITE is its number; who sees the peer's writes the
  // next. The client begins.
  absl::Status WriteInTurn() {
    const std::atomic_ref<std::byte> seen(exposed_->bytes()[0]);
    for (uint32_t i = 1; i <= options_.count; ++i) {
      if (options_.server) ND_RETURN_IF_ERROR(AwaitByte(seen, i));
      local_->bytes()[0] = static_cast<std::byte>(i);
      ND_RETURN_IF_ERROR(Write(i - 1));
      ND_RETURN_IF_ERROR(AwaitWrites(i, i - 1));
      if (!options_.server) ND_RETURN_IF_ERROR(AwaitByte(seen, i));
    }
    return absl::OkStatus();
  }

  absl::Status WriteAtOnce() {
    for (uint32_t done = 0; done < options_.count; ++done) {
      while (link_->rdma_posted() < options_.count &&
             link_->rdma_posted() - link_->rdma_completed() <
                 options_.txdepth) {
        ND_RETURN_IF_ERROR(Write(link_->rdma_posted()));
      }
      ND_RETURN_IF_ERROR(AwaitWrites(done + 1, done));
    }
    return absl::OkStatus();
  }

  absl::Status Write(uint64_t iteration) {
    const bool timed = iteration < figures_.cycle_iters;
    const Instant start = timed ? Clock::Monotonic().Now() : Instant();
    ND_RETURN_IF_ERROR(link_->Post(IBV_WR_RDMA_WRITE, *local_,
                                   {.length = options_.size}, remote_));
    if (timed) figures_.sum_post += Since(start);
    return absl::OkStatus();
  }

  absl::Status AwaitWrites(uint64_t completed, uint64_t iteration) {
    const bool timed = iteration < figures_.cycle_iters;
    const Instant start = timed ? Clock::Monotonic().Now() : Instant();
    Instant last = start;
    ND_RETURN_IF_ERROR(Spin("a WRITE", [&]() -> absl::StatusOr<bool> {
      if (link_->rdma_completed() >= completed) return true;
      if (timed) last = Clock::Monotonic().Now();
      ND_RETURN_IF_ERROR(link_->PollCompletions());
      return link_->rdma_completed() >= completed;
    }));
    if (timed) figures_.sum_poll += Since(start);
    if (timed) figures_.sum_last_poll += Since(last);
    return absl::OkStatus();
  }

  absl::Status AwaitByte(std::atomic_ref<std::byte> seen, uint32_t number) {
    return Spin("the peer's WRITE", [&]() -> absl::StatusOr<bool> {
      return seen.load(std::memory_order_acquire) ==
             static_cast<std::byte>(number);
    });
  }

  absl::Status Spin(absl::string_view what,
                    absl::FunctionRef<absl::StatusOr<bool>()> done) {
    std::optional<Deadline> deadline;
    for (int polls = 1;; ++polls) {
      ND_ASSIGN_OR_RETURN(const bool is_done, done());
      if (is_done) return absl::OkStatus();
      if (polls % kPollsPerLook != 0) continue;
      if (!deadline) deadline = Deadline::After(kStepTimeout);
      ND_RETURN_IF_ERROR(link_->Look(
          *deadline, {.what = std::string(what), .timeout = kStepTimeout}));
    }
  }

  absl::Status AwaitDisconnect() {
    absl::Status status = link_->Pause(Deadline::After(kTestTimeout));
    if (link_->disconnected()) return absl::OkStatus();
    if (!status.ok()) return status;
    return absl::DeadlineExceededError(absl::StrCat(
        link_->name(), ": the client did not disconnect within an hour"));
  }

  static uint64_t Since(Instant start) {
    return static_cast<uint64_t>((Clock::Monotonic().Now() - start).count());
  }

  const KrpingOptions& options_;
  const Cancellation& interrupt_;
  KrpingFigures figures_;
  RpingAdvert remote_;
  // The buffers outlive the link, whose requests and peer use them.
  std::unique_ptr<RpingBuffer> local_;    // krping's rdma_buf
  std::unique_ptr<RpingBuffer> exposed_;  // its start_buf, the peer's target
  std::unique_ptr<RpingLink> link_;
};

}  // namespace

absl::Status RunKrpingTest(const KrpingOptions& options,
                           const Cancellation& interrupt, std::ostream& out) {
  const absl::Status status = Test(options, interrupt).Run(out);
  return absl::IsCancelled(status) ? absl::OkStatus() : status;
}

}  // namespace nd::ndping

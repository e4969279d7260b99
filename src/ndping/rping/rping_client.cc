// The client of rping.h.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/rping/rping.h"
#include "ndping/rping/rping_link.h"
#include "ndping/rping/rping_wire.h"

namespace nd::ndping {
namespace {

constexpr size_t kTextLimit = 64;
// How long a ping that is under way may take when the user wants to stop.
constexpr Duration kInterruptGrace = std::chrono::seconds(1);
// What the slowest network that is no failure needs: 1 MB/s.
constexpr Duration kTimePerByte = std::chrono::microseconds(1);

uint64_t NanosecondsSince(Instant start) {
  return static_cast<uint64_t>((Clock::Monotonic().Now() - start).count());
}

class Client {
 public:
  Client(const RpingClientOptions& options, const Cancellation& interrupt,
         RpingObserver& observer, RpingResult& result)
      : options_(options),
        interrupt_(interrupt),
        observer_(observer),
        result_(result) {}

  absl::Status Run() {
    ND_RETURN_IF_ERROR(Check());
    ND_RETURN_IF_ERROR(Connect());
    const Instant start = Clock::Monotonic().Now();
    absl::Status status = PingAll(start);
    result_.elapsed_ns = NanosecondsSince(start);
    link_->Disconnect();
    return status;
  }

 private:
  absl::Status Check() const {
    if (options_.size >= 1 && options_.size <= kMaxRpingSize) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("size: a ping has 1 to ", kMaxRpingSize, " bytes, not ",
                     options_.size));
  }

  absl::Status Connect() {
    ND_ASSIGN_OR_RETURN(
        link_,
        RpingLink::Connect({.address = options_.server,
                            .from = options_.from,
                            .tos = options_.tos},
                           {.wait = options_.wait, .interrupt = &interrupt_},
                           Deadline::After(options_.connect_timeout)));
    ND_ASSIGN_OR_RETURN(source_,
                        RpingBuffer::Create(link_->pd(), options_.size));
    ND_ASSIGN_OR_RETURN(sink_, RpingBuffer::Create(link_->pd(), options_.size));
    result_.connection = link_->name();
    observer_.OnConnected(link_->name());
    return absl::OkStatus();
  }

  absl::Status PingAll(Instant start) {
    while (options_.count == 0 || result_.transmitted < options_.count) {
      if (interrupt_.cancelled()) return absl::CancelledError("interrupted");
      ND_RETURN_IF_ERROR(PingOnce(result_.transmitted));
      if (options_.count != 0 && result_.transmitted == options_.count) break;
      if (options_.interval == Duration::zero()) continue;
      // From start to start; a ping that took longer delays those behind it.
      start = std::max(start + options_.interval, Clock::Monotonic().Now());
      ND_RETURN_IF_ERROR(
          link_->Pause(Deadline::After(start - Clock::Monotonic().Now())));
    }
    return absl::OkStatus();
  }

  absl::Status PingOnce(uint64_t sequence) {
    FillRpingData(sequence, source_->bytes());
    // What an earlier ping left in the sink must not pass for this one.
    if (options_.validate) {
      std::ranges::fill(sink_->bytes(), std::byte{0xff});
    }
    ++result_.transmitted;
    const Instant start = Clock::Monotonic().Now();
    ND_RETURN_IF_ERROR(Offer(*source_, "READ", sequence));
    ND_RETURN_IF_ERROR(Offer(*sink_, "WRITE", sequence));
    const uint64_t round_trip = NanosecondsSince(start);
    ++result_.received;
    result_.round_trips.Record(round_trip);
    if (options_.validate) ND_RETURN_IF_ERROR(Compare(sequence));
    Tell(sequence, round_trip);
    return absl::OkStatus();
  }

  // Sends the advert of a buffer and waits until the server has used it.
  absl::Status Offer(const RpingBuffer& buffer, absl::string_view operation,
                     uint64_t sequence) {
    const RpingLink::Step step{
        .what = absl::StrCat("the go-ahead after the ", operation, " of ping ",
                             sequence),
        .timeout = options_.step_timeout + options_.size * kTimePerByte,
        .grace = kInterruptGrace};
    ND_RETURN_IF_ERROR(link_->SendAdvert(buffer.advert(), step));
    absl::Status status = link_->ReceiveAdvert(step).status();
    if (status.ok() || !link_->disconnected() || sequence > 0) return status;
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), "; if it is 'rping -s', it takes no ",
                     "ping larger than its own -S (64 bytes by default)"));
  }

  absl::Status Compare(uint64_t sequence) {
    const auto [sent, came] =
        std::ranges::mismatch(source_->bytes(), sink_->bytes());
    if (sent == source_->bytes().end()) return absl::OkStatus();
    ++result_.mismatched;
    return absl::DataLossError(absl::StrCat(
        link_->name(), ": ping ", sequence, " of ", options_.size,
        " bytes came back wrong, first at byte ",
        sent - source_->bytes().begin(), ": sent 0x",
        absl::Hex(std::to_integer<int>(*sent), absl::kZeroPad2), ", got 0x",
        absl::Hex(std::to_integer<int>(*came), absl::kZeroPad2)));
  }

  void Tell(uint64_t sequence, uint64_t round_trip_ns) {
    RpingPing ping{.sequence = sequence,
                   .bytes = options_.size,
                   .round_trip_ns = round_trip_ns,
                   .text = {}};
    if (options_.want_text) ping.text = RpingText(sink_->bytes(), kTextLimit);
    observer_.OnPing(ping);
  }

  const RpingClientOptions& options_;
  const Cancellation& interrupt_;
  RpingObserver& observer_;
  RpingResult& result_;
  // The buffers outlive the link, whose requests and peer use them.
  std::unique_ptr<RpingBuffer> source_;
  std::unique_ptr<RpingBuffer> sink_;
  std::unique_ptr<RpingLink> link_;
};

}  // namespace

RpingResult RunRpingClient(const RpingClientOptions& options,
                           const Cancellation& interrupt,
                           RpingObserver& observer) {
  RpingResult result;
  result.status = Client(options, interrupt, observer, result).Run();
  if (absl::IsCancelled(result.status)) {
    result.interrupted = true;
    result.status = absl::OkStatus();
  }
  return result;
}

}  // namespace nd::ndping

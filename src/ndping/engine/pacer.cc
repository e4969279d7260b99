#include "ndping/engine/pacer.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "base/status.h"

namespace nd::ndping {
namespace {

constexpr Duration kLongestNap = std::chrono::milliseconds(10);
constexpr double kNanosPerSecond = 1e9;

}  // namespace

Pacer::Pacer(const Options& options, const Clock& clock)
    : options_(options), clock_(clock), start_(clock.Now()), paid_ns_(0) {}

double Pacer::NowNs() const {
  return static_cast<double>((clock_.Now() - start_).count());
}

uint64_t Pacer::Allowed(uint64_t size, uint64_t wanted) const {
  if (!limits() || size == 0) return wanted;
  const double now = NowNs();
  const double burst = static_cast<double>(options_.burst.count());
  const double spare = now - std::max(paid_ns_, now - burst);
  if (spare < 0) return 0;
  const double bytes =
      spare * static_cast<double>(options_.bytes_per_second) / kNanosPerSecond;
  const double messages = std::floor(bytes / static_cast<double>(size)) + 1;
  return messages >= static_cast<double>(wanted)
             ? wanted
             : static_cast<uint64_t>(messages);
}

void Pacer::Spend(uint64_t bytes) {
  if (!limits()) return;
  const double burst = static_cast<double>(options_.burst.count());
  paid_ns_ = std::max(paid_ns_, NowNs() - burst) +
             static_cast<double>(bytes) * kNanosPerSecond /
                 static_cast<double>(options_.bytes_per_second);
}

Duration Pacer::Wait() const {
  if (!limits()) return Duration::zero();
  return Duration(
      static_cast<Duration::rep>(std::max(0.0, std::ceil(paid_ns_ - NowNs()))));
}

absl::Status SleepTowards(Instant at, const Cancellation* cancel) {
  if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("");
  const Duration left =
      std::clamp(at - Clock::Monotonic().Now(), Duration::zero(), kLongestNap);
  const timespec limit = {.tv_sec = 0, .tv_nsec = left.count()};
  pollfd fd = {.fd = cancel != nullptr ? cancel->fd() : -1,
               .events = POLLIN,
               .revents = 0};
  const int ready = ppoll(&fd, 1, &limit, nullptr);
  if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, "ppoll");
  if (ready > 0) return absl::CancelledError("");
  return absl::OkStatus();
}

}  // namespace nd::ndping

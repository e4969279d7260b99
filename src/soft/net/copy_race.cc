#include "soft/net/copy_race.h"

#include <algorithm>
#include <utility>

namespace nd::soft {
namespace {

// A single copy is all the peer's work, and short messages wait longer for it:
// it has to be faster by that much.
constexpr double kWorthLending = 1.05;

}  // namespace

void CopyRace::OnSent(size_t bytes, Instant now) {
  if (now - std::exchange(last_, now) > kPause) Disturb();
  sent_ += bytes;
  if (stage_ == Stage::kRun) {
    if (sent_ >= run_bytes_) {
      run_bytes_ = std::min(2 * run_bytes_, kRunBytes);
      Enter(Stage::kCopying, false);
    }
    return;
  }
  if (sent_ <= kUntimedBytes) {
    timed_since_ = now;
    untimed_ = sent_;
  }
  if (sent_ < kTrialBytes) return;
  const double rate = RateSoFar(now);
  if (stage_ == Stage::kCopying) {
    copying_rate_ = rate;
    return Enter(Stage::kLending, true);
  }
  Enter(Stage::kRun, rate > kWorthLending * copying_rate_);
}

void CopyRace::Enter(Stage stage, bool lends) {
  stage_ = stage;
  lends_ = lends;
  sent_ = 0;
}

double CopyRace::RateSoFar(Instant now) const {
  const auto took = std::max((now - timed_since_).count(), Duration::rep{1});
  return static_cast<double>(sent_ - untimed_) / static_cast<double>(took);
}

}  // namespace nd::soft

#include "ndping/report/ping_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

std::string JoinTimes(const std::vector<double>& times) {
  const auto append_time = [](std::string* out, double time) {
    absl::StrAppend(out, FormatTime(time));
  };
  return absl::StrJoin(times, " / ", append_time);
}

}  // namespace

double PingSummary::loss_percent() const {
  if (transmitted == 0) return 0;
  return 100.0 * static_cast<double>(transmitted - received) /
         static_cast<double>(transmitted);
}

std::string PingLine(absl::string_view host, uint64_t size, uint64_t sequence,
                     uint64_t round_trip_ns) {
  return absl::StrCat(size, " bytes from ", host, ": seq=", sequence,
                      " time=", FormatTime(static_cast<double>(round_trip_ns)),
                      "\n");
}

std::string TextReport(const PingSummary& summary) {
  const Histogram& times = summary.round_trips;
  std::string text = absl::StrCat(
      "\n--- ", summary.host, " ndping statistics ---\n", summary.transmitted,
      " transmitted, ", summary.received, " received, ",
      FormatPercent(summary.loss_percent()), " loss, time ",
      FormatTime(static_cast<double>(summary.elapsed_ns)), "\n");
  if (summary.mismatched > 0) {
    absl::StrAppend(&text, summary.mismatched, " of ", summary.received,
                    " came back with wrong data\n");
  } else if (summary.validated && summary.received > 0) {
    absl::StrAppend(&text, "every byte that came back was right\n");
  }
  if (times.count() == 0) return text;
  const auto percentile = [&times](double p) {
    return static_cast<double>(times.ValueAtPercentile(p));
  };
  return absl::StrCat(
      text, "rtt min/avg/max/mdev = ",
      JoinTimes({static_cast<double>(times.min()), times.mean(),
                 static_cast<double>(times.max()), times.stddev()}),
      "\nrtt p50/p90/p99/p99.9 = ",
      JoinTimes(
          {percentile(50), percentile(90), percentile(99), percentile(99.9)}),
      "\n");
}

std::vector<Measured> MeasuredOf(const PingSummary& summary) {
  if (summary.transmitted == 0) return {};
  Measured measured;
  measured.phase = absl::StrCat(summary.transmitted, " pings");
  measured.latencies = &summary.round_trips;
  measured.loss = summary.loss_percent();
  return {std::move(measured)};
}

}  // namespace nd::ndping

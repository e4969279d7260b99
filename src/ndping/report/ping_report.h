// What a series of pings comes to, whichever protocol carried them.
#ifndef ND_NDPING_REPORT_PING_REPORT_H_
#define ND_NDPING_REPORT_PING_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/histogram.h"
#include "ndping/report/report.h"

namespace nd::ndping {

struct PingSummary {
  std::string protocol;        // "nd" or "rping"
  std::string over = "verbs";  // or "message"
  std::string host;            // as the user named it
  uint64_t size = 0;           // bytes of a ping
  uint64_t transmitted = 0;
  uint64_t received = 0;
  uint64_t elapsed_ns = 0;
  Histogram round_trips;  // nanoseconds
  bool validated = false;
  uint64_t mismatched = 0;  // pings that came back with a wrong byte
  bool interrupted = false;

  double loss_percent() const;
};

// "64 bytes from 10.98.0.2: seq=1 time=12.3 us"; `sequence` from 1.
std::string PingLine(absl::string_view host, uint64_t size, uint64_t sequence,
                     uint64_t round_trip_ns);

// The lines that follow the last ping.
std::string TextReport(const PingSummary& summary);
std::string CsvReport(const PingSummary& summary);  // header and row
Json ToJson(const PingSummary& summary, const Outcome& outcome);

std::vector<Measured> MeasuredOf(const PingSummary& summary);

}  // namespace nd::ndping

#endif  // ND_NDPING_REPORT_PING_REPORT_H_

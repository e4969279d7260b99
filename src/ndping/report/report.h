// What a finished test says: a table for people, JSON, CSV. Everything here is
// a pure function of the result; who prints decides where and when.
#ifndef ND_NDPING_REPORT_REPORT_H_
#define ND_NDPING_REPORT_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ndping/harness/harness_client.h"
#include "ndping/report/threshold.h"
#include "ndping/text/spec_names.h"

namespace nd::ndping {

// The figures of a phase, computed once for every form of output.
struct PhaseFigures {
  uint64_t messages = 0;  // measured, of both directions
  double bandwidth = 0;   // bytes a second, of both directions
  double rate = 0;        // messages a second, of both directions
  double client_cpu = 0;  // percent of a core
  double server_cpu = 0;
  std::optional<double> verified;  // percent of the messages, with --verify
  std::optional<double> load;  // bytes a second of the load, if there is one
};
PhaseFigures FiguresOf(const v1::TestSpec& spec, const PhaseResult& phase);

// For CheckThresholds.
std::vector<Measured> MeasuredOf(TestName test, const TestResult& result);
std::vector<Measured> MeasuredOf(const ConnectResult& result);

// Whether the data that was asked to be verified was, and was right. That all
// of it arrived is what the harness makes sure of, or its Status says.
bool DataIsRight(const TestResult& result);

// The table for people, in the parts in which it is printed while the test
// runs. The lines have their ends.
std::string TextHeading(TestName test, const v1::TestSpec& spec,
                        absl::string_view server);
std::string TextRow(TestName test, const v1::TestSpec& spec,
                    const PhaseResult& phase);
// What has to be said below the table: interruptions and wrong data.
std::string TextNotes(const TestResult& result);
std::string TextReport(TestName test, const TestResult& result);
std::string TextReport(const ConnectResult& result);

// One header and a row for each phase, for all tests with phases.
std::string CsvHeader();
std::string CsvRow(TestName test, const v1::TestSpec& spec,
                   const PhaseResult& phase);
std::string CsvReport(const ConnectResult& result);  // with its own header

// How it ended, for the JSON document.
struct Outcome {
  absl::Status status;  // of the test
  std::vector<ThresholdHit> hits;
  bool passed = false;  // exit status 0
};

// Schema nd.ndping/1: docs/ndping-json.md says what each field is.
using Json = nlohmann::ordered_json;
inline constexpr char kJsonSchema[] = "nd.ndping/1";
Json ToJson(TestName test, const TestResult& result, const Outcome& outcome);
Json ToJson(const ConnectResult& result, const Outcome& outcome);
Json ToJson(const Histogram& latencies);

// The document as text. What a peer said may be no UTF-8, which JSON must be;
// such bytes are replaced.
std::string Dump(const Json& json);

}  // namespace nd::ndping

#endif  // ND_NDPING_REPORT_REPORT_H_

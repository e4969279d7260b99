// What the command line, the messages and the output call the values of a
// TestSpec.
#ifndef ND_NDPING_TEXT_SPEC_NAMES_H_
#define ND_NDPING_TEXT_SPEC_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

// What the user calls a test. A rate test is a bandwidth test of small messages
// that is reported in messages a second.
enum class TestName { kLatency, kBandwidth, kRate, kConnect };

absl::string_view CommandName(TestName test);  // "lat", "bw", "rate", "connect"

// "send", "send-imm", "write", "write-imm", "read", "cas", "fetch-add".
absl::string_view OperationName(v1::Operation operation);
absl::StatusOr<v1::Operation> ParseOperation(absl::string_view text);
// "send", or "message" over a session.
absl::string_view WhatIsSent(const v1::TestSpec& spec);
// "2 QPs", "1 latency stream".
std::string QueuesOf(const v1::TestSpec& spec);
absl::string_view StreamClassName(v1::StreamClass stream_class);
absl::StatusOr<v1::StreamClass> ParseStreamClass(absl::string_view text);
bool IsAtomic(v1::Operation operation);

// "busy", "event", "adaptive".
absl::string_view CqModeName(v1::CqMode mode);
absl::StatusOr<v1::CqMode> ParseCqMode(absl::string_view text);

// "wrong-rkey", "no-receives"; "nothing" when nothing is provoked.
absl::string_view ProvokeName(v1::Provoke provoke);
absl::StatusOr<v1::Provoke> ParseProvoke(absl::string_view text);

}  // namespace nd::ndping

#endif  // ND_NDPING_TEXT_SPEC_NAMES_H_

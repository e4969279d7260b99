#include "ndping/text/spec_names.h"

#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace nd::ndping {
namespace {

// The words that stand for the values of an enum, in the order of the help.
template <typename T>
using Names = std::span<const std::pair<absl::string_view, T>>;

constexpr std::pair<absl::string_view, v1::Operation> kOperations[] = {
    {"send", v1::OPERATION_SEND},
    {"send-imm", v1::OPERATION_SEND_WITH_IMM},
    {"write", v1::OPERATION_WRITE},
    {"write-imm", v1::OPERATION_WRITE_WITH_IMM},
    {"read", v1::OPERATION_READ},
    {"cas", v1::OPERATION_COMPARE_SWAP},
    {"fetch-add", v1::OPERATION_FETCH_ADD}};

constexpr std::pair<absl::string_view, v1::CqMode> kCqModes[] = {
    {"busy", v1::CQ_MODE_BUSY},
    {"event", v1::CQ_MODE_EVENT},
    {"adaptive", v1::CQ_MODE_ADAPTIVE}};

constexpr std::pair<absl::string_view, v1::Provoke> kProvokes[] = {
    {"nothing", v1::PROVOKE_NOTHING},
    {"wrong-rkey", v1::PROVOKE_WRONG_RKEY},
    {"no-receives", v1::PROVOKE_NO_RECEIVES}};

constexpr std::pair<absl::string_view, v1::StreamClass> kStreamClasses[] = {
    {"latency", v1::STREAM_CLASS_LATENCY}, {"bulk", v1::STREAM_CLASS_BULK}};

template <typename T>
absl::string_view NameOf(Names<T> names, T value) {
  for (const auto& [name, known] : names) {
    if (known == value) return name;
  }
  return "unknown";
}

template <typename T>
absl::StatusOr<T> ValueOf(Names<T> names, absl::string_view text) {
  for (const auto& [name, value] : names) {
    if (name == text) return value;
  }
  const auto append_name = [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first);
  };
  return absl::InvalidArgumentError(absl::StrCat(
      "'", text, "' is not one of ", absl::StrJoin(names, ", ", append_name)));
}

}  // namespace

absl::string_view CommandName(TestName test) {
  switch (test) {
    case TestName::kLatency:
      return "lat";
    case TestName::kBandwidth:
      return "bw";
    case TestName::kRate:
      return "rate";
    case TestName::kConnect:
      return "connect";
  }
  return "unknown";
}

absl::string_view OperationName(v1::Operation operation) {
  return NameOf<v1::Operation>(kOperations, operation);
}
absl::StatusOr<v1::Operation> ParseOperation(absl::string_view text) {
  return ValueOf<v1::Operation>(kOperations, text);
}
bool IsAtomic(v1::Operation operation) {
  return operation == v1::OPERATION_COMPARE_SWAP ||
         operation == v1::OPERATION_FETCH_ADD;
}

absl::string_view WhatIsSent(const v1::TestSpec& spec) {
  return spec.has_session() ? "message" : OperationName(spec.operation());
}
std::string QueuesOf(const v1::TestSpec& spec) {
  const absl::string_view plural = spec.qps() == 1 ? "" : "s";
  if (!spec.has_session()) return absl::StrCat(spec.qps(), " QP", plural);
  return absl::StrCat(spec.qps(), " ",
                      StreamClassName(spec.session().stream_class()), " stream",
                      plural);
}

absl::string_view StreamClassName(v1::StreamClass stream_class) {
  return NameOf<v1::StreamClass>(kStreamClasses, stream_class);
}
absl::StatusOr<v1::StreamClass> ParseStreamClass(absl::string_view text) {
  return ValueOf<v1::StreamClass>(kStreamClasses, text);
}

absl::string_view CqModeName(v1::CqMode mode) {
  return NameOf<v1::CqMode>(kCqModes, mode);
}
absl::StatusOr<v1::CqMode> ParseCqMode(absl::string_view text) {
  return ValueOf<v1::CqMode>(kCqModes, text);
}

absl::string_view ProvokeName(v1::Provoke provoke) {
  return NameOf<v1::Provoke>(kProvokes, provoke);
}
absl::StatusOr<v1::Provoke> ParseProvoke(absl::string_view text) {
  return ValueOf<v1::Provoke>(kProvokes, text);
}

}  // namespace nd::ndping

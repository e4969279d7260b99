#include "ndping/harness/peer_message.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace nd::ndping {
namespace {

// The index of message T in PeerMessage.
template <typename T>
constexpr size_t kIndexOf = [] {
  return []<size_t... kI>(std::index_sequence<kI...>) {
    size_t found = 0;
    ((std::is_same_v<T, std::variant_alternative_t<kI, PeerMessage>>
          ? void(found = kI)
          : void()),
     ...);
    return found;
  }
  (std::make_index_sequence<std::variant_size_v<PeerMessage>>());
}();

constexpr size_t kStart = kIndexOf<std::monostate>;

// One list serves both directions: neither side's messages contain the other's.
constexpr std::pair<size_t, size_t> kFollows[] = {
    // Client.
    {kStart, kIndexOf<v1::Open>},
    {kIndexOf<v1::Open>, kIndexOf<v1::Layout>},
    {kIndexOf<v1::Layout>, kIndexOf<v1::StartPhase>},
    {kIndexOf<v1::StartPhase>, kIndexOf<v1::PhaseDone>},
    {kIndexOf<v1::PhaseDone>, kIndexOf<v1::StartPhase>},
    // Server.
    {kStart, kIndexOf<v1::Opened>},
    {kIndexOf<v1::Opened>, kIndexOf<v1::Layout>},
    {kIndexOf<v1::Layout>, kIndexOf<v1::PhaseReady>},
    {kIndexOf<v1::PhaseReady>, kIndexOf<v1::PhaseDone>},
    {kIndexOf<v1::PhaseDone>, kIndexOf<v1::PhaseReport>},
    {kIndexOf<v1::PhaseReport>, kIndexOf<v1::PhaseReady>},
};

constexpr std::array<absl::string_view, std::variant_size_v<PeerMessage>>
    kNames = {"an unknown message",
              "Open",
              "Opened",
              "Layout",
              "StartPhase",
              "PhaseReady",
              "PhaseDone",
              "PhaseReport",
              "Failure"};

}  // namespace

PeerMessage FromRequest(v1::RunRequest request) {
  switch (request.message_case()) {
    case v1::RunRequest::kOpen:
      return std::move(*request.mutable_open());
    case v1::RunRequest::kLayout:
      return std::move(*request.mutable_layout());
    case v1::RunRequest::kStartPhase:
      return std::move(*request.mutable_start_phase());
    case v1::RunRequest::kPhaseDone:
      return std::move(*request.mutable_phase_done());
    case v1::RunRequest::kFailure:
      return std::move(*request.mutable_failure());
    case v1::RunRequest::MESSAGE_NOT_SET:
      break;
  }
  return {};
}

PeerMessage FromResponse(v1::RunResponse response) {
  switch (response.message_case()) {
    case v1::RunResponse::kOpened:
      return std::move(*response.mutable_opened());
    case v1::RunResponse::kLayout:
      return std::move(*response.mutable_layout());
    case v1::RunResponse::kPhaseReady:
      return std::move(*response.mutable_phase_ready());
    case v1::RunResponse::kPhaseDone:
      return std::move(*response.mutable_phase_done());
    case v1::RunResponse::kPhaseReport:
      return std::move(*response.mutable_phase_report());
    case v1::RunResponse::MESSAGE_NOT_SET:
      break;
  }
  return {};
}

v1::RunRequest ToRequest(PeerMessage message) {
  v1::RunRequest request;
  if (auto* open = std::get_if<v1::Open>(&message)) {
    *request.mutable_open() = std::move(*open);
  } else if (auto* layout = std::get_if<v1::Layout>(&message)) {
    *request.mutable_layout() = std::move(*layout);
  } else if (auto* start = std::get_if<v1::StartPhase>(&message)) {
    *request.mutable_start_phase() = std::move(*start);
  } else if (auto* done = std::get_if<v1::PhaseDone>(&message)) {
    *request.mutable_phase_done() = std::move(*done);
  } else if (auto* failure = std::get_if<v1::Failure>(&message)) {
    *request.mutable_failure() = std::move(*failure);
  }
  return request;
}

v1::RunResponse ToResponse(PeerMessage message) {
  v1::RunResponse response;
  if (auto* opened = std::get_if<v1::Opened>(&message)) {
    *response.mutable_opened() = std::move(*opened);
  } else if (auto* layout = std::get_if<v1::Layout>(&message)) {
    *response.mutable_layout() = std::move(*layout);
  } else if (auto* ready = std::get_if<v1::PhaseReady>(&message)) {
    *response.mutable_phase_ready() = std::move(*ready);
  } else if (auto* done = std::get_if<v1::PhaseDone>(&message)) {
    *response.mutable_phase_done() = std::move(*done);
  } else if (auto* report = std::get_if<v1::PhaseReport>(&message)) {
    *response.mutable_phase_report() = std::move(*report);
  }
  return response;
}

absl::string_view MessageName(const PeerMessage& message) {
  return kNames[message.index()];
}

bool PeerOrder::Accept(const PeerMessage& message) {
  if (std::holds_alternative<v1::Failure>(message)) return true;
  const std::pair step(last_, message.index());
  if (std::ranges::find(kFollows, step) == std::ranges::end(kFollows)) {
    return false;
  }
  last_ = message.index();
  return true;
}

absl::string_view PeerOrder::last() const {
  return last_ == kStart ? "nothing" : kNames[last_];
}

}  // namespace nd::ndping

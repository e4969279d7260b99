// What a CM event says, and what it means for a wait that it ends.
#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "verbs/cm.h"
#include "verbs/explain.h"

namespace nd::verbs {
namespace {

// The payload is the reason, two bytes in little-endian order, and the data.
constexpr absl::string_view kRejectionUrl = "nd.verbs.CmRejection";

bool SaysNothing(const std::vector<std::byte>& private_data) {
  return std::all_of(private_data.begin(), private_data.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

absl::StatusCode RejectCode(int reason, const std::vector<std::byte>& data) {
  switch (reason) {
    case 1:  // no QP
    case 2:  // no EEC
    case 3:  // no resources
      return absl::StatusCode::kResourceExhausted;
    case 28:  // the application; its process may have died, too
      return SaysNothing(data) ? absl::StatusCode::kUnavailable
                               : absl::StatusCode::kAborted;
    case 4:   // timeout
    case 6:   // unknown connection
    case 7:   // unknown connection
    case 8:   // nobody listens
    case 10:  // stale connection
    case 30:  // late duplicate
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kFailedPrecondition;
  }
}

void AttachRejection(const CmEvent& event, absl::Status& status) {
  std::string payload = {static_cast<char>(event.status & 0xff),
                         static_cast<char>(event.status >> 8 & 0xff)};
  for (const std::byte b : event.private_data) {
    payload.push_back(static_cast<char>(b));
  }
  status.SetPayload(kRejectionUrl, absl::Cord(payload));
}

// rdma_cm's ways to say that an address cannot be reached.
absl::StatusCode AddressCode(int error) {
  switch (error) {
    case ETIMEDOUT:  // the time that the kernel was given is the deadline's
      return absl::StatusCode::kDeadlineExceeded;
    case ENODEV:
      return absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

std::string StatusText(const CmEvent& event) {
  switch (event.status) {
    case -ENODEV:
      return "the route leads through no RDMA device";
    case -ETIMEDOUT:
      return event.type == RDMA_CM_EVENT_ADDR_ERROR
                 ? "no answer to ARP or neighbour discovery"
                 : "no answer";
    default:
      return std::generic_category().message(-event.status);
  }
}

absl::StatusCode CodeOf(const CmEvent& event) {
  switch (event.type) {
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
      return AddressCode(-event.status);
    case RDMA_CM_EVENT_REJECTED:
      return RejectCode(event.status, event.private_data);
    case RDMA_CM_EVENT_CONNECT_ERROR:
      return absl::ErrnoToStatusCode(-event.status);
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
    case RDMA_CM_EVENT_ADDR_CHANGE:
      return absl::StatusCode::kUnavailable;
    case RDMA_CM_EVENT_ADDR_RESOLVED:
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
    case RDMA_CM_EVENT_CONNECT_REQUEST:
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_MULTICAST_JOIN:
    case RDMA_CM_EVENT_MULTICAST_ERROR:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
      return absl::StatusCode::kInternal;  // not what was waited for
  }
  return absl::StatusCode::kInternal;
}

}  // namespace

std::string CmEvent::ToString() const {
  const Explanation& explanation = Explain(type);
  if (type == RDMA_CM_EVENT_REJECTED) {
    return absl::StrCat(explanation.name, ": ",
                        ExplainRejectReason(status).meaning, " (reason ",
                        status, ")");
  }
  const std::string text =
      absl::StrCat(explanation.name, ": ", explanation.meaning);
  return status == 0 ? text : absl::StrCat(text, ": ", StatusText(*this));
}

absl::Status CmEvent::ToStatus(absl::string_view context) const {
  absl::StatusCode code = CodeOf(*this);
  // errno 0 in a CONNECT_ERROR must not make the failure a success.
  if (code == absl::StatusCode::kOk) code = absl::StatusCode::kInternal;
  absl::Status result(code, absl::StrCat(context, ": ", ToString()));
  if (type == RDMA_CM_EVENT_REJECTED) AttachRejection(*this, result);
  return result;
}

std::optional<CmRejection> RejectionOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRejectionUrl);
  if (!payload.has_value() || payload->size() < 2) return std::nullopt;
  const std::string bytes(*payload);
  CmRejection rejection;
  rejection.reason = static_cast<unsigned char>(bytes[0]) |
                     static_cast<unsigned char>(bytes[1]) << 8;
  for (size_t i = 2; i < bytes.size(); ++i) {
    rejection.private_data.push_back(static_cast<std::byte>(bytes[i]));
  }
  return rejection;
}

}  // namespace nd::verbs

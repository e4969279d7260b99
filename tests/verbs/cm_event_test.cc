// What CM events mean, and how they wait for their owner: no device needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "base/status.h"
#include "verbs/cm.h"
#include "verbs/cm_inbox.h"

namespace nd::verbs {
namespace {

using ::testing::HasSubstr;

CmEvent Event(rdma_cm_event_type type, int status = 0) {
  CmEvent event;
  event.type = type;
  event.status = status;
  return event;
}

absl::StatusCode CodeOf(rdma_cm_event_type type, int status) {
  return Event(type, status).ToStatus("").code();
}

TEST(CmEvent, SaysWhatARejectReasonMeans) {
  EXPECT_EQ(Event(RDMA_CM_EVENT_REJECTED, 8).ToString(),
            "RDMA_CM_EVENT_REJECTED: nobody listens at that port (reason 8)");
}

TEST(CmEvent, SaysWhatAnErrnoMeans) {
  EXPECT_EQ(Event(RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT).ToString(),
            "RDMA_CM_EVENT_UNREACHABLE: the peer does not answer connection "
            "messages: no answer");
  EXPECT_THAT(Event(RDMA_CM_EVENT_ADDR_ERROR, -ENETUNREACH).ToString(),
              HasSubstr("Network is unreachable"));
}

TEST(CmEvent, StatusCodesTellWhatCanBeDone) {
  using absl::StatusCode;
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_ADDR_ERROR, -ETIMEDOUT),
            StatusCode::kDeadlineExceeded);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_ADDR_ERROR, -EHOSTUNREACH),
            StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_ADDR_ERROR, -ENODEV),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT),
            StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_REJECTED, 8), StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_REJECTED, 3), StatusCode::kResourceExhausted);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_REJECTED, 26),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_DEVICE_REMOVAL, 0), StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_ESTABLISHED, 0), StatusCode::kInternal);
  EXPECT_EQ(CodeOf(RDMA_CM_EVENT_CONNECT_ERROR, 0), StatusCode::kInternal);
}

TEST(CmEvent, RejectionWithAnAnswerIsAbortedAndKeepsIt) {
  CmEvent event = Event(RDMA_CM_EVENT_REJECTED, 28);
  event.private_data = {std::byte{0}, std::byte{0xff}, std::byte{0}};

  const absl::Status status = Annotate(event.ToStatus("rdma_connect"), "ping");

  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  const auto rejection = RejectionOf(status);
  ASSERT_TRUE(rejection.has_value());
  EXPECT_EQ(rejection->reason, 28);
  EXPECT_EQ(rejection->private_data, event.private_data);
}

TEST(CmEvent, RejectionWithoutAnAnswerIsUnavailable) {
  CmEvent event = Event(RDMA_CM_EVENT_REJECTED, 28);
  event.private_data.resize(kMaxRejectData);
  EXPECT_EQ(event.ToStatus("").code(), absl::StatusCode::kUnavailable);
}

TEST(CmEvent, OtherFailuresHaveNoRejection) {
  EXPECT_EQ(RejectionOf(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(
      RejectionOf(Event(RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT).ToStatus("")),
      std::nullopt);
}

TEST(CmInbox, KeepsEventsInOrder) {
  CmInbox inbox;
  EXPECT_FALSE(inbox.Put(Event(RDMA_CM_EVENT_ESTABLISHED)).has_value());
  EXPECT_FALSE(inbox.Put(Event(RDMA_CM_EVENT_DISCONNECTED)).has_value());
  EXPECT_EQ(inbox.Take()->type, RDMA_CM_EVENT_ESTABLISHED);
  EXPECT_EQ(inbox.Take()->type, RDMA_CM_EVENT_DISCONNECTED);
  EXPECT_FALSE(inbox.Take().has_value());
}

TEST(CmInbox, RequestBeyondTheBoundComesBack) {
  CmInbox inbox;
  inbox.max_requests = 1;
  EXPECT_FALSE(inbox.Put(Event(RDMA_CM_EVENT_CONNECT_REQUEST)).has_value());
  EXPECT_TRUE(inbox.Put(Event(RDMA_CM_EVENT_CONNECT_REQUEST)).has_value());
  EXPECT_FALSE(inbox.Put(Event(RDMA_CM_EVENT_DEVICE_REMOVAL)).has_value());
  ASSERT_TRUE(inbox.Take().has_value());
  EXPECT_FALSE(inbox.Put(Event(RDMA_CM_EVENT_CONNECT_REQUEST)).has_value());
}

TEST(CmInbox, RepeatedAddressChangesTakeOnePlace) {
  CmInbox inbox;
  inbox.Put(Event(RDMA_CM_EVENT_ADDR_CHANGE));
  inbox.Put(Event(RDMA_CM_EVENT_ADDR_CHANGE));
  inbox.Put(Event(RDMA_CM_EVENT_DISCONNECTED));
  EXPECT_EQ(inbox.Take()->type, RDMA_CM_EVENT_ADDR_CHANGE);
  EXPECT_EQ(inbox.Take()->type, RDMA_CM_EVENT_DISCONNECTED);
}

TEST(CmInbox, FilingWakesTheSleepingOwner) {
  CmInbox inbox;
  const Fd wakeup(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  inbox.SetWaiter(wakeup.get());
  const Deadline now = Deadline::After(Duration::zero());
  EXPECT_FALSE(WaitReadable(wakeup.get(), now, nullptr).ok());
  inbox.Put(Event(RDMA_CM_EVENT_ESTABLISHED));
  EXPECT_TRUE(WaitReadable(wakeup.get(), now, nullptr).ok());
}

}  // namespace
}  // namespace nd::verbs

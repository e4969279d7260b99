#include "verbs/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace nd::verbs {
namespace {

using ::testing::HasSubstr;

std::vector<Explanation> All() {
  std::vector<Explanation> all;
  for (const auto table : {WcExplanations(), CmEventExplanations(),
                           AsyncEventExplanations(), RejectExplanations()}) {
    all.insert(all.end(), table.begin(), table.end());
  }
  return all;
}

// libibverbs and librdmacm know a value exactly when nd does: the tables are
// complete for the version that is installed.
TEST(Explain, KnowsEveryWorkCompletionStatusOfTheLibrary) {
  const int count = static_cast<int>(WcExplanations().size());
  for (int i = 0; i < count; ++i) {
    EXPECT_STRNE(ibv_wc_status_str(static_cast<ibv_wc_status>(i)), "unknown");
  }
  EXPECT_STREQ(ibv_wc_status_str(static_cast<ibv_wc_status>(count)), "unknown");
}

TEST(Explain, KnowsEveryAsynchronousEventOfTheLibrary) {
  const int count = static_cast<int>(AsyncEventExplanations().size());
  for (int i = 0; i < count; ++i) {
    EXPECT_STRNE(ibv_event_type_str(static_cast<ibv_event_type>(i)), "unknown");
  }
  EXPECT_STREQ(ibv_event_type_str(static_cast<ibv_event_type>(count)),
               "unknown");
}

TEST(Explain, NamesCmEventsAsTheLibraryDoes) {
  const int count = static_cast<int>(CmEventExplanations().size());
  for (int i = 0; i < count; ++i) {
    const auto event = static_cast<rdma_cm_event_type>(i);
    EXPECT_EQ(Explain(event).name, rdma_event_str(event));
  }
  EXPECT_STREQ(rdma_event_str(static_cast<rdma_cm_event_type>(count)),
               "UNKNOWN EVENT");
}

TEST(Explain, FindsEachValueByItself) {
  EXPECT_EQ(Explain(IBV_WC_RETRY_EXC_ERR).name, "IBV_WC_RETRY_EXC_ERR");
  EXPECT_EQ(Explain(IBV_WC_RETRY_EXC_ERR).value, 12);
  EXPECT_EQ(Explain(IBV_EVENT_GID_CHANGE).name, "IBV_EVENT_GID_CHANGE");
  EXPECT_EQ(ExplainRejectReason(8).meaning, "nobody listens at that port");
  EXPECT_EQ(ExplainRejectReason(28).name, "IB_CM_REJ_CONSUMER_DEFINED");
}

TEST(Explain, ValueOfTheFutureIsUnknown) {
  EXPECT_EQ(Explain(static_cast<ibv_wc_status>(999)).name, "UNKNOWN");
  EXPECT_EQ(Explain(static_cast<rdma_cm_event_type>(-1)).name, "UNKNOWN");
  EXPECT_EQ(ExplainRejectReason(0).name, "UNKNOWN");
  EXPECT_EQ(ExplainRejectReason(36).name, "UNKNOWN");
}

TEST(Explain, EveryEntryIsWhole) {
  for (const Explanation& entry : All()) {
    for (const absl::string_view text :
         {entry.meaning, entry.cause, entry.cure}) {
      EXPECT_FALSE(text.empty()) << entry.name;
      EXPECT_FALSE(absl::EndsWith(text, ".")) << entry.name << ": " << text;
      EXPECT_FALSE(absl::StrContains(text, "  ")) << entry.name << ": " << text;
    }
  }
}

TEST(FindExplanation, FindsEveryNameInFull) {
  for (const Explanation& entry : All()) {
    const auto found = FindExplanation(entry.name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->name, entry.name);
  }
}

TEST(FindExplanation, FindsEveryNameWithoutItsPrefix) {
  for (const Explanation& entry : All()) {
    absl::string_view name = entry.name;
    for (const absl::string_view prefix :
         {"IBV_WC_", "IBV_EVENT_", "RDMA_CM_EVENT_", "IB_CM_REJ_"}) {
      if (absl::ConsumePrefix(&name, prefix)) break;
    }
    const auto found = FindExplanation(name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->name, entry.name);
  }
}

TEST(FindExplanation, IsTolerantOfCaseBlanksAndDashes) {
  for (const absl::string_view text :
       {"retry_exc_err", "Retry Exc", " retry-exc-err ", "12", "status 12",
        "wc status: 12", "transport retry counter exceeded"}) {
    const auto found = FindExplanation(text);
    ASSERT_TRUE(found.ok()) << text << ": " << found.status();
    EXPECT_EQ(found->name, "IBV_WC_RETRY_EXC_ERR") << text;
  }
}

TEST(FindExplanation, NumbersOfOtherKindsNameTheirKind) {
  EXPECT_EQ(FindExplanation("reject 8")->name, "IB_CM_REJ_INVALID_SERVICE_ID");
  EXPECT_EQ(FindExplanation("reason 28")->name, "IB_CM_REJ_CONSUMER_DEFINED");
  EXPECT_EQ(FindExplanation("cm 8")->name, "RDMA_CM_EVENT_REJECTED");
  EXPECT_EQ(FindExplanation("async 8")->name, "IBV_EVENT_DEVICE_FATAL");
}

TEST(FindExplanation, UnknownNumberIsNotFound) {
  EXPECT_EQ(FindExplanation("99").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FindExplanation("reject 0").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(FindExplanation, MisspelledNameGetsTheNearestOnes) {
  const auto found = FindExplanation("IBV_WC_RETRY_EXEC_ERR");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()),
              HasSubstr("near it are IBV_WC_RETRY_EXC_ERR"));
}

TEST(FindExplanation, PartOfANameGetsTheNamesThatHaveIt) {
  const auto found = FindExplanation("flush");
  EXPECT_THAT(std::string(found.status().message()),
              HasSubstr("IBV_WC_WR_FLUSH_ERR"));
}

TEST(FindExplanation, EmptyTextIsInvalid) {
  EXPECT_EQ(FindExplanation(" ").status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace nd::verbs

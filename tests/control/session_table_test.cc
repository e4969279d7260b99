#include "control/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

namespace nd::control {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Instant kNow{seconds(1000)};
constexpr Duration kPatience = seconds(30);

Token SomeToken(uint64_t seed) {
  SeededRandom random(seed);
  return Token::Generate(random);
}

Region SomeRegion() {
  return {.id = 1, .address = 64, .size = 64, .access = {.read = true}};
}

class SessionTableTest : public ::testing::Test {
 protected:
  using Session = SessionTable::Session;

  // With two links.
  absl::StatusOr<uint64_t> Begin() {
    return table_.Begin("10.98.0.1:40001", secret_, SessionLayout(), random_);
  }
  uint64_t Open(Instant now = kNow) {
    const uint64_t id = Begin().value();
    table_.Opened(id, kPatience, now);
    return id;
  }
  absl::Status Exchange(uint64_t id, LinkId link, bool ok = true,
                        Instant now = kNow) {
    absl::Status begun = SessionTable::BeginExchange(*table_.Find(id), link);
    if (begun.ok()) table_.EndExchange(id, link, ok, now);
    return begun;
  }
  absl::StatusOr<std::vector<LinkId>> Reconnect(
      uint64_t id, const std::vector<uint32_t>& numbers) {
    return SessionTable::Reconnect(*table_.Find(id), numbers);
  }

  SeededRandom random_{1};
  const Token secret_ = SomeToken(1);
  SessionTable table_{{.max_sessions = 4, .max_set_ups = 2, .max_regions = 2}};
};

TEST_F(SessionTableTest, SessionIsFoundByItsSecretOnly) {
  const uint64_t id = Open();
  EXPECT_TRUE(table_.Find(id, secret_).ok());
  const absl::Status wrong = table_.Find(id, SomeToken(2)).status();
  const absl::Status unknown = table_.Find(id + 1, secret_).status();
  EXPECT_TRUE(absl::IsNotFound(wrong));
  EXPECT_TRUE(absl::IsNotFound(unknown));
  EXPECT_THAT(std::string(wrong.message()), HasSubstr(SessionName(id)));
}

TEST_F(SessionTableTest, SessionIsFoundOnceTheHostHasIt) {
  const uint64_t id = Begin().value();
  EXPECT_TRUE(absl::IsNotFound(table_.Find(id, secret_).status()));
  table_.Opened(id, kPatience, kNow);
  EXPECT_TRUE(table_.Find(id, secret_).ok());
}

// Draws the ids that it is told to.
class Dice final : public Random {
 public:
  void Fill(std::span<std::byte>) override {}
  uint64_t Next() override { return draws[next++]; }
  std::vector<uint64_t> draws;
  size_t next = 0;
};

TEST_F(SessionTableTest, IdsAreNeitherZeroNorTaken) {
  Dice dice;
  dice.draws = {5, 0, 5, 6};
  EXPECT_EQ(table_.Begin("", secret_, SessionLayout(), dice).value(), 5u);
  EXPECT_EQ(table_.Begin("", secret_, SessionLayout(), dice).value(), 6u);
}

TEST_F(SessionTableTest, SetUpsAtATimeAreLimited) {
  const uint64_t id = Open();
  ASSERT_TRUE(Begin().ok());
  const absl::Status third = Begin().status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.message()), HasSubstr("sets up 2 sessions"));
  EXPECT_TRUE(third.GetPayload(kTryAgain).has_value());
  ASSERT_TRUE(Exchange(id, {0, 0}).ok());
  EXPECT_FALSE(Begin().ok());
  ASSERT_TRUE(Exchange(id, {1, 0}).ok());
  EXPECT_TRUE(Begin().ok());
}

TEST_F(SessionTableTest, SetUpThatIsRemovedMakesRoom) {
  const uint64_t id = Begin().value();
  ASSERT_TRUE(Begin().ok());
  EXPECT_TRUE(table_.Remove(id).has_value());
  EXPECT_FALSE(table_.Remove(id).has_value());
  EXPECT_EQ(table_.set_ups(), 1u);
  EXPECT_TRUE(Begin().ok());
}

TEST_F(SessionTableTest, SessionsAreLimitedAndThatDoesNotPass) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t id = Open();
    ASSERT_TRUE(Exchange(id, {0, 0}).ok());
    ASSERT_TRUE(Exchange(id, {1, 0}).ok());
  }
  EXPECT_EQ(table_.set_ups(), 0u);
  const absl::Status fifth = Begin().status();
  EXPECT_EQ(fifth.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(fifth.message()), HasSubstr("has 4 sessions"));
  EXPECT_FALSE(fifth.GetPayload(kTryAgain).has_value());
}

TEST_F(SessionTableTest, EachLinkIsExchangedOnce) {
  const uint64_t id = Open();
  ASSERT_TRUE(Exchange(id, {1, 0}).ok());
  const absl::Status again = Exchange(id, {1, 0});
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_THAT(std::string(again.message()), HasSubstr("already"));
}

TEST_F(SessionTableTest, ExchangeThatIsUnderWayIsNotBegunAgain) {
  const uint64_t id = Open();
  ASSERT_TRUE(SessionTable::BeginExchange(*table_.Find(id), {1, 0}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Exchange(id, {1, 0})));
}

TEST_F(SessionTableTest, ExchangeThatFailedMayBeTriedAgain) {
  const uint64_t id = Open();
  ASSERT_TRUE(Exchange(id, {1, 0}, false).ok());
  EXPECT_TRUE(Exchange(id, {1, 0}).ok());
}

TEST_F(SessionTableTest, ExchangeOfOtherLinksIsRefused) {
  const uint64_t id = Open();
  const absl::Status beyond = Exchange(id, {2, 0});
  EXPECT_EQ(beyond, absl::InvalidArgumentError("link.number: 2 is above 1"));
  const absl::Status early = Exchange(id, {1, 1});
  EXPECT_TRUE(absl::IsFailedPrecondition(early));
  EXPECT_THAT(std::string(early.message()),
              HasSubstr("link.incarnation: 1, but link 1 is at 0"));
}

TEST_F(SessionTableTest, LostLinksComeBackWithTheirNextIncarnations) {
  const uint64_t id = Open();
  EXPECT_THAT(SessionTable::AllLinks(*table_.Find(id)),
              ElementsAre(LinkId{0, 0}, LinkId{1, 0}));
  EXPECT_THAT(Reconnect(id, {1}).value(), ElementsAre(LinkId{1, 1}));
  EXPECT_THAT(Reconnect(id, {1, 0}).value(),
              ElementsAre(LinkId{1, 2}, LinkId{0, 1}));
  EXPECT_TRUE(absl::IsFailedPrecondition(Exchange(id, {1, 1})));
  EXPECT_TRUE(Exchange(id, {1, 2}).ok());
}

TEST_F(SessionTableTest, LinksThatAreNotThereDoNotComeBack) {
  const uint64_t id = Open();
  EXPECT_EQ(Reconnect(id, {}).status(),
            absl::InvalidArgumentError("links: none"));
  EXPECT_EQ(Reconnect(id, {0, 2}).status(),
            absl::InvalidArgumentError("links: 2 is above 1"));
  EXPECT_EQ(Reconnect(id, {0, 0}).status(),
            absl::InvalidArgumentError("links: 0 is there twice"));
  EXPECT_THAT(Reconnect(id, {0}).value(), ElementsAre(LinkId{0, 1}));
}

TEST_F(SessionTableTest, LateEndOfAnOldExchangeChangesNothing) {
  const uint64_t id = Open();
  ASSERT_TRUE(SessionTable::BeginExchange(*table_.Find(id), {0, 0}).ok());
  ASSERT_TRUE(Reconnect(id, {0}).ok());
  table_.EndExchange(id, {0, 0}, true, kNow);
  EXPECT_TRUE(Exchange(id, {0, 1}).ok());
  table_.EndExchange(id + 1, {0, 0}, true, kNow);  // of a session that is gone
}

TEST_F(SessionTableTest, SessionThatIsSetUpStaysSoWithoutItsLinks) {
  const uint64_t id = Open();
  ASSERT_TRUE(Exchange(id, {0, 0}).ok());
  ASSERT_TRUE(Exchange(id, {1, 0}).ok());
  ASSERT_TRUE(Reconnect(id, {0, 1}).ok());
  EXPECT_EQ(table_.set_ups(), 0u);
  ASSERT_TRUE(Exchange(id, {0, 1}).ok());
  ASSERT_TRUE(Exchange(id, {1, 1}).ok());
  EXPECT_EQ(table_.set_ups(), 0u);
  EXPECT_THAT(table_.Late(kNow + seconds(3600)), IsEmpty());
}

TEST_F(SessionTableTest, SetUpIsLateWhenNothingCameForSoLong) {
  const uint64_t id = Open();
  EXPECT_THAT(table_.Late(kNow + seconds(29)), IsEmpty());
  ASSERT_TRUE(Exchange(id, {0, 0}, true, kNow + seconds(29)).ok());
  EXPECT_THAT(table_.Late(kNow + seconds(58)), IsEmpty());
  EXPECT_THAT(table_.Late(kNow + seconds(59)), ElementsAre(id));
}

TEST_F(SessionTableTest, WhatTheHostHasNotOpenedIsNotLate) {
  ASSERT_TRUE(Begin().ok());
  EXPECT_THAT(table_.Late(kNow + seconds(3600)), IsEmpty());
}

TEST(RegionTable, RegionIsFoundByNameUntilItIsWithdrawn) {
  RegionTable table(2);
  ASSERT_TRUE(table.Publish("kv", SomeRegion()).ok());
  EXPECT_EQ(table.Find("kv").value(), SomeRegion());
  EXPECT_EQ(table.Withdraw("kv").value(), SomeRegion());
  EXPECT_TRUE(absl::IsNotFound(table.Find("kv").status()));
  const absl::Status again = table.Withdraw("kv").status();
  EXPECT_TRUE(absl::IsNotFound(again));
  EXPECT_THAT(std::string(again.message()), HasSubstr("region \"kv\""));
}

TEST(RegionTable, NamesAreTakenOnce) {
  RegionTable table(2);
  ASSERT_TRUE(table.Publish("kv", SomeRegion()).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(table.Publish("kv", SomeRegion())));
}

TEST(RegionTable, RegionsAreLimited) {
  RegionTable table(2);
  ASSERT_TRUE(table.Publish("a", SomeRegion()).ok());
  ASSERT_TRUE(table.Publish("b", SomeRegion()).ok());
  const absl::Status third = table.Publish("c", SomeRegion());
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.message()), HasSubstr("2 are published"));
  ASSERT_TRUE(table.Withdraw("a").ok());
  EXPECT_TRUE(table.Publish("c", SomeRegion()).ok());
}

TEST(RegionTable, RegionsAreChecked) {
  RegionTable table(2);
  Region region = SomeRegion();
  region.size = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(table.Publish("a", region)));
}

}  // namespace
}  // namespace nd::control

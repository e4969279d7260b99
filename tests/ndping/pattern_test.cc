#include "ndping/engine/pattern.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/random.h"

namespace nd::ndping {
namespace {

constexpr PatternKey kKey = {
    .phase = 2, .qp = 3, .from_client = true, .sequence = 17};

std::vector<std::byte> MessageOf(const PatternKey& key, size_t size) {
  std::vector<std::byte> message(size);
  FillPattern(key, message);
  return message;
}

std::vector<PatternKey> OtherKeys() {
  std::vector<PatternKey> keys(4, kKey);
  keys[0].phase = 3;
  keys[1].qp = 4;
  keys[2].from_client = false;
  keys[3].sequence = 18;
  return keys;
}

TEST(Pattern, IsTheSameEveryTimeAndOnEveryMachine) {
  EXPECT_EQ(MessageOf(kKey, 1000), MessageOf(kKey, 1000));
  const std::vector<std::byte> message = MessageOf({}, 10);
  // Computed by a few lines of Python from the finalizer of splitmix64.
  const std::vector<std::byte> golden = {
      std::byte{0x63}, std::byte{0x78}, std::byte{0xC5}, std::byte{0xF9},
      std::byte{0xD4}, std::byte{0x8B}, std::byte{0xFE}, std::byte{0x33},
      std::byte{0xEC}, std::byte{0x01}};
  EXPECT_EQ(message, golden);
}

TEST(Pattern, MatchesWhatItFilledInEverySize) {
  for (size_t size = 0; size < 100; ++size) {
    EXPECT_EQ(FindMismatch(kKey, MessageOf(kKey, size)), std::nullopt) << size;
  }
}

TEST(Pattern, FindsEverySingleWrongByte) {
  SeededRandom random(1);
  for (const size_t size : {1, 2, 7, 8, 9, 16, 63, 1024, 4097}) {
    for (int i = 0; i < 200; ++i) {
      std::vector<std::byte> message = MessageOf(kKey, size);
      const size_t at = random.Below(size);
      const std::byte right = message[at];
      message[at] ^= static_cast<std::byte>(1 + random.Below(255));
      const Mismatch expected = {
          .offset = at, .found = message[at], .expected = right};
      EXPECT_EQ(FindMismatch(kKey, message), expected)
          << size << " bytes, wrong at " << at;
    }
  }
}

TEST(Pattern, DiffersByPhaseQpDirectionAndMessage) {
  for (const PatternKey& other : OtherKeys()) {
    for (const size_t size : {1, 8, 4096}) {
      EXPECT_NE(FindMismatch(kKey, MessageOf(other, size)), std::nullopt)
          << DescribeMessage(other) << ", " << size << " bytes";
    }
  }
}

TEST(Pattern, LastByteChangesWithEachMessageOfALap) {
  std::set<std::byte> seen;
  PatternKey key = kKey;
  for (key.sequence = 1000; key.sequence < 1256; ++key.sequence) {
    seen.insert(LastByteOf(key));
    EXPECT_EQ(MessageOf(key, 33).back(), LastByteOf(key));
  }
  EXPECT_EQ(seen.size(), 256u);
}

TEST(Atomics, CountersStepByOneOperation) {
  EXPECT_EQ(AtomicValue(5, 7) + kAtomicStep, AtomicValue(5, 8));
  EXPECT_NE(AtomicValue(5, 0), AtomicValue(6, 0));
}

TEST(Verdict, DescribesTheFirstWrongMessageAndCountsAll) {
  Verdict verdict;
  std::vector<std::byte> message = MessageOf(kKey, 64);
  verdict.Check(kKey, message);
  message[41] = std::byte{0};
  verdict.Check(kKey, message);
  message[3] ^= std::byte{1};
  verdict.Check(kKey, message);

  v1::PhaseReport report;
  verdict.AddTo(report);
  EXPECT_EQ(report.verified(), 3u);
  EXPECT_EQ(report.mismatched(), 2u);
  EXPECT_EQ(
      report.first_mismatch().rfind("qp 3, message 17, byte 41: 0x00, ", 0), 0u)
      << report.first_mismatch();
}

TEST(Verdict, WaitsForAMessageThatSettles) {
  Verdict verdict;
  verdict.CheckSettling(kKey, MessageOf(kKey, 64));
  EXPECT_EQ(verdict.mismatched(), 0u);
  std::vector<std::byte> wrong = MessageOf(kKey, 64);
  wrong[0] ^= std::byte{1};
  verdict.CheckSettling(kKey, wrong);
  EXPECT_EQ(verdict.mismatched(), 1u);
}

TEST(Verdict, CountsAFaultThatIsOfNoMessageAsMismatchedOnly) {
  Verdict verdict;
  verdict.AddFault("qp 0, after 3 atomics: 0x1, not 0x3");
  v1::PhaseReport report;
  verdict.AddTo(report);
  EXPECT_EQ(report.verified(), 0u);
  EXPECT_EQ(report.mismatched(), 1u);
}

}  // namespace
}  // namespace nd::ndping

#include "soft/net/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "base/random.h"

namespace nd::soft {
namespace {

constexpr size_t kRingBytes = 1024;

// Memory for a ring, and both ends of it.
class RingTest : public testing::Test {
 protected:
  struct alignas(kCacheLineBytes) Line {
    std::array<std::byte, kCacheLineBytes> bytes{};
  };

  std::span<std::byte> memory() {
    return std::as_writable_bytes(std::span(lines_));
  }
  std::span<std::byte> data() { return memory().subspan(kRingControlBytes); }
  RingControl& control() {
    return *reinterpret_cast<RingControl*>(memory().data());
  }

  // A record of `size` bytes, all of them `value`.
  bool Write(size_t size, uint8_t value) {
    const auto record = producer_.Reserve(size);
    if (record.empty()) return false;
    std::ranges::fill(record, std::byte{value});
    producer_.Commit();
    return true;
  }
  bool Read(size_t size, uint8_t value) {
    std::span<const std::byte> record;
    if (consumer_.Peek(record) != RingState::kRecord) return false;
    const bool same =
        record.size() == size && std::ranges::count(record, std::byte{value}) ==
                                     static_cast<ptrdiff_t>(size);
    consumer_.Pop();
    return same;
  }
  RingState Peek() {
    std::span<const std::byte> record;
    return consumer_.Peek(record);
  }

  std::vector<Line> lines_ =
      std::vector<Line>((kRingControlBytes + kRingBytes) / kCacheLineBytes);
  RingProducer producer_{memory()};
  RingConsumer consumer_{memory()};
};

TEST_F(RingTest, RecordsComeOutAsTheyWentInAtEveryOffset) {
  for (size_t offset = 0; offset < 2 * kRingBytes; offset += 8) {
    for (size_t size = 1; size <= kRingBytes / 2 - 8; size += 37) {
      const auto value = static_cast<uint8_t>(size);
      ASSERT_TRUE(Write(size, value)) << offset << " " << size;
      (void)producer_.Publish();
      ASSERT_TRUE(Read(size, value)) << offset << " " << size;
      (void)consumer_.Publish();
    }
    ASSERT_TRUE(Write(1 + offset % 5, 1));
    (void)producer_.Publish();
    ASSERT_TRUE(Read(1 + offset % 5, 1));
    (void)consumer_.Publish();
  }
}

TEST_F(RingTest, WhatIsNotPublishedIsNotSeen) {
  ASSERT_TRUE(Write(10, 1));
  EXPECT_EQ(Peek(), RingState::kEmpty);
  (void)producer_.Publish();
  EXPECT_EQ(Peek(), RingState::kRecord);
}

TEST_F(RingTest, TakesAsManyRecordsAsItHasRoomFor) {
  SeededRandom random(1);
  for (int round = 0; round < 2000; ++round) {
    while (producer_.HasRoom(100)) {
      ASSERT_TRUE(Write(1 + random.Below(100), 7)) << round;
    }
    (void)producer_.Publish();
    std::span<const std::byte> record;
    for (uint64_t i = random.Below(12); i > 0; --i) {
      if (consumer_.Peek(record) != RingState::kRecord) break;
      consumer_.Pop();
    }
    (void)consumer_.Publish();
  }
}

TEST_F(RingTest, AFullRingTakesNothing) {
  while (Write(100, 1)) continue;
  EXPECT_TRUE(producer_.Reserve(100).empty());
  (void)producer_.Publish();
  EXPECT_TRUE(Read(100, 1));
}

TEST_F(RingTest, AProducerThatFoundNoRoomIsToldOnceHalfIsFree) {
  while (producer_.HasRoom(100)) ASSERT_TRUE(Write(100, 1));
  (void)producer_.Publish();
  ASSERT_TRUE(Read(100, 1));
  EXPECT_FALSE(consumer_.Publish());
  int told = 0;
  while (Read(100, 1)) told += consumer_.Publish() ? 1 : 0;
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(producer_.HasRoom(100));
}

TEST_F(RingTest, AConsumerIsWokenOnceARest) {
  ASSERT_TRUE(Write(1, 1));
  EXPECT_TRUE(producer_.Publish());
  EXPECT_FALSE(consumer_.Rest());
  consumer_.StopResting();
  ASSERT_TRUE(Read(1, 1));
  EXPECT_TRUE(consumer_.Rest());
  ASSERT_TRUE(Write(1, 1));
  EXPECT_TRUE(producer_.Publish());
  ASSERT_TRUE(Write(1, 1));
  EXPECT_FALSE(producer_.Publish());
}

TEST_F(RingTest, AConsumerAwakeIsNotWoken) {
  consumer_.StopResting();
  ASSERT_TRUE(Write(1, 1));
  EXPECT_FALSE(producer_.Publish());
}

TEST_F(RingTest, ALengthThatCannotBeIsBroken) {
  for (const uint32_t length : {1017u, 1024u, 1025u, 0x7fffffffu, 0xfffffff8u,
                                0xfffffffdu, 0xfffffffeu}) {
    const uint32_t word = length + 1;
    std::memcpy(data().data(), &word, sizeof(word));
    RingConsumer consumer(memory());
    std::span<const std::byte> record;
    EXPECT_EQ(consumer.Peek(record), RingState::kBroken) << length;
  }
}

TEST_F(RingTest, ALengthBeyondTheEndIsBroken) {
  ASSERT_TRUE(Write(8, 1));
  (void)producer_.Publish();
  ASSERT_TRUE(Read(8, 1));
  const uint32_t word = kRingBytes - 16;
  std::memcpy(&data()[16], &word, sizeof(word));
  EXPECT_EQ(Peek(), RingState::kBroken);
}

TEST_F(RingTest, ASkipToNothingIsBroken) {
  ASSERT_TRUE(Write(8, 1));
  (void)producer_.Publish();
  ASSERT_TRUE(Read(8, 1));
  const uint32_t skip = 0xffffffff;
  std::memcpy(&data()[16], &skip, sizeof(skip));
  for (const uint32_t word : {0u, skip}) {
    std::memcpy(data().data(), &word, sizeof(word));
    EXPECT_EQ(Peek(), RingState::kBroken) << word;
  }
}

TEST_F(RingTest, RecordsThatArePublishedTogetherAreSeenTogether) {
  for (int offset = 0; offset < 100; ++offset) {
    for (uint8_t i = 0; i < 4; ++i) {
      ASSERT_TRUE(Write(50 + i, i));
      ASSERT_EQ(Peek(), RingState::kEmpty);
    }
    (void)producer_.Publish();
    for (uint8_t i = 0; i < 4; ++i) ASSERT_TRUE(Read(50 + i, i));
    ASSERT_EQ(Peek(), RingState::kEmpty);
    (void)consumer_.Publish();
  }
}

TEST_F(RingTest, RoomIsGivenBackInLargePartsWhereThatIsEnough) {
  ASSERT_TRUE(Write(8, 1));
  (void)producer_.Publish();
  ASSERT_TRUE(Read(8, 1));
  (void)consumer_.PublishMuch();
  EXPECT_EQ(control().head, 16u);  // the first, which says that it is heard
  for (uint64_t given_back = 16; given_back < 4 * kRingBytes;) {
    ASSERT_TRUE(Write(8, 1));
    (void)producer_.Publish();
    ASSERT_TRUE(Read(8, 1));
    (void)consumer_.PublishMuch();
    const uint64_t head = control().head;
    ASSERT_TRUE(head == given_back || head >= given_back + kRingBytes / 8);
    given_back = head;
  }
}

TEST_F(RingTest, AHeadThatCannotBeLeavesNoRoom) {
  ASSERT_TRUE(Write(8, 1));
  for (const uint64_t head :
       {uint64_t{64}, std::numeric_limits<uint64_t>::max()}) {
    while (Write(8, 1)) control().head = head;
    EXPECT_FALSE(producer_.HasRoom(8));
  }
}

// Whatever it holds, a ring hands out only its own memory, and ends.
TEST_F(RingTest, NoiseIsReadWithinTheMemory) {
  SeededRandom random(2);
  for (int round = 0; round < 20000; ++round) {
    random.Fill(data());
    for (size_t i = 0; i < kRingBytes; i += 8) {
      const auto length = static_cast<uint32_t>(random.Below(80));
      const uint32_t word = random.OneIn(8) ? 0xffffffff : length;
      std::memcpy(&data()[i], &word, sizeof(word));
    }
    RingConsumer consumer(memory());
    std::span<const std::byte> record;
    for (size_t i = 0; i < kRingBytes; ++i) {
      if (consumer.Peek(record) != RingState::kRecord) break;
      ASSERT_GE(record.data(), data().data());
      ASSERT_LE(record.data() + record.size(), data().data() + data().size());
      consumer.Pop();
      (void)consumer.Publish();
    }
  }
}

// Two threads; each sleeps until it is rung, so a bell that is lost stops them.
TEST_F(RingTest, NoBellIsLost) {
  constexpr uint32_t kRecords = 20000;
  std::atomic<uint32_t> for_consumer = 0;
  std::atomic<uint32_t> for_producer = 0;
  std::thread consumer([&] {
    for (uint32_t expected = 0; expected < kRecords;) {
      const uint32_t rung = for_consumer.load();
      consumer_.StopResting();
      std::span<const std::byte> record;
      while (consumer_.Peek(record) == RingState::kRecord) {
        uint32_t value;
        std::memcpy(&value, record.data(), sizeof(value));
        EXPECT_EQ(value, expected);
        ++expected;
        consumer_.Pop();
        if (consumer_.Publish()) {
          ++for_producer;
          for_producer.notify_one();
        }
      }
      if (expected < kRecords && consumer_.Rest()) for_consumer.wait(rung);
    }
  });
  for (uint32_t value = 0; value < kRecords;) {
    const uint32_t rung = for_producer.load();
    const bool room = producer_.HasRoom(40);
    for (; producer_.HasRoom(40) && value < kRecords; ++value) {
      const auto record = producer_.Reserve(sizeof(value) + value % 37);
      std::memcpy(record.data(), &value, sizeof(value));
      producer_.Commit();
    }
    if (producer_.Publish()) {
      ++for_consumer;
      for_consumer.notify_one();
    }
    if (!room) for_producer.wait(rung);
  }
  consumer.join();
}

TEST_F(RingTest, AProducerThatPromisesMoreThanThereIsDoesNotHoldUpTheMark) {
  ASSERT_TRUE(Write(40, 1));
  ASSERT_TRUE(Write(40, 2));
  (void)producer_.Publish();
  control().tail = std::numeric_limits<uint64_t>::max();
  consumer_.Mark();
  EXPECT_FALSE(consumer_.PassedMark());
  ASSERT_TRUE(Read(40, 1));
  EXPECT_FALSE(consumer_.PassedMark());
  ASSERT_TRUE(Read(40, 2));
  EXPECT_TRUE(consumer_.PassedMark());
}

}  // namespace
}  // namespace nd::soft

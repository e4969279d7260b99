#include "soft/wire/syndrome.h"

#include <gtest/gtest.h>

namespace nd::soft {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

TEST(Syndrome, BytesAreThoseOfTheTable) {
  EXPECT_EQ(Syndrome::Ack().value(), 0x1f);
  EXPECT_EQ(Syndrome::Ack(5).value(), 0x05);
  EXPECT_EQ(Syndrome::RnrNak(14).value(), 0x2e);
  EXPECT_EQ(Syndrome::Nak(NakCode::kPsnSequenceError).value(), 0x60);
  EXPECT_EQ(Syndrome::Nak(NakCode::kInvalidRequest).value(), 0x61);
  EXPECT_EQ(Syndrome::Nak(NakCode::kRemoteAccessError).value(), 0x62);
  EXPECT_EQ(Syndrome::Nak(NakCode::kRemoteOperationalError).value(), 0x63);
  EXPECT_EQ(Syndrome::Nak(NakCode::kInvalidRdRequest).value(), 0x64);
}

TEST(Syndrome, EveryByteHasItsKind) {
  for (int value = 0; value < 256; ++value) {
    const Syndrome syndrome(static_cast<uint8_t>(value));
    Syndrome::Kind expected = Syndrome::Kind::kReserved;
    if (value < 0x20) expected = Syndrome::Kind::kAck;
    if (value >= 0x20 && value < 0x40) expected = Syndrome::Kind::kRnrNak;
    if (value >= 0x60 && value < 0x80) expected = Syndrome::Kind::kNak;
    EXPECT_EQ(syndrome.kind(), expected) << value;
    EXPECT_EQ(syndrome.code(), value & 0x1f);
  }
}

// Table 45 doubles every second code: two codes on, twice the time.
TEST(RnrTime, FollowsItsRule) {
  EXPECT_EQ(RnrTime(0), microseconds(655'360));
  EXPECT_EQ(RnrTime(1), microseconds(10));
  EXPECT_EQ(RnrTime(12), microseconds(640));
  EXPECT_EQ(RnrTime(31), microseconds(491'520));
  for (uint8_t code = 2; code + 2 < 32; ++code) {
    EXPECT_EQ(RnrTime(code + 2), 2 * RnrTime(code)) << int{code};
  }
  for (uint8_t code = 2; code < 32; ++code) {
    EXPECT_GT(RnrTime(code), RnrTime(code - 1)) << int{code};
  }
}

TEST(AckTime, DoublesByExponentAndZeroIsNever) {
  EXPECT_EQ(AckTime(0), nanoseconds(0));
  EXPECT_EQ(AckTime(1), nanoseconds(8192));
  EXPECT_EQ(AckTime(14), nanoseconds(67'108'864));
  EXPECT_EQ(AckTime(31), nanoseconds(int64_t{4096} << 31));
}

}  // namespace
}  // namespace nd::soft

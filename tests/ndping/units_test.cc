#include "ndping/text/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace nd::ndping {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message());
}

TEST(ParseSize, ReadsPowersOf1024) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("64"), 64u);
  EXPECT_EQ(*ParseSize("8K"), 8192u);
  EXPECT_EQ(*ParseSize("8k"), 8192u);
  EXPECT_EQ(*ParseSize("4M"), 4u << 20);
  EXPECT_EQ(*ParseSize("1G"), 1u << 30);
}

TEST(ParseSize, SaysWhatWasGivenAndExpected) {
  for (const char* text : {"", "K", "-1", "+1", "8Q", "8KB", "1.5K", "0x10",
                           " 8", "1e3", "99999999999999999999"}) {
    const auto size = ParseSize(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(MessageOf(size.status()),
              "'" + std::string(text) +
                  "' is not a size; expected bytes, with K, M or G for powers "
                  "of 1024: 64, 8K, 4M, 1G");
  }
}

TEST(ParseSize, RefusesWhatOverflows) {
  EXPECT_EQ(*ParseSize("9223372036854775807"), 9223372036854775807u);
  EXPECT_FALSE(ParseSize("9223372036854775808").ok());
  EXPECT_FALSE(ParseSize("8589934592G").ok());
  EXPECT_EQ(*ParseSize("8589934591G"), 8589934591u << 30);
}

TEST(ParseSizes, SweepsByPowersOfTwoWithBothEnds) {
  EXPECT_THAT(*ParseSizes("8..64"), ElementsAre(8, 16, 32, 64));
  EXPECT_THAT(*ParseSizes("0..4"), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(*ParseSizes("1000..5000"),
              ElementsAre(1000, 1024, 2048, 4096, 5000));
  EXPECT_THAT(*ParseSizes("7..7"), ElementsAre(7));
  EXPECT_EQ(ParseSizes("8..1M")->size(), 18u);
}

TEST(ParseSizes, ListsKeepTheirOrderAndMayContainSweeps) {
  EXPECT_THAT(*ParseSizes("1023,8"), ElementsAre(1023, 8));
  EXPECT_THAT(*ParseSizes("1,1K..4K,5"), ElementsAre(1, 1024, 2048, 4096, 5));
}

TEST(ParseSizes, RefusesWhatIsNoList) {
  for (const char* text : {"", ",", "1,", "..", "1..", "..8", "1..2..4"}) {
    EXPECT_FALSE(ParseSizes(text).ok()) << text;
  }
  EXPECT_EQ(MessageOf(ParseSizes("1M..8").status()),
            "'1M..8' is not a sweep from a smaller size to a larger one");
}

TEST(ParseSizes, AllowsSixtyFourSizes) {
  EXPECT_EQ(ParseSizes("0..4611686018427387904")->size(), 64u);
  EXPECT_THAT(MessageOf(ParseSizes("0..4611686018427387905").status()),
              HasSubstr("more than 64 sizes"));
}

TEST(ParseNumber, NamesTheRange) {
  EXPECT_EQ(*ParseNumber("7", 0, 7), 7u);
  EXPECT_EQ(MessageOf(ParseNumber("8", 0, 7).status()),
            "'8' is not a whole number from 0 to 7");
  EXPECT_FALSE(ParseNumber("1.0", 0, 7).ok());
  EXPECT_FALSE(ParseNumber("-0", 0, 7).ok());
}

TEST(ParseTime, ReadsNumbersWithUnits) {
  EXPECT_EQ(*ParseTime("500us"), microseconds(500));
  EXPECT_EQ(*ParseTime("1m30s"), seconds(90));
  EXPECT_EQ(*ParseTime("0"), Duration::zero());
  EXPECT_EQ(*ParseTime("1.5ms"), microseconds(1500));
}

TEST(ParseTime, RefusesNegativeEndlessAndUnitless) {
  for (const char* text : {"10", "", "-1s", "inf", "s", "10 s", "300000000h"}) {
    const auto time = ParseTime(text);
    ASSERT_FALSE(time.ok()) << text;
    EXPECT_THAT(MessageOf(time.status()),
                HasSubstr("expected a number with a unit"));
  }
}

TEST(ParseBandwidth, ReadsPowersOf1000) {
  EXPECT_EQ(*ParseBandwidth("1000"), 1000);
  EXPECT_EQ(*ParseBandwidth("1G"), 1e9);
  EXPECT_EQ(*ParseBandwidth("2.5GB/s"), 2.5e9);
  EXPECT_EQ(*ParseBandwidth("800 MB/s"), 8e8);
  for (const char* text : {"", "G", "-1", "inf", "nan", "1Q", "1.2.3", "1e9"}) {
    EXPECT_FALSE(ParseBandwidth(text).ok()) << text;
  }
}

TEST(ParseRate, ReadsPowersOf1000) {
  EXPECT_EQ(*ParseRate("1M"), 1e6);
  EXPECT_EQ(*ParseRate("1.5Mmsg/s"), 1.5e6);
  EXPECT_EQ(*ParseRate("250K/s"), 250e3);
  EXPECT_FALSE(ParseRate("fast").ok());
}

TEST(FormatSize, IsShortAndExact) {
  EXPECT_EQ(FormatSize(0), "0");
  EXPECT_EQ(FormatSize(1023), "1023");
  EXPECT_EQ(FormatSize(1024), "1K");
  EXPECT_EQ(FormatSize(1025), "1025");
  EXPECT_EQ(FormatSize(1536 << 10), "1536K");
  EXPECT_EQ(FormatSize(8 << 20), "8M");
  EXPECT_EQ(FormatSize(uint64_t{3} << 30), "3G");
}

TEST(FormatTime, HasThreeDigitsInAUnitThatSuits) {
  EXPECT_EQ(FormatTime(0), "0 ns");
  EXPECT_EQ(FormatTime(1), "1.00 ns");
  EXPECT_EQ(FormatTime(999), "999 ns");
  EXPECT_EQ(FormatTime(999.6), "1.00 us");
  EXPECT_EQ(FormatTime(1234), "1.23 us");
  EXPECT_EQ(FormatTime(9996), "10.0 us");
  EXPECT_EQ(FormatTime(12345), "12.3 us");
  EXPECT_EQ(FormatTime(999499), "999 us");
  EXPECT_EQ(FormatTime(999500), "1.00 ms");
  EXPECT_EQ(FormatTime(4.56e6), "4.56 ms");
  EXPECT_EQ(FormatTime(1.5e9), "1.50 s");
  EXPECT_EQ(FormatTime(3.6e12), "3600 s");
}

TEST(FormatBandwidth, IsInGigabytesASecond) {
  EXPECT_EQ(FormatBandwidth(1.234e9), "1.23 GB/s");
  EXPECT_EQ(FormatBandwidth(12.34e9), "12.3 GB/s");
  EXPECT_EQ(FormatBandwidth(1.234e6), "0.00123 GB/s");
  EXPECT_EQ(FormatBandwidth(0), "0 GB/s");
}

TEST(FormatRate, HasThreeDigits) {
  EXPECT_EQ(FormatRate(640), "640 msg/s");
  EXPECT_EQ(FormatRate(0.5), "0.500 msg/s");
  EXPECT_EQ(FormatRate(18765), "18.8 K msg/s");
  EXPECT_EQ(FormatRate(1.2345e6), "1.23 M msg/s");
}

TEST(FormatPercent, SaysAllAndNothingOnlyWhenItIs) {
  EXPECT_EQ(FormatPercent(100), "100 %");
  EXPECT_EQ(FormatPercent(99.9999), "99.99 %");
  EXPECT_EQ(FormatPercent(98.24), "98.2 %");
  EXPECT_EQ(FormatPercent(0.0001), "0.01 %");
  EXPECT_EQ(FormatPercent(0), "0 %");
  EXPECT_EQ(FormatPercent(163.4), "163.4 %");
}

}  // namespace
}  // namespace nd::ndping

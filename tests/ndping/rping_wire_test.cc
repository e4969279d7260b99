#include "ndping/rping/rping_wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace nd::ndping {
namespace {

std::string PingData(uint64_t sequence, size_t size) {
  std::vector<std::byte> data(size, std::byte{0xee});
  FillRpingData(sequence, data);
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

// struct rping_rdma_info of rdma-core's librdmacm/examples/rping.c: be64 buf,
// be32 rkey, be32 size.
TEST(RpingAdvert, HasRpingsBytes) {
  const RpingAdvert advert{
      .address = 0x0102030405060708, .rkey = 0x11223344, .size = 0x40};
  const auto golden = Bytes({0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                             0x11, 0x22, 0x33, 0x44, 0x00, 0x00, 0x00, 0x40});
  EXPECT_TRUE(std::ranges::equal(advert.Encode(), golden));
  EXPECT_EQ(RpingAdvert::Parse(golden), advert);
}

TEST(RpingAdvert, AnyOtherLengthIsNoAdvert) {
  const std::vector<std::byte> bytes(64);
  for (size_t size = 0; size <= bytes.size(); ++size) {
    EXPECT_EQ(RpingAdvert::Parse(std::span(bytes).first(size)).has_value(),
              size == RpingAdvert::kSize)
        << size;
  }
}

// What `rping -c -v` prints, 64 bytes a ping, and the zero behind it.
TEST(RpingData, IsWhatRpingPrints) {
  EXPECT_EQ(PingData(0, 64),
            std::string("rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                        "abcdefghijklmnopqr") +
                '\0');
  EXPECT_EQ(PingData(1, 64),
            std::string("rdma-ping-1: BCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                        "abcdefghijklmnopqrs") +
                '\0');
}

TEST(RpingData, WrapsFromSmallZToA) {
  EXPECT_EQ(PingData(57, 20), std::string("rdma-ping-57: zABCD") + '\0');
  EXPECT_EQ(PingData(58, 20), std::string("rdma-ping-58: ABCDE") + '\0');
}

TEST(RpingData, IsCutOffWhereItDoesNotFit) {
  EXPECT_EQ(PingData(3, 1), std::string(1, '\0'));
  EXPECT_EQ(PingData(3, 6), std::string("rdma-") + '\0');
  FillRpingData(3, {});
}

TEST(RpingText, EndsAtTheZeroOrTheLimit) {
  EXPECT_EQ(RpingText(Bytes({'a', 'b', 0, 'c'}), 64), "ab");
  EXPECT_EQ(RpingText(Bytes({'a', 'b', 'c'}), 2), "ab");
  EXPECT_EQ(RpingText(Bytes({'a', 0x1b, 0xff}), 64), "a..");
}

}  // namespace
}  // namespace nd::ndping

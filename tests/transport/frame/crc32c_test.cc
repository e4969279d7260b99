#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>

#include "transport/frame/packet.h"

namespace nd::transport {
namespace {

using Bytes32 = std::array<uint8_t, 32>;

// RFC 3720, B.4, whose bytes are the checksum's, lowest first.
TEST(Crc32c, OfTheExamplesOfRfc3720) {
  Bytes32 zeros{}, ones, up, down;
  std::ranges::fill(ones, 0xff);
  std::iota(up.begin(), up.end(), 0);
  std::iota(down.rbegin(), down.rend(), 0);
  constexpr std::array<uint8_t, 48> kReadCommand = {
      0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  //
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  //
      0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,  //
      0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,  //
      0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  //
      0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};

  EXPECT_EQ(Crc32c(std::as_bytes(std::span(zeros))), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(ones))), 0x62a8ab43u);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(up))), 0x46dd794eu);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(down))), 0x113fdb5cu);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(kReadCommand))), 0xd9963a56u);
}

TEST(Crc32c, OfNothingIsWhatWasBefore) {
  EXPECT_EQ(Crc32c({}), 0u);
  EXPECT_EQ(Crc32c({}, 0x12345678), 0x12345678u);
}

TEST(Crc32c, GoesOnFromAnyByte) {
  Bytes32 up;
  std::iota(up.begin(), up.end(), 0);
  const auto bytes = std::as_bytes(std::span(up));

  for (size_t cut = 0; cut <= up.size(); ++cut) {
    EXPECT_EQ(Crc32c(bytes.subspan(cut), Crc32c(bytes.first(cut))), 0x46dd794eu)
        << cut;
  }
}

// A large message has one checksum, and ISA-L counts in int. The value is from
// the CRC's linearity: what a zero byte does to the register is a matrix, here
// to the power of that many bytes.
TEST(Crc32c, TakesMoreBytesThanAnIntCounts) {
  constexpr size_t kBytes = (size_t{1} << 32) + 5;
  void* const zeros = mmap(nullptr, kBytes, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  madvise(zeros, kBytes, MADV_HUGEPAGE);  // fewer page faults
  EXPECT_EQ(Crc32c(std::span(static_cast<const std::byte*>(zeros), kBytes)),
            0xbb3e6a6du);
  munmap(zeros, kBytes);
}

}  // namespace
}  // namespace nd::transport

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/random.h"

namespace nd {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr std::array<uint8_t, 8> kBytes = {0x01, 0x02, 0x03, 0x04,
                                           0x05, 0x06, 0x07, 0x88};

TEST(ByteReader, ReadsBigEndian) {
  EXPECT_EQ(ByteReader(kBytes).ReadU8(), 0x01);
  EXPECT_EQ(ByteReader(kBytes).ReadBe16(), 0x0102);
  EXPECT_EQ(ByteReader(kBytes).ReadBe24(), 0x010203u);
  EXPECT_EQ(ByteReader(kBytes).ReadBe32(), 0x01020304u);
  EXPECT_EQ(ByteReader(kBytes).ReadBe64(), 0x0102030405060788u);
}

TEST(ByteReader, ReadsLittleEndian) {
  EXPECT_EQ(ByteReader(kBytes).ReadLe16(), 0x0201);
  EXPECT_EQ(ByteReader(kBytes).ReadLe32(), 0x04030201u);
  EXPECT_EQ(ByteReader(kBytes).ReadLe64(), 0x8807060504030201u);
}

TEST(ByteReader, ReadsFieldsOneAfterTheOther) {
  ByteReader reader(kBytes);
  std::array<uint8_t, 2> copy;

  EXPECT_EQ(reader.ReadU8(), 0x01);
  reader.Skip(1);
  EXPECT_EQ(reader.ReadBe16(), 0x0304);
  reader.ReadBytes(copy);
  EXPECT_THAT(copy, ElementsAre(0x05, 0x06));
  EXPECT_EQ(reader.remaining(), 2u);
  EXPECT_EQ(reader.ReadView(2).data(),
            std::as_bytes(std::span(kBytes)).data() + 6);
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_TRUE(reader.ok());
}

TEST(ByteReader, ReadPastTheEndYieldsZeroAndFails) {
  ByteReader reader{std::span(kBytes).first(3)};

  EXPECT_EQ(reader.ReadBe32(), 0u);
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, StaysFailedThoughALaterFieldWouldFit) {
  ByteReader reader{std::span(kBytes).first(3)};
  reader.Skip(4);

  EXPECT_EQ(reader.ReadU8(), 0);
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, CopyPastTheEndIsAllZeros) {
  ByteReader reader(kBytes);
  std::array<uint8_t, 9> copy;
  copy.fill(0xff);

  reader.ReadBytes(copy);

  EXPECT_THAT(copy, Each(0));
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, ViewPastTheEndIsEmpty) {
  ByteReader reader(kBytes);

  EXPECT_TRUE(reader.ReadView(9).empty());
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, NothingCanBeReadFromNothing) {
  ByteReader reader(std::span<const std::byte>{});

  reader.ReadBytes(std::span<std::byte>{});
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.ReadU8(), 0);
  EXPECT_FALSE(reader.ok());
}

TEST(ByteReader, WorksAtCompileTime) {
  constexpr std::array kConstant = {std::byte{0x12}, std::byte{0x34}};
  static_assert(ByteReader(kConstant).ReadBe16() == 0x1234);
  static_assert(ByteReader(kConstant).ReadLe16() == 0x3412);
  static_assert(ByteReader(kConstant).ReadBe24() == 0);
}

TEST(ByteWriter, WritesBigEndian) {
  std::array<uint8_t, 18> buffer;
  ByteWriter writer(buffer);

  writer.WriteU8(0x01);
  writer.WriteBe16(0x0203);
  writer.WriteBe24(0xff040506);
  writer.WriteBe32(0x0708090a);
  writer.WriteBe64(0x0b0c0d0e0f101112);

  EXPECT_TRUE(writer.ok());
  EXPECT_EQ(writer.remaining(), 0u);
  EXPECT_THAT(buffer, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                  15, 16, 17, 18));
}

TEST(ByteWriter, WritesLittleEndian) {
  std::array<uint8_t, 14> buffer;
  ByteWriter writer(buffer);

  writer.WriteLe16(0x0201);
  writer.WriteLe32(0x06050403);
  writer.WriteLe64(0x0e0d0c0b0a090807);

  EXPECT_THAT(buffer,
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14));
}

TEST(ByteWriter, WritesByteStringsAndZeros) {
  std::array<uint8_t, 5> buffer;
  buffer.fill(0xff);
  ByteWriter writer(buffer);

  writer.WriteBytes(std::span(kBytes).first(2));
  writer.WriteZeros(2);

  EXPECT_EQ(writer.written().size(), 4u);
  EXPECT_THAT(buffer, ElementsAre(1, 2, 0, 0, 0xff));
}

TEST(ByteWriter, FieldThatDoesNotFitIsNotWrittenNorIsAnythingAfterIt) {
  std::array<uint8_t, 4> buffer;
  buffer.fill(0xff);
  ByteWriter writer(buffer);

  writer.WriteU8(1);
  writer.WriteBe32(0);
  writer.WriteU8(0);
  writer.WriteBytes(std::span(kBytes).first(1));
  writer.WriteZeros(1);

  EXPECT_FALSE(writer.ok());
  EXPECT_EQ(writer.remaining(), 0u);
  EXPECT_EQ(writer.written().size(), 1u);
  EXPECT_THAT(buffer, ElementsAre(1, 0xff, 0xff, 0xff));
}

TEST(ByteReader, ReadsBackWhatWasWritten) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SeededRandom random(seed);
    const uint64_t value = random.Next();
    std::array<std::byte, 64> buffer;
    ByteWriter writer(buffer);
    writer.WriteU8(static_cast<uint8_t>(value));
    writer.WriteBe16(static_cast<uint16_t>(value));
    writer.WriteLe16(static_cast<uint16_t>(value));
    writer.WriteBe24(static_cast<uint32_t>(value));
    writer.WriteBe32(static_cast<uint32_t>(value));
    writer.WriteLe32(static_cast<uint32_t>(value));
    writer.WriteBe64(value);
    writer.WriteLe64(value);

    ByteReader reader(writer.written());
    EXPECT_EQ(reader.ReadU8(), value & 0xff) << "seed " << seed;
    EXPECT_EQ(reader.ReadBe16(), value & 0xffff) << "seed " << seed;
    EXPECT_EQ(reader.ReadLe16(), value & 0xffff) << "seed " << seed;
    EXPECT_EQ(reader.ReadBe24(), value & 0xffffff) << "seed " << seed;
    EXPECT_EQ(reader.ReadBe32(), value & 0xffffffff) << "seed " << seed;
    EXPECT_EQ(reader.ReadLe32(), value & 0xffffffff) << "seed " << seed;
    EXPECT_EQ(reader.ReadBe64(), value) << "seed " << seed;
    EXPECT_EQ(reader.ReadLe64(), value) << "seed " << seed;
    EXPECT_TRUE(reader.ok() && reader.remaining() == 0) << "seed " << seed;
  }
}

TEST(ByteWriter, WorksAtCompileTime) {
  constexpr auto kWritten = [] {
    std::array<std::byte, 4> buffer{};
    ByteWriter writer(buffer);
    writer.WriteBe16(0x1234);
    writer.WriteLe16(0x1234);
    return buffer;
  }();
  static_assert(ByteReader(kWritten).ReadBe32() == 0x12343412);
}

// Draws cursor calls at random over exactly sized heap blocks, where the
// address sanitizer sees one byte too many, and compares with plain counting.
TEST(ByteReader, NeverReadsOutsideWhateverIsAsked) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SeededRandom random(seed);
    const std::vector<uint8_t> bytes(random.Below(40), 0xab);
    ByteReader reader(bytes);
    size_t asked = 0;
    while (asked <= bytes.size()) {
      std::vector<std::byte> copy(1 + random.Below(9));
      reader.ReadBytes(copy);
      asked += copy.size();
      const bool inside = asked <= bytes.size();
      ASSERT_EQ(reader.ok(), inside) << "seed " << seed;
      ASSERT_THAT(copy, Each(std::byte{inside ? uint8_t{0xab} : uint8_t{0}}))
          << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace nd

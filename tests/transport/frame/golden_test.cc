#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <variant>

#include "base/bytes.h"
#include "transport/frame/golden_packets.h"
#include "transport/frame/packet.h"

namespace nd::transport {
namespace {

constexpr size_t kRoom = 4096;

class GoldenFrames : public testing::TestWithParam<GoldenPacket> {};

Bytes BytesOf(const Content& content) {
  std::array<std::byte, 512> room;
  ByteWriter out{std::span<std::byte>(room)};
  std::visit(
      [&](const auto& value) {
        if constexpr (std::is_same_v<decltype(value), const std::string&>) {
          out.WriteBytes(std::as_bytes(std::span(value)));
        } else {
          value.Write(out);
        }
      },
      content);
  EXPECT_TRUE(out.ok());
  return Bytes(out.written().begin(), out.written().end());
}

// Whether the payload's Parse takes these bytes for this very content.
bool Says(std::span<const std::byte> payload, const Content& content) {
  return std::visit(
      [&]<typename T>(const T& value) {
        if constexpr (std::is_same_v<T, std::string>) {
          return std::ranges::equal(payload, std::as_bytes(std::span(value)));
        } else {
          return T::Parse(payload) == value;
        }
      },
      content);
}

TEST_P(GoldenFrames, AreParsedToTheirValues) {
  const GoldenPacket& golden = GetParam();
  PacketReader reader(golden.bytes, golden.digest);
  FrameView view;
  for (const GoldenFrame& expected : golden.frames) {
    ASSERT_TRUE(reader.Next(view)) << ToString(reader.fault());
    EXPECT_EQ(view.header, expected.header);
    EXPECT_TRUE(Says(view.payload, expected.content));
  }
  EXPECT_FALSE(reader.Next(view));
  EXPECT_EQ(reader.fault(), PacketFault::kNone);
}

TEST_P(GoldenFrames, AreWrittenAsTheSameBytes) {
  const GoldenPacket& golden = GetParam();
  std::array<std::byte, kRoom> room;
  PacketWriter writer(room, golden.digest);
  for (const GoldenFrame& frame : golden.frames) {
    ASSERT_TRUE(writer.Append(frame.header, BytesOf(frame.content)));
  }
  EXPECT_EQ(Bytes(writer.written().begin(), writer.written().end()),
            golden.bytes);
}

// Where each frame ends, in bytes.
std::set<size_t> Ends(const GoldenPacket& golden) {
  std::set<size_t> ends;
  size_t at = 0;
  for (const GoldenFrame& frame : golden.frames) {
    at = (at + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
    ends.insert(at += FrameHeader::kSize + frame.header.length);
  }
  return ends;
}

TEST_P(GoldenFrames, AreRefusedWhereTheyAreCut) {
  const GoldenPacket& golden = GetParam();
  const std::set<size_t> ends = Ends(golden);
  ASSERT_EQ(*ends.rbegin(), golden.bytes.size());
  for (size_t size = 1; size < golden.bytes.size(); ++size) {
    // Of its own, so that a step past its end is seen.
    const Bytes cut(golden.bytes.begin(),
                    golden.bytes.begin() + static_cast<ptrdiff_t>(size));
    PacketReader reader(cut, golden.digest);
    FrameView view;
    size_t frames = 0;
    while (reader.Next(view)) ++frames;

    EXPECT_EQ(reader.fault(), ends.contains(size) ? PacketFault::kNone
                                                  : PacketFault::kTruncated)
        << size;
    EXPECT_EQ(frames, std::distance(ends.begin(), ends.upper_bound(size)))
        << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Packets, GoldenFrames,
                         testing::ValuesIn(GoldenPackets()),
                         [](const auto& golden) {
                           std::string name = golden.param.name;
                           std::erase_if(name, [](char c) { return c == ':'; });
                           std::erase(name, ',');
                           std::ranges::replace(name, ' ', '_');
                           return name;
                         });

TEST(GoldenPackets, ThereIsOneOfEachType) {
  std::set<FrameType> seen;
  for (const GoldenPacket& golden : GoldenPackets()) {
    for (const GoldenFrame& frame : golden.frames) {
      seen.insert(frame.header.type);
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto type = static_cast<FrameType>(byte);
    EXPECT_EQ(seen.contains(type), FactsOf(type).known()) << byte;
  }
}

}  // namespace
}  // namespace nd::transport

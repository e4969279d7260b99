// Lists of frames that chance makes, written and read again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "transport/frame/golden_packets.h"
#include "transport/frame/packet.h"

namespace nd::transport {
namespace {

constexpr uint64_t kSeeds = 3000;
constexpr size_t kRoom = 2048;
constexpr FrameType kTypes[] = {
    FrameType::kMessage, FrameType::kOpen,    FrameType::kFinish,
    FrameType::kReset,   FrameType::kWindow,  FrameType::kRequest,
    FrameType::kGrant,   FrameType::kWritten, FrameType::kRevoke,
    FrameType::kNotify,  FrameType::kGoodbye, FrameType::kCredit,
    FrameType::kPing,    FrameType::kPong,    FrameType::kGone,
    FrameType::kAbort};

struct Frame {
  FrameHeader header;
  Bytes payload;
  bool operator==(const Frame&) const = default;
};

Frame RandomFrame(Random& random) {
  const auto word = [&] { return static_cast<uint32_t>(random.Next()); };
  Frame frame;
  FrameHeader& header = frame.header;
  header.type = kTypes[random.Below(std::size(kTypes))];
  header.credits = word();
  const FrameFacts& facts = FactsOf(header.type);
  if (facts.of_stream) {
    header.stream = std::max(word(), 1u);
    header.window = word();
  }
  if (IsSequenced(header.type)) {
    header.sequence = word();
    header.message_class = static_cast<MessageClass>(random.Below(2));
  }
  constexpr uint32_t kLongest = 600;
  const uint32_t most = std::min(facts.max_length, kLongest);
  header.length =
      facts.min_length +
      static_cast<uint32_t>(random.Below(most - facts.min_length + 1));
  frame.payload.resize(header.length);
  random.Fill(frame.payload);
  return frame;
}

TEST(RoundTrip, AnyFramesArriveAsTheyWereWritten) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    SeededRandom random(seed);
    const bool digest = random.OneIn(2);
    Bytes room(random.Below(kRoom));
    PacketWriter writer(room, digest);
    std::vector<Frame> written;
    for (Frame frame = RandomFrame(random);
         writer.Append(frame.header, frame.payload);
         frame = RandomFrame(random)) {
      written.push_back(frame);
    }
    const Bytes packet(writer.written().begin(), writer.written().end());

    PacketReader reader(packet, digest);
    std::vector<Frame> read;
    for (FrameView view; reader.Next(view);) {
      read.push_back(
          {view.header, Bytes(view.payload.begin(), view.payload.end())});
    }
    EXPECT_EQ(reader.fault(),
              written.empty() ? PacketFault::kEmpty : PacketFault::kNone);
    ASSERT_EQ(read, written);
  }
}

}  // namespace
}  // namespace nd::transport

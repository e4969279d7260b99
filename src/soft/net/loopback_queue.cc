#include "soft/net/loopback_queue.h"

namespace nd::soft {

LoopbackQueue::LoopbackQueue(size_t bytes)
    : memory_((kRingControlBytes + bytes) / kCacheLineBytes),
      producer_(std::as_writable_bytes(std::span(memory_))),
      consumer_(std::as_writable_bytes(std::span(memory_))) {}

bool LoopbackQueue::Send(const FrameHeader& header,
                         const PacketSource& packet) {
  const auto record = producer_.Reserve(FrameHeader::kSize + packet.size());
  if (record.empty()) return false;
  WriteFrame(header, packet, record);
  producer_.Commit();
  (void)producer_.Publish();  // The one to wake is the one who sends.
  ++count_;
  return true;
}

size_t LoopbackQueue::Receive(size_t budget, PeerFrameSink sink) {
  size_t received = 0;
  PeerFrame frame{.trusted = true};
  bool enough = false;
  while (received < budget && !enough &&
         consumer_.Peek(frame.bytes) == RingState::kRecord) {
    enough = !sink(frame);
    consumer_.Pop();
    --count_;
    ++received;
  }
  (void)consumer_.Publish();
  return received;
}

}  // namespace nd::soft

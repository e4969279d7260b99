// A stream: an ordered, reliable sequence of messages in each direction.
#ifndef ND_STREAM_H_
#define ND_STREAM_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nd/operation.h"
#include "nd/statistics.h"

namespace nd {

namespace api {
class StreamImpl;
}  // namespace api

// Streams of kBulk do not stand before those of kLatency: each class has its
// connections, buffers and credits.
enum class StreamClass { kLatency, kBulk };

// One end of a stream. It may be used from any thread, by one at a time; what
// does not block is cheapest on the thread of the session's reactor.
//
//   nd::SendOperation send;                   // operations do not block:
//   send.set_piece({.bytes = request});       // OnDone, done() or co_await
//   stream.Send(send);
//   absl::StatusOr<nd::Message> answer = stream.Receive(1s);   // this does
//
// Destroying it resets the stream unless Finish was called; what is under way
// then ends with ABORTED. Its operations are the session's until they are done.
class Stream {
 public:
  Stream() = default;  // of nothing
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();

  explicit operator bool() const { return impl_ != nullptr; }
  const std::string& name() const;
  StreamClass stream_class() const;

  // Messages are sent, and received, in the order of these calls. A send is
  // done when the peer's device has the message: the memory is free again, and
  // the message will be given out unless the peer itself ends. OUT_OF_RANGE
  // ends a receive behind the peer's last message.
  void Send(SendOperation& operation);
  void Receive(ReceiveOperation& operation);
  // A write into a region of the peer's (set_write, set_immediate); then, in
  // the order of the stream's messages, a notification of it, which the peer
  // receives as a message. Done as a send is.
  void WriteWithImmediate(AccessOperation& operation);
  // Waits for the reactor where that is another thread's.
  void Cancel(Operation& operation);
  // Waits until it is done, and returns its status; OK for one that was never
  // started.
  absl::Status Await(const Operation& operation);

  // The same, waiting; DEADLINE_EXCEEDED ends the wait with nothing under way.
  absl::Status Send(std::span<const std::byte> message,
                    std::chrono::nanoseconds timeout);
  absl::StatusOr<Message> Receive(std::chrono::nanoseconds timeout);
  // The bytes of the message. FAILED_PRECONDITION: it is longer than `memory`.
  absl::StatusOr<size_t> ReceiveInto(std::span<std::byte> memory,
                                     std::chrono::nanoseconds timeout);
  absl::Status WriteWithImmediate(const RemoteRegion& region, uint64_t offset,
                                  std::span<const std::byte> from,
                                  uint32_t immediate,
                                  std::chrono::nanoseconds timeout);

  // No more messages from this side.
  void Finish();

  // Waits for the reactor where that is another thread's.
  StreamStatistics statistics() const;

  // Of nd's own rooms.
  explicit Stream(std::unique_ptr<api::StreamImpl> impl);
  api::StreamImpl& impl() const { return *impl_; }

 private:
  // Goes with the stream's session, on its thread.
  struct Close {
    void operator()(api::StreamImpl* impl) const;
  };
  std::unique_ptr<api::StreamImpl, Close> impl_;
};

}  // namespace nd

#endif  // ND_STREAM_H_

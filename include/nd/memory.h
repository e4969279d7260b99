// Memory of the application's that the devices of a session know.
#ifndef ND_MEMORY_H_
#define ND_MEMORY_H_

#include <cstddef>
#include <memory>
#include <span>

#include "nd/operation.h"

namespace nd {

namespace api {
class RegisteredMemory;
}  // namespace api

// Who accesses it.
enum class MemoryUse {
  // This side's device: for what is sent and written from it and read into it.
  kLocal,
  // The peer, too, with the messages that are received into it, which then need
  // no copy. Once it was received into, the peer may write to all of it.
  kPeerWrites,
};

// Memory that Session::Register has registered, until this is destroyed: until
// then it stays where it is, pinned, and what is done with it costs neither a
// copy nor a system call. Without it long messages are registered one by one,
// for as long as they are under way. It is for operations of its session, all
// of which it outlives.
//
//   absl::StatusOr<nd::RegisteredMemory> memory =
//       session->Register(buffers, nd::MemoryUse::kLocal);
//   send.set_piece(memory->Source(0, size));
class RegisteredMemory {
 public:
  RegisteredMemory() = default;  // of nothing
  RegisteredMemory(RegisteredMemory&&) noexcept = default;
  RegisteredMemory& operator=(RegisteredMemory&& other) noexcept;
  ~RegisteredMemory();

  explicit operator bool() const { return impl_ != nullptr; }
  std::span<std::byte> bytes() const;

  // A part of it, bytes, which has to lie within: what to send or to write from
  // it, where to receive, where to read into.
  SendPiece Source(size_t offset, size_t size) const;
  ReceiveOperation::Into Target(size_t offset, size_t size) const;
  AccessOperation::Memory Sink(size_t offset, size_t size) const;

  // Of nd's own rooms.
  explicit RegisteredMemory(std::shared_ptr<api::RegisteredMemory> impl);

 private:
  std::shared_ptr<api::RegisteredMemory> impl_;
};

}  // namespace nd

#endif  // ND_MEMORY_H_

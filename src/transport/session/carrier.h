// What the session's protocol asks of those below it: a connection that carries
// packets, and memory that the peer may write. Verbs serve both, or a
// simulator.
#ifndef ND_TRANSPORT_SESSION_CARRIER_H_
#define ND_TRANSPORT_SESSION_CARRIER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"

namespace nd::transport {

// Registered memory of this side.
struct LocalPiece {
  std::byte* data = nullptr;
  size_t length = 0;
  uint32_t lkey = 0;
};

// A buffer of slot_size bytes that a packet is received into.
struct ReceiveSlot {
  LocalPiece memory;
  uint32_t loans = 0;  // messages in it that the application has not dropped
};

// Memory of the peer's.
struct RemotePlace {
  uint64_t address = 0;
  uint32_t rkey = 0;
};

struct AtomicRequest {
  bool compare = false;      // COMPARE_SWAP, else FETCH_ADD
  uint64_t compare_add = 0;  // as struct ibv_send_wr has it
  uint64_t swap = 0;
};

// A reliable connection (IBA 9.7). Requests execute and complete in order;
// each has the serial number that its post was given, from 0 on without gap. A
// completion that was asked for (`signal`) is reported by
// SessionCore::OnCompleted, and those before it with it. A post that fails
// shows as a lost link later, never here.
class Carrier {
 public:
  virtual ~Carrier() = default;

  // Requests that may be outstanding, and packets among them.
  virtual uint32_t depth() const = 0;
  // Scatter/gather elements of a request, of which a packet's slot is one.
  virtual uint32_t max_pieces() const = 0;
  // Bytes of the largest RDMA WRITE or READ.
  virtual uint64_t max_write() const = 0;
  // READs and atomics that may be outstanding; 0: there are none.
  virtual uint32_t read_depth() const = 0;

  // Send slot `number` modulo depth(), of slot_size bytes.
  virtual std::span<std::byte> SendSlot(uint64_t number) = 0;

  // Sends `bytes`, with which a send slot begins, and behind them `more`: with
  // SessionLayout::ring into the next place of the peer's ring, one for each of
  // its receives.
  virtual void Send(uint64_t serial, std::span<std::byte> bytes,
                    std::span<const LocalPiece> more, bool signal) = 0;
  // `immediate` consumes one of the peer's receives.
  virtual void Write(uint64_t serial, const LocalPiece& from,
                     const RemotePlace& to, std::optional<uint32_t> immediate,
                     bool signal) = 0;
  virtual void Read(uint64_t serial, const LocalPiece& into,
                    const RemotePlace& from) = 0;
  // What was there before, 8 bytes in this host's order, goes `into`.
  virtual void Atomic(uint64_t serial, const LocalPiece& into,
                      const RemotePlace& at, const AtomicRequest& what) = 0;
  virtual void PostReceive(ReceiveSlot& slot) = 0;

  // Makes what was posted set out: one doorbell for many.
  virtual void Flush() = 0;

  // Moves the connection to the error state: nothing of it changes memory any
  // more. What had arrived and what had completed is still reported, and then
  // SessionCore::OnDrained.
  virtual void Shut() = 0;
};

// Memory of this side that the peer may write or that is written from.
struct Registered {
  LocalPiece local;
  uint32_t rkey = 0;
  uint64_t handle = 0;
};

class SessionMemory {
 public:
  virtual ~SessionMemory() = default;

  // A contiguous buffer of the receive budget. RESOURCE_EXHAUSTED: not now;
  // OUT_OF_RANGE: never, so large is the budget not.
  virtual absl::StatusOr<Registered> Allocate(uint64_t size) = 0;
  virtual void Free(const Registered& buffer) = 0;

  // Memory of the application's: to be read by the device, or written by the
  // peer.
  virtual absl::StatusOr<Registered> RegisterSource(
      std::span<const std::byte> bytes) = 0;
  virtual absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) = 0;
  // To be filled by a READ of this side's.
  virtual absl::StatusOr<Registered> RegisterSink(
      std::span<std::byte> bytes) = 0;
  virtual void Unregister(const Registered& memory) = 0;

  // For memory of the application's that cannot be registered: kStages places
  // of kStageBytes, one behind the other, to be read by the device. They are
  // there until this goes.
  static constexpr size_t kStages = 4;
  static constexpr size_t kStageBytes = size_t{256} << 10;
  virtual absl::StatusOr<LocalPiece> AllocateStages() = 0;
  // Copies into place `stage`. False: that goes on, with all memory where it
  // is, and SessionCore::OnCopied says when it is done.
  virtual bool Copy(uint32_t stage, std::span<const std::byte> from,
                    std::byte* to) = 0;
  // Waits for copies that go on, which OnCopied will not be called for. No copy
  // is made after that.
  virtual void AwaitCopies() = 0;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_CARRIER_H_

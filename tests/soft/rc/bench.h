// A device around one half of a queue pair, made of plain containers, and
// packets by hand. What comes out is told in words, in the manner of
//   ACK+2 msn 3        NAK 1+0 msn 0        RNR 14+1 msn 0
//   READ FIRST+0 msn 1 len 256              ATOMIC+1 msn 2 original 41
//   WRITE FIRST+0 x3 len 768 (three packets that go as one)
// where +n counts PSNs from kBasePsn.
#ifndef ND_TESTS_SOFT_RC_BENCH_H_
#define ND_TESTS_SOFT_RC_BENCH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/work.h"
#include "soft/wire/packet.h"

namespace nd::soft {

inline constexpr Psn kBasePsn{0xfffffe};  // wraps soon
inline constexpr size_t kMtu = 256;
inline constexpr Qpn kHere{17};
inline constexpr Qpn kThere{18};
inline constexpr Rkey kKey{0x1100};
inline constexpr uint64_t kAddress = 0x10000;
inline constexpr unsigned kAllAccess =
    IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

// One region under one key.
class BenchMemory final : public RemoteMemory {
 public:
  std::optional<std::span<std::byte>> Find(const MemoryClaim& claim) override;
  bool Invalidate(Rkey rkey) override;

  alignas(8) std::array<std::byte, 8192 + 8> bytes{};
  Rkey key = kKey;
  unsigned access = kAllAccess;
  bool registered = true;
  size_t skew = 0;  // of where the region lies
};

class BenchReceives final : public ReceiveQueue {
 public:
  std::optional<ReceiveWork> Take() override;
  bool shared() const override { return is_shared; }

  // Posts a receive of so many bytes and returns them.
  std::vector<std::byte>& Post(uint64_t wr_id, size_t bytes,
                               ibv_wc_status fault = IBV_WC_SUCCESS);

  // Posts a receive over the caller's memory.
  void Post(uint64_t wr_id, Segments segments) {
    posted_.push_back({.wr_id = wr_id, .segments = segments});
  }

  bool is_shared = false;

 private:
  struct Buffer {
    std::vector<std::byte> bytes;
    Segment segment;
  };
  std::list<Buffer> buffers_;
  std::deque<ReceiveWork> posted_;
};

class BenchCompletions final : public CompletionSink {
 public:
  void SendCompleted(const WorkCompletion& completion) override;
  void ReceiveCompleted(const WorkCompletion& completion) override;
  void Raise(ibv_event_type event) override;

  // What has happened since the last call: "send 1 ok, recv 2 status 5".
  std::string Take();

  std::vector<WorkCompletion> all;

 private:
  void Tell(const std::string& what);
  std::string told_;
};

// Takes packets up to `limit` and keeps their bytes.
class BenchOutbox final : public Outbox {
 public:
  size_t room() const override { return limit; }
  size_t burst_bytes() const override { return burst; }
  size_t lent_burst_bytes() const override { return lent_burst; }
  bool beside_short() const override { return beside; }
  void Send(const Outgoing& outgoing) override;

  // The packets since the last call, in words.
  std::string Take();

  size_t limit = 1000;
  size_t burst = 0;
  size_t lent_burst = 0;
  bool beside = false;
  std::vector<Packet> packets;
  std::vector<std::vector<std::byte>> payloads;
  std::vector<bool> lasts;  // whether they do

 private:
  std::string told_;
};

// `bytes` of a pattern that depends on `seed`.
std::vector<std::byte> Pattern(size_t bytes, int seed = 0);

// Requests and answers, `psn` from kBasePsn. Payloads are Pattern(bytes).
Packet Message(Opcode opcode, uint32_t psn, size_t bytes = 0);
Packet WriteRequest(Opcode opcode, uint32_t psn, size_t bytes, Reth reth);
Packet ReadRequest(uint32_t psn, uint64_t address, uint32_t length);
Packet FetchAdd(uint32_t psn, uint64_t address, uint64_t add);
Packet CompareSwap(uint32_t psn, uint64_t address, uint64_t compare,
                   uint64_t swap);
Packet Acknowledge(uint32_t psn, Syndrome syndrome = Syndrome::Ack());
Packet ReadResponse(Opcode opcode, uint32_t psn, size_t bytes);
Packet AtomicResponse(uint32_t psn, uint64_t original);
Packet WithAckReq(Packet packet);
// So many packets that came as one.
Packet Burst(uint8_t packets, Packet packet);

// The payload of a packet, which is far, or not to be had any more.
class BenchFar final : public FarPayload {
 public:
  explicit BenchFar(const Packet& packet)
      : FarPayload(packet.payload.size()), bytes_(packet.payload) {}

  [[nodiscard]] bool CopyTo(
      std::span<const std::span<std::byte>> pieces) const override;

  bool lent = true;
  mutable int asked = 0;

 private:
  const std::span<const std::byte> bytes_;
};
Packet WithFar(Packet packet, const BenchFar& far);

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_RC_BENCH_H_

// A session whose peer is a test: packets go in by hand, and what the session
// posts is kept.
#ifndef ND_TESTS_TRANSPORT_SESSION_LONE_SESSION_H_
#define ND_TESTS_TRANSPORT_SESSION_LONE_SESSION_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transport/frame/packet.h"
#include "transport/session/session_core.h"
#include "transport/session/sim_world.h"

namespace nd::transport {

class LoneSession final : public SessionEvents {
 public:
  static constexpr size_t kLinks = 2;
  struct Sent {  // a frame
    uint32_t link = 0;
    uint64_t serial = 0;  // of its packet
    FrameHeader header;
    std::vector<std::byte> payload;
  };
  struct Written {
    uint32_t link = 0;
    RemotePlace to;
    size_t length = 0;
    std::optional<uint32_t> immediate;
  };

  struct Fetched {  // a READ, or an atomic
    uint32_t link = 0;
    RemotePlace from;
    LocalPiece into;
    std::optional<AtomicRequest> atomic;
  };

  // The session is the server's end: the peer opens streams as a client.
  explicit LoneSession(bool digest = false, Duration reconnect = {},
                       bool connected = true, uint64_t memory = 1 << 20)
      : memory_(memory) {
    layout_.slots = 8;
    layout_.slot_size = 1024;
    layout_.eager_limit = 900;
    layout_.digest = digest;
    layout_.stream_window = 4096;
    layout_.max_streams = 4;
    const uint32_t count = layout_.links() * layout_.slots + 4;
    slot_bytes_.resize(size_t{count} * layout_.slot_size);
    slots_.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      slots_[i].memory = {.data = &slot_bytes_[size_t{i} * layout_.slot_size],
                          .length = layout_.slot_size};
    }
    core_ = std::make_unique<SessionCore>(
        SessionCore::Options{.layout = layout_,
                             .receive_slots = slots_,
                             .ahead_bytes = memory / 4,
                             .reconnect = reconnect},
        memory_, *this);
    for (uint32_t i = 0; connected && i < kLinks; ++i) Connect(i);
  }
  ~LoneSession() override { core_.reset(); }

  SessionCore& core() { return *core_; }
  SimMemory& memory() { return memory_; }
  const SessionLayout& layout() const { return layout_; }
  const std::vector<Sent>& sent() const { return sent_; }
  const std::vector<Written>& writes() const { return writes_; }
  const std::vector<Fetched>& reads() const { return reads_; }
  uint32_t read_depth = 4;
  const std::optional<absl::Status>& ended() const { return ended_; }
  Instant now() const { return now_; }
  // Time passes without a turn.
  void Sleep(Duration duration) { now_ += duration; }
  void Wait(Duration duration) {
    now_ += duration;
    Pump();
  }

  // Not open: the set-up goes on.
  void Connect(uint32_t link, bool open = true) {
    links_[link] = std::make_unique<Link>(*this, link);
    core_->AddLink(link, next_incarnation_[link]++, *links_[link]);
    if (open) core_->OpenLink(link, now_);
    Pump();
  }
  // False where no receive waits: a real peer's packet would find none either.
  bool GivePacket(uint32_t link, std::span<const std::byte> bytes) {
    Link& its = *links_[link];
    if (its.receives.empty() || its.finished) return false;
    ReceiveSlot& slot = *its.receives.front();
    its.receives.pop_front();
    const size_t size = std::min<size_t>(bytes.size(), layout_.slot_size);
    std::copy_n(bytes.begin(), size, slot.memory.data);
    core_->OnPacket(link, size, now_);
    Pump();
    return true;
  }
  // As the peer's next frame of that lane, where the header says no other.
  bool Give(uint32_t link, FrameHeader header,
            std::span<const std::byte> payload = {}) {
    std::vector<std::byte> room(layout_.slot_size);
    PacketWriter writer(room, layout_.digest);
    if (IsSequenced(header.type)) {
      const auto lane = static_cast<size_t>(header.message_class);
      if (header.sequence == 0) header.sequence = next_[lane];
      ++next_[lane];
    }
    if (header.credits == 0) header.credits = layout_.slots;
    return writer.Append(header, payload) && GivePacket(link, writer.written());
  }
  template <typename Payload>
  bool GivePayload(uint32_t link, const FrameHeader& header,
                   const Payload& payload) {
    std::array<std::byte, kMaxText + 4> bytes;
    ByteWriter out(bytes);
    payload.Write(out);
    return Give(link, header, out.written());
  }
  bool GiveImmediate(uint32_t link, uint32_t immediate) {
    Link& its = *links_[link];
    if (its.receives.empty() || its.finished) return false;
    its.receives.pop_front();
    core_->OnImmediate(link, immediate, now_);
    Pump();
    return true;
  }
  // As a packet in the ring; `place` says where, and where it is not due.
  bool GiveRing(uint32_t link, uint32_t place,
                std::span<const std::byte> bytes) {
    Link& its = *links_[link];
    if (its.receives.empty() || its.finished) return false;
    its.receives.pop_front();
    ring_.resize(size_t{layout_.slots} * layout_.slot_size);
    const size_t begin = size_t{place % layout_.slots} * layout_.slot_size;
    std::copy_n(bytes.begin(), std::min(bytes.size(), ring_.size() - begin),
                &ring_[begin]);
    core_->OnRing(link, place << 16 | kRingSlot, bytes.size(), ring_, now_);
    Pump();
    return true;
  }
  // All that was posted on the link has succeeded.
  void Complete(uint32_t link) {
    Link& its = *links_[link];
    if (its.finished || its.posted == 0) return;
    core_->OnCompleted(link, its.posted - 1, now_);
    Pump();
  }
  // The peer refused what was posted last on the link.
  void Refuse(uint32_t link, const absl::Status& why) {
    core_->OnRefused(link, links_[link]->posted - 1, why);
    core_->LoseLink(link, why);
    Pump();
  }
  void Lose(uint32_t link) {
    if (!links_[link]->shut) {
      core_->LoseLink(link, absl::UnavailableError("the test broke it"));
    }
    Pump();
  }
  void Pump() {
    core_->Pump(now_);
    for (uint32_t i = 0; i < kLinks; ++i) {
      Link* const link = links_[i].get();
      if (link == nullptr || !link->shut || link->finished || !drains) continue;
      link->finished = true;
      core_->OnDrained(i);
      core_->Pump(now_);
    }
  }
  // Whether a link that is shut reports nothing more.
  bool drains = true;
  bool finished(uint32_t link) const { return links_[link]->finished; }

 private:
  struct Link final : Carrier {
    Link(LoneSession& its, uint32_t number) : owner(its), index(number) {
      slots.resize(16, std::vector<std::byte>(its.layout_.slot_size));
    }
    uint32_t depth() const override { return 16; }
    uint32_t max_pieces() const override { return 2; }
    uint64_t max_write() const override { return 1 << 20; }
    uint32_t read_depth() const override { return owner.read_depth; }
    std::span<std::byte> SendSlot(uint64_t number) override {
      return slots[number % slots.size()];
    }
    void Send(uint64_t serial, std::span<std::byte> bytes,
              std::span<const LocalPiece> more, bool) override {
      posted = serial + 1;
      std::vector<std::byte> packet(bytes.begin(), bytes.end());
      for (const LocalPiece& piece : more) {
        packet.insert(packet.end(), piece.data, piece.data + piece.length);
      }
      PacketReader reader(packet, owner.layout_.digest);
      FrameView frame;
      while (reader.Next(frame)) {
        owner.sent_.push_back({index,
                               serial,
                               frame.header,
                               {frame.payload.begin(), frame.payload.end()}});
      }
    }
    void Write(uint64_t serial, const LocalPiece& from, const RemotePlace& to,
               std::optional<uint32_t> immediate, bool) override {
      posted = serial + 1;
      owner.writes_.push_back({index, to, from.length, immediate});
    }
    void Read(uint64_t serial, const LocalPiece& into,
              const RemotePlace& from) override {
      posted = serial + 1;
      owner.reads_.push_back({index, from, into, {}});
    }
    void Atomic(uint64_t serial, const LocalPiece& into, const RemotePlace& at,
                const AtomicRequest& what) override {
      posted = serial + 1;
      owner.reads_.push_back({index, at, into, what});
    }
    void PostReceive(ReceiveSlot& slot) override { receives.push_back(&slot); }
    void Flush() override {}
    void Shut() override { shut = true; }

    LoneSession& owner;
    const uint32_t index;
    std::vector<std::vector<std::byte>> slots;
    std::deque<ReceiveSlot*> receives;
    uint64_t posted = 0;
    bool shut = false;
    bool finished = false;
  };

  void OnEnded(const absl::Status& why) override { ended_ = why; }
  Instant Now() override { return now_; }

  SessionLayout layout_;
  SimMemory memory_;
  std::vector<std::byte> slot_bytes_;
  std::vector<ReceiveSlot> slots_;
  std::unique_ptr<SessionCore> core_;
  std::array<std::unique_ptr<Link>, kLinks> links_;
  std::array<uint32_t, kLinks> next_incarnation_{};
  std::array<uint32_t, kMessageClasses> next_{};
  std::vector<Sent> sent_;
  std::vector<Written> writes_;
  std::vector<Fetched> reads_;
  std::vector<std::byte> ring_;
  std::optional<absl::Status> ended_;
  Instant now_{};
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_SESSION_LONE_SESSION_H_

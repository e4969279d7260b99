// Two queue pairs that talk to one another over a network that the input is
// master of: it drops, repeats, changes and invents packets, and decides what
// the applications do meanwhile.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "fuzz/choices.h"
#include "fuzz/seeds.h"
#include "soft/rc/qp.h"

namespace nd::soft {
namespace {

constexpr uint64_t kStart = 0x10000;  // address of each region
constexpr size_t kRegionBytes = 6000;
constexpr size_t kGuardBytes = 512;
constexpr std::byte kUntouched{0x5a};
constexpr size_t kInFlight = 64;
constexpr size_t kMostSteps = 300;
constexpr size_t kMostWorks = 200;
constexpr int kTimersToRest = 1000;

// Three regions by rkey, each with bytes around it that nobody may touch.
class Memory final : public RemoteMemory {
 public:
  static constexpr unsigned kAccess[] = {
      IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
          IBV_ACCESS_REMOTE_ATOMIC,
      IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE};

  Memory() : bytes_(kGuardBytes + 3 * kStride, kUntouched) {}

  std::optional<std::span<std::byte>> Find(const MemoryClaim& claim) override {
    const uint32_t index = ToUint(claim.rkey) - 1;
    if (index >= std::size(kAccess) || gone_[index]) return std::nullopt;
    const uint64_t offset = claim.address - kStart;
    if ((kAccess[index] & claim.access) == 0 || claim.address < kStart ||
        offset > kRegionBytes || claim.length > kRegionBytes - offset) {
      return std::nullopt;
    }
    return Region(index).subspan(offset, claim.length);
  }
  bool Invalidate(Rkey rkey) override {
    const uint32_t index = ToUint(rkey) - 1;
    if (index >= std::size(kAccess) || gone_[index]) return false;
    return gone_[index] = true;
  }
  void Renew(size_t index) { gone_[index] = false; }

  void Check() {
    const std::span bytes(bytes_);
    CheckUntouched(bytes.first(kGuardBytes));
    for (size_t i = 0; i < std::size(kAccess); ++i) {
      constexpr unsigned kChanges =
          IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
      if ((kAccess[i] & kChanges) == 0) CheckUntouched(Region(i));
      CheckUntouched(
          bytes.subspan(kGuardBytes + i * kStride + kRegionBytes, kGuardBytes));
    }
  }

 private:
  static constexpr size_t kStride = kRegionBytes + kGuardBytes;

  std::span<std::byte> Region(size_t index) {
    return std::span(bytes_).subspan(kGuardBytes + index * kStride,
                                     kRegionBytes);
  }
  // Each byte is the one before it, and the first is right.
  static void CheckUntouched(std::span<const std::byte> bytes) {
    Require(
        bytes.front() == kUntouched &&
            std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0,
        "memory that nobody may write to is written to");
  }

  std::vector<std::byte> bytes_;
  std::array<bool, std::size(kAccess)> gone_{};
};

// Runs once.
class Action final : public LocalAction {
 public:
  ibv_wc_status Run() override {
    Require(++runs == 1, "a local work ran twice");
    return outcome;
  }
  int runs = 0;
  ibv_wc_status outcome = IBV_WC_SUCCESS;
};

struct Send {
  SendWork work;
  std::vector<std::byte> bytes;  // of its very size: ASan watches the ends
  std::vector<std::byte> before;
  Segment segment;
  Action action;
};

struct Receive {
  std::vector<std::byte> bytes;
  Segment segment;
  bool completed = false;
};

// A queue pair, its application, and the packets that are on their way to it.
class End final : private ReceiveQueue, private CompletionSink {
 public:
  using Wire = std::vector<std::byte>;

  End(const QpOptions& options, bool shared)
      : qp(options,
           {.memory = memory, .receives = *this, .completions = *this}),
        shared_(shared) {}

  Memory memory;
  Qp qp;
  std::deque<Wire> arriving;
  Psn request_psn;   // that a request to it might have
  Psn response_psn;  // that an answer to it might have

  void PostSend(Send send) {
    if (sends_.size() == kMostWorks) return;
    Send& kept = sends_.emplace_back(std::move(send));
    kept.work.wr_id = sends_.size() - 1;
    kept.before = kept.bytes;
    kept.segment = kept.bytes;
    kept.work.segments = {&kept.segment, 1};
    if (kept.work.operation == Operation::kLocal) {
      kept.work.action = &kept.action;
      kept.work.segments = {};
    }
    if (qp.Post(kept.work) != PostResult::kPosted) sends_.pop_back();
  }
  void PostReceive(size_t bytes, ibv_wc_status fault) {
    if (receives_.size() == kMostWorks) return;
    Receive& kept = receives_.emplace_back();
    kept.bytes.resize(bytes);
    kept.segment = kept.bytes;
    faults_.push_back(fault);
    qp.OnReceivePosted();
  }
  // What was queued is forgotten, as verbs has it.
  void Reset() {
    Require(qp.Modify(QpState::kReset, qp.attributes()), "cannot be reset");
    next_send_ = sends_.size();
    next_receive_ = receives_.size();
    for (Receive& receive : receives_) receive.completed = true;
    broken_ = false;
  }
  void Restarted() { broken_ = false; }

  void Check() {
    memory.Check();
    Require(qp.sends_queued() <= qp.options().send_depth, "too many sends");
  }
  void CheckEnd() {
    Require(qp.sends_queued() == 0, "a send is left");
    for (size_t i = next_send_; i < sends_.size(); ++i) {
      Require(!sends_[i].work.signaled, "a send did not complete");
    }
    if (shared_) return;
    for (const Receive& receive : receives_) {
      Require(receive.completed, "a receive did not complete");
    }
  }

 private:
  // ReceiveQueue
  std::optional<ReceiveWork> Take() override {
    if (next_receive_ == receives_.size()) return std::nullopt;
    const size_t index = next_receive_++;
    return ReceiveWork{.wr_id = index,
                       .fault = faults_[index],
                       .segments = {&receives_[index].segment, 1}};
  }
  bool shared() const override { return shared_; }

  // CompletionSink
  void SendCompleted(const WorkCompletion& completion) override {
    Require(completion.wr_id >= next_send_ && completion.wr_id < sends_.size(),
            "a send completed out of turn");
    const bool well = completion.status == IBV_WC_SUCCESS;
    Require(!broken_ || completion.status == IBV_WC_WR_FLUSH_ERR,
            "a send behind one that failed was not flushed");
    for (; next_send_ < completion.wr_id; ++next_send_) {
      Require(!broken_ && !sends_[next_send_].work.signaled,
              "a send was passed over");
    }
    const Send& send = sends_[next_send_++];
    Require(!well || send.work.signaled, "a send is not signaled");
    Require(IsAnswered(send.work.operation) || send.bytes == send.before,
            "what was sent is changed");
    broken_ = broken_ || !well;
  }
  void ReceiveCompleted(const WorkCompletion& completion) override {
    Require(completion.wr_id < next_receive_, "a receive out of nowhere");
    Receive& receive = receives_[completion.wr_id];
    Require(!receive.completed, "a receive completed twice");
    receive.completed = true;
    Require(completion.opcode != IBV_WC_RECV ||
                completion.byte_len <= receive.bytes.size(),
            "more was received than there was room for");
    Require(shared_ || completion.wr_id == 0 ||
                receives_[completion.wr_id - 1].completed,
            "a receive completed out of turn");
  }
  void Raise(ibv_event_type) override {}

  const bool shared_;
  std::deque<Send> sends_;
  std::deque<Receive> receives_;
  std::vector<ibv_wc_status> faults_;  // of the receives
  size_t next_send_ = 0;               // to complete
  size_t next_receive_ = 0;            // to be taken
  bool broken_ = false;
};

// What it sends arrives at the peer, later.
class Out final : public Outbox {
 public:
  Out(const End& from, End& to, size_t room)
      : from_(from), to_(to), room_(room) {}

  size_t room() const override { return room_; }
  void Send(const Outgoing& outgoing) override {
    Require(room_ > 0, "more is sent than there is room for");
    --room_;
    const Packet& packet = outgoing.packet;
    const OpcodeFacts& facts = packet.facts();
    const bool datagram = from_.qp.options().transport == Transport::kUd;
    Require(facts.known() && facts.transport == from_.qp.options().transport,
            "an opcode of another transport is sent");
    Require(outgoing.payload.length <= from_.qp.attributes().mtu_bytes,
            "more is sent than the path takes");
    Require(packet.bth.pad == PadFor(outgoing.payload.length), "a wrong pad");
    Require(
        datagram || packet.bth.destination == from_.qp.attributes().destination,
        "a packet goes elsewhere");
    (facts.is_response() ? to_.response_psn : to_.request_psn) = packet.bth.psn;
    if (to_.arriving.size() == kInFlight) return;
    const size_t headers = facts.header_bytes();
    End::Wire bytes(headers + outgoing.payload.length + packet.bth.pad);
    ByteWriter writer{std::span<std::byte>(bytes).first(headers)};
    WriteHeaders(packet, writer);
    Require(writer.ok() && writer.remaining() == 0, "headers of another size");
    Gather(outgoing.payload,
           std::span(bytes).subspan(headers, outgoing.payload.length));
    to_.arriving.push_back(std::move(bytes));
  }

 private:
  const End& from_;
  End& to_;
  size_t room_;
};

size_t ChooseSize(Choices& choices, size_t mtu) {
  const size_t sizes[] = {0,       1,       7,           8,
                          mtu - 1, mtu,     mtu + 1,     3 * mtu,
                          2 * mtu, 5 * mtu, 2 * mtu - 1, kRegionBytes};
  return sizes[choices.Below(std::size(sizes))];
}

uint64_t ChooseAddress(Choices& choices) {
  constexpr uint64_t kAddresses[] = {
      kStart, kStart + 8,    kStart + 4, kStart + kRegionBytes - 8,
      0,      kStart - 4096, ~0ull - 7,  kStart + kRegionBytes};
  return kAddresses[choices.Below(std::size(kAddresses))] + choices.Below(2);
}

class Run {
 public:
  explicit Run(std::span<const uint8_t> input)
      : choices_(input),
        transport_(ChooseTransport()),
        ends_{{{Options(kFuzzQpn), choices_.OneIn(8)},
               {Options(Qpn(ToUint(kFuzzQpn) + 1)), choices_.OneIn(8)}}} {
    const uint8_t mtu = choices_.Byte();
    for (size_t i = 0; i < ends_.size(); ++i) {
      attributes_[i] = ChooseAttributes(256u << mtu % 3);
    }
    for (size_t i = 0; i < ends_.size(); ++i) {
      attributes_[i].destination = ends_[1 - i].qp.options().number;
      attributes_[i].receive_psn = attributes_[1 - i].send_psn;
      if (!choices_.OneIn(4)) {
        attributes_[i].max_dest_rd_atomic = attributes_[1 - i].max_rd_atomic;
      }
      BringUp(i);
    }
  }

  void All() {
    for (size_t i = 0; i < kMostSteps && !choices_.empty(); ++i) {
      Step();
      for (End& end : ends_) end.Check();
    }
    ComeToRest();
    for (End& end : ends_) {
      Require(end.qp.Modify(QpState::kErr, end.qp.attributes()), "no way out");
      end.Check();
      end.CheckEnd();
    }
  }

 private:
  Transport ChooseTransport() {
    constexpr Transport kTransports[] = {Transport::kRc, Transport::kRc,
                                         Transport::kRc, Transport::kRc,
                                         Transport::kUc, Transport::kUd};
    return kTransports[choices_.Below(std::size(kTransports))];
  }
  QpOptions Options(Qpn number) {
    return {.transport = transport_,
            .number = number,
            .send_depth = 1 + choices_.Below(8)};
  }
  QpAttributes ChooseAttributes(uint32_t mtu) {
    constexpr Psn kPsns[] = {Psn(0), Psn(0xfffffe), Psn(0x7fffff)};
    return {.access = choices_.OneIn(4) ? choices_.Byte()
                                        : unsigned{IBV_ACCESS_REMOTE_WRITE |
                                                   IBV_ACCESS_REMOTE_READ |
                                                   IBV_ACCESS_REMOTE_ATOMIC},
            .mtu_bytes = mtu,
            .max_dest_rd_atomic = static_cast<uint8_t>(choices_.Below(4)),
            .min_rnr_timer = static_cast<uint8_t>(choices_.Below(32)),
            .send_psn = kPsns[choices_.Below(3)],
            .max_rd_atomic = static_cast<uint8_t>(choices_.Below(4)),
            .retry_cnt = static_cast<uint8_t>(choices_.Below(8)),
            .rnr_retry = static_cast<uint8_t>(choices_.Below(8)),
            .ack_timeout = static_cast<uint8_t>(1 + choices_.Below(31)),
            .window = 2 + choices_.Below(16),
            .read_packets = 1 + choices_.Below(8)};
  }
  void BringUp(size_t index) {
    End& end = ends_[index];
    for (const QpState state : {QpState::kInit, QpState::kRtr, QpState::kRts}) {
      Require(end.qp.Modify(state, attributes_[index]), "does not come up");
    }
    end.request_psn = attributes_[index].receive_psn;
    end.response_psn = attributes_[index].send_psn;
  }

  void Step() {
    const size_t index = choices_.Below(2);
    End& end = ends_[index];
    switch (choices_.Below(20)) {
      case 0:
      case 1:
      case 2:
        return PostSend(end);
      case 3:
      case 4:
        return end.PostReceive(
            ChooseSize(choices_, attributes_[index].mtu_bytes),
            choices_.OneIn(16) ? IBV_WC_LOC_PROT_ERR : IBV_WC_SUCCESS);
      case 5:
      case 6:
        return Pump(index, choices_.Below(16));
      case 7:
      case 8:
      case 9:
      case 10:
        return Deliver(index);
      case 11:
      case 12:
      case 13:
        return Forge(index);
      case 14:
      case 15:
        return Replay(index);
      case 16:
        FireTimer(index);
        return;
      case 17:
        return ChangeState(index);
      case 18:
        if (choices_.OneIn(2)) {
          (void)end.memory.Invalidate(Rkey(choices_.Below(4)));
        } else {
          end.memory.Renew(choices_.Below(3));
        }
        return;
      default:
        now_ += std::chrono::microseconds(choices_.Byte());
        return Pump(index, 64);
    }
  }

  void PostSend(End& end) {
    Send send;
    SendWork& work = send.work;
    work.operation = static_cast<Operation>(choices_.Below(6));
    const uint8_t flags = choices_.Byte();
    work.signaled = (flags & 1) == 0;
    work.fence = (flags & 6) == 6;
    work.solicited = (flags & 8) != 0;
    work.ending = static_cast<Ending>((flags >> 4) % 3);
    if (transport_ != Transport::kRc && work.ending == Ending::kInvalidate) {
      work.ending = Ending::kPlain;
    }
    if (work.operation == Operation::kWrite &&
        work.ending == Ending::kInvalidate) {
      work.ending = Ending::kPlain;
    }
    // What the device does not let through to these transports.
    if (transport_ == Transport::kUd && work.operation != Operation::kLocal) {
      work.operation = Operation::kSend;
    }
    send.bytes.resize(ChooseSize(choices_, end.qp.attributes().mtu_bytes));
    if (work.operation == Operation::kCompareSwap ||
        work.operation == Operation::kFetchAdd) {
      if (!choices_.OneIn(8)) send.bytes.resize(sizeof(uint64_t));
    }
    work.remote_address = ChooseAddress(choices_);
    work.rkey = Rkey(1 + choices_.Below(4));
    work.invalidate = Rkey(choices_.Below(5));
    work.address = {.destination = end.qp.attributes().destination};
    if (choices_.OneIn(32)) work.fault = IBV_WC_LOC_PROT_ERR;
    if (choices_.OneIn(8)) send.action.outcome = IBV_WC_MW_BIND_ERR;
    end.PostSend(std::move(send));
  }

  void Pump(size_t index, size_t room) {
    Out out(ends_[index], ends_[1 - index], room);
    ends_[index].qp.Transmit(now_, out);
  }

  void Deliver(size_t index) {
    End& end = ends_[index];
    if (end.arriving.empty()) return;
    const size_t at = choices_.Below(4) % end.arriving.size();
    End::Wire bytes = end.arriving[at];
    const uint32_t fate = choices_.Below(8);
    if (fate != 1) {
      end.arriving.erase(end.arriving.begin() + static_cast<ptrdiff_t>(at));
    }
    if (fate == 2) return;
    if (fate == 3) {
      const size_t spoilt = choices_.Word() % bytes.size();
      bytes[spoilt] ^= std::byte{choices_.Byte()};
    }
    Arrive(index, bytes);
  }

  void Arrive(size_t index, std::span<const std::byte> bytes) {
    Packet packet;
    if (Parse(bytes, packet) != PacketFault::kNone) return;
    ends_[index].qp.OnPacket(packet, now_);
    if (choices_.OneIn(2)) Pump(index, 16);
  }

  // A packet that could be right, but for what the input makes of it.
  void Forge(size_t index) {
    End& end = ends_[index];
    Packet packet;
    packet.bth.opcode =
        static_cast<Opcode>(choices_.Below(0x18) + OpcodeBase());
    if (choices_.OneIn(32)) packet.bth.opcode = Opcode(choices_.Byte());
    if (!packet.facts().known()) return;
    packet.bth.destination = end.qp.options().number;
    packet.bth.ack_req = choices_.OneIn(2);
    Aim(index, packet);
    packet.reth = {.address = ChooseAddress(choices_),
                   .rkey = Rkey(1 + choices_.Below(4)),
                   .length = ChooseLength(index)};
    packet.atomic_eth = {.address = ChooseAddress(choices_),
                         .rkey = Rkey(1 + choices_.Below(4)),
                         .swap_or_add = choices_.Byte()};
    packet.aeth = {.syndrome = Syndrome(choices_.Byte()),
                   .msn = Msn(choices_.Byte())};
    packet.ieth = {.rkey = Rkey(choices_.Below(5))};
    if (packet.facts().payload) {
      forged_.assign(ChooseSize(choices_, attributes_[index].mtu_bytes),
                     std::byte{choices_.Byte()});
      packet.payload = forged_;
    }
    packet.bth.pad = PadFor(packet.payload.size());
    End::Wire bytes(WireBytes(packet));
    ByteWriter writer{std::span<std::byte>(bytes)};
    Write(packet, writer);
    Arrive(index, bytes);
  }

  uint32_t OpcodeBase() const {
    if (transport_ == Transport::kUd) return 0x60;
    return transport_ == Transport::kUc ? 0x20 : 0;
  }
  uint32_t ChooseLength(size_t index) {
    if (choices_.OneIn(8)) return 0x80000000u + choices_.Below(2);
    return static_cast<uint32_t>(
        ChooseSize(choices_, attributes_[index].mtu_bytes));
  }

  // Gives it a PSN about where the queue pair is.
  void Aim(size_t index, Packet& packet) {
    End& end = ends_[index];
    Psn& psn =
        packet.facts().is_response() ? end.response_psn : end.request_psn;
    constexpr int kOffsets[] = {0, 0, 0, 1, 2, -1, -2, 8, 1 << 23, -3};
    const int offset = kOffsets[choices_.Below(std::size(kOffsets))];
    packet.bth.psn = psn + static_cast<uint32_t>(offset);
    if (offset >= 0 && offset <= 1) psn = packet.bth.psn + 1;
  }

  // A packet as it was captured, made to reach the queue pair; see RcSeeds.
  void Replay(size_t index) {
    const auto bytes = std::as_bytes(choices_.Bytes(choices_.Word() % 4200));
    Packet packet;
    if (Parse(bytes, packet) != PacketFault::kNone) return;
    if (choices_.OneIn(2)) Aim(index, packet);
    packet.bth.destination = ends_[index].qp.options().number;
    packet.reth.address = kStart + packet.reth.address % kRegionBytes;
    packet.reth.rkey = Rkey(1 + ToUint(packet.reth.rkey) % 4);
    packet.atomic_eth.address =
        kStart + packet.atomic_eth.address % kRegionBytes;
    packet.atomic_eth.rkey = Rkey(1 + ToUint(packet.atomic_eth.rkey) % 4);
    ends_[index].qp.OnPacket(packet, now_);
    if (choices_.OneIn(2)) Pump(index, 16);
  }

  bool FireTimer(size_t index) {
    const auto deadline = ends_[index].qp.NextDeadline();
    if (!deadline) return false;
    now_ = std::max(now_, *deadline);
    ends_[index].qp.OnTimer(now_);
    return true;
  }

  void ChangeState(size_t index) {
    End& end = ends_[index];
    switch (choices_.Below(8)) {
      case 0:
        end.Reset();
        return BringUp(index);
      case 1:
        Require(end.qp.Modify(QpState::kErr, end.qp.attributes()),
                "no way out");
        return;
      case 2:
      case 3:
        (void)end.qp.Modify(QpState::kSqd, end.qp.attributes());
        return;
      default:
        if (end.qp.Modify(QpState::kRts, end.qp.attributes())) end.Restarted();
        return;
    }
  }

  // Nothing arrives any more: what waits must end, or need no answer.
  void ComeToRest() {
    for (size_t index : {0, 1}) {
      End& end = ends_[index];
      int timers = 0;
      do {
        Require(++timers < kTimersToRest, "it does not come to rest");
        for (int i = 0; i < 8; ++i) Pump(index, 64);
      } while (FireTimer(index));
      Require(end.qp.state() != QpState::kRts || end.qp.sends_queued() == 0,
              "a send waits for nothing");
      end.Check();
    }
  }

  Choices choices_;
  const Transport transport_;
  Instant now_{};
  std::array<QpAttributes, 2> attributes_;
  std::array<End, 2> ends_;
  std::vector<std::byte> forged_;
};

}  // namespace
}  // namespace nd::soft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::soft::Run(std::span(data, size)).All();
  return 0;
}

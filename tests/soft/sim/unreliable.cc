#include "soft/sim/unreliable.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "soft/device/completion_queue.h"
#include "soft/device/grh.h"
#include "soft/device/memory_table.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

using std::chrono::microseconds;

constexpr size_t kMostEvents = 1'000'000;
constexpr uint32_t kFirstQpn = 17;
constexpr uint64_t kStart = 0x7f0000000000;  // address of the WRITEs' target
constexpr size_t kGuardBytes = 64;
constexpr uint32_t kMostPackets = 5;
constexpr uint32_t kDatagramMtu = 4096;
constexpr size_t kMostSges = 3;
constexpr uint32_t kMostInline = 64;
constexpr size_t kQueued = 2048;
constexpr PdId kPd{1};
constexpr Duration kWorkTime = std::chrono::milliseconds(2);

Path PathBetween(size_t source, size_t destination) {
  const NetHeaders headers = HeadersBetween(source, destination);
  return {.source = headers.source,
          .destination = headers.destination,
          .flow_label = static_cast<uint32_t>(1000 + source),
          .traffic_class = static_cast<uint8_t>(4 * destination),
          .hop_limit = static_cast<uint8_t>(60 + source)};
}

// What stands in front of a datagram of these many bytes from BTH to pad.
std::array<std::byte, kGrhBytes> GrhOf(const Path& path, size_t packet_bytes) {
  std::array<std::byte, kGrhBytes> grh{};
  ByteWriter writer{std::span<std::byte>(grh)};
  writer.WriteBe32(6u << 28 | uint32_t{path.traffic_class} << 20 |
                   path.flow_label);
  writer.WriteBe16(static_cast<uint16_t>(8 + packet_bytes + kIcrcBytes));
  writer.WriteU8(17);
  writer.WriteU8(path.hop_limit);
  writer.WriteBytes(std::span<const uint8_t>(path.source));
  writer.WriteBytes(std::span<const uint8_t>(path.destination));
  return grh;
}

bool IsWrite(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}
bool HasImmediate(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

}  // namespace

// A part of a node's bytes.
struct UnreliableSimulation::Receive {
  size_t offset = 0;
  uint32_t length = 0;
};

struct UnreliableSimulation::Message {
  Node* to = nullptr;
  ibv_wr_opcode opcode = IBV_WR_SEND;
  unsigned flags = 0;
  uint32_t immediate = 0;
  size_t offset = 0;  // of the sender's bytes
  uint32_t length = 0;
  uint64_t remote_offset = 0;  // of the WRITEs' target
  enum class Key { kRight, kReadOnly, kUnknown } key = Key::kRight;
  bool wrong_qkey = false;
  ibv_wc_status fault = IBV_WC_SUCCESS;  // found here
  uint64_t first = 0;                    // packet of its sender
  uint32_t packets = 1;

  bool needs_receive() const {
    return !IsWrite(opcode) || HasImmediate(opcode);
  }
};

class UnreliableSimulation::Node {
 public:
  Node(Transport transport, size_t index)
      : index(index),
        qp({.transport = transport,
            .number = Qpn(static_cast<uint32_t>(kFirstQpn + index)),
            .pd = kPd,
            .send_cq = &send_cq,
            .recv_cq = &recv_cq,
            .cap = {.max_send_wr = 16,
                    .max_recv_wr = 512,
                    .max_send_sge = kMostSges,
                    .max_recv_sge = kMostSges,
                    .max_inline_data = kMostInline}},
           memory) {}

  size_t Reserve(size_t count) {
    const size_t offset = size;
    size += count + kGuardBytes;
    return offset;
  }
  // Once all has been reserved.
  void Register(Random& random) {
    bytes.resize(size);
    random.Fill(bytes);
    model = bytes;
    local_key = Add({.pd = kPd,
                     .address = bytes.data(),
                     .length = size,
                     .iova = AddressOf(0),
                     .access = IBV_ACCESS_LOCAL_WRITE});
    MemoryTable::RegionOptions target{
        .pd = kPd,
        .address = bytes.data() + target_offset,
        .length = target_bytes,
        .iova = kStart,
        .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE};
    write_key = Add(target);
    target.access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
    read_key = Add(target);
  }
  uint64_t AddressOf(size_t offset) const {
    return reinterpret_cast<uintptr_t>(bytes.data()) + offset;
  }
  // The pieces of a part of its bytes, some of them empty.
  std::vector<ibv_sge> Elements(size_t offset, uint32_t length,
                                Random& random) const {
    std::vector<ibv_sge> sges;
    for (uint64_t more = random.Below(kMostSges); more > 0; --more) {
      const auto part = static_cast<uint32_t>(random.Below(length + 1));
      sges.push_back({AddressOf(offset), part, local_key});
      offset += part;
      length -= part;
    }
    sges.push_back({AddressOf(offset), length, local_key});
    return sges;
  }
  std::optional<ibv_wc> TakeReceived() {
    ibv_wc wc;
    if (recv_cq.Poll({&wc, 1}) != 1) return std::nullopt;
    return wc;
  }
  // The message whose packet this is; of what was never sent, null.
  Message* Sent(uint64_t packet) {
    for (size_t i = 0; i < posted; ++i) {
      Message& message = messages[i];
      if (packet - message.first < message.packets) return &message;
    }
    return nullptr;
  }

  const size_t index;
  MemoryTable memory{16};
  CompletionQueue send_cq{kQueued, nullptr, nullptr};
  CompletionQueue recv_cq{kQueued, nullptr, nullptr};
  QueuePair qp;
  Psn first_psn;
  Qkey qkey{0x1000};
  std::map<size_t, AddressHandle> handles;  // by node

  size_t size = 0;
  std::vector<std::byte> bytes;
  std::vector<std::byte> model;  // what they must be
  size_t target_offset = 0;
  size_t target_bytes = 0;
  uint32_t local_key = 0, write_key = 0, read_key = 0;

  std::vector<Message> messages;
  size_t posted = 0;
  uint64_t packets = 0;   // of what was posted
  size_t completed = 0;   // or silent
  bool stopped = false;   // in SQE
  bool given_up = false;  // in ERR
  bool pump_scheduled = false;
  bool was_cut_off = false;  // and is so no more

  std::vector<Receive> receives;
  size_t receives_posted = 0;
  size_t receives_taken = 0;
  bool holds = false;  // the last one that was taken
  struct Open {
    const Message* message = nullptr;
    uint32_t next = 0;
  };
  std::optional<Open> open;

 private:
  uint32_t Add(const MemoryTable::RegionOptions& options) {
    return *memory.AddRegion(options);
  }
};

// A node's side of the network: compares what is sent with what it must be.
class UnreliableSimulation::Wire final : public Network {
 public:
  Wire(UnreliableSimulation& simulation, Node& from, size_t room)
      : simulation_(simulation), from_(from), room_(room) {}

  uint32_t slot() const override { return 0; }
  size_t Room(const Path&, Qpn) override { return room_; }
  void Send(const Path& path, const Outgoing& outgoing) override {
    --room_;
    const Packet& packet = outgoing.packet;
    const uint64_t number = (packet.bth.psn - from_.first_psn) & Psn::kMask;
    const Message* const message = from_.Sent(number);
    if (message == nullptr) return simulation_.Find("a packet of no message");
    std::vector<std::byte> bytes(packet.facts().header_bytes() +
                                 outgoing.payload.length + packet.bth.pad);
    const auto payload = std::span(bytes).subspan(packet.facts().header_bytes(),
                                                  outgoing.payload.length);
    ByteWriter writer{std::span<std::byte>(bytes)};
    WriteHeaders(packet, writer);
    Gather(outgoing.payload, payload);
    if (path != PathBetween(from_.index, message->to->index)) {
      simulation_.Find("a packet takes another way");
    }
    Check(*message, packet, static_cast<uint32_t>(number - message->first),
          payload);
    bytes.resize(bytes.size() + kIcrcBytes);
    const std::span sealed(bytes);
    StoreIcrc(Icrc(HeadersBetween(from_.index, message->to->index),
                   sealed.first(bytes.size() - kIcrcBytes)),
              sealed.last<kIcrcBytes>());
    simulation_.network_->Send(simulation_.now_,
                               {.source = from_.index,
                                .destination = message->to->index,
                                .bytes = std::move(bytes)});
  }
  void Flush() override {}
  size_t Receive(Instant, ArrivalSink&) override { return 0; }
  std::optional<Instant> NextDeadline() const override { return {}; }
  bool Rest() override { return true; }
  int fd() const override { return -1; }
  absl::Status ClaimService(const HostService&) override {
    return absl::OkStatus();
  }
  void ReleaseService(const HostService&) override {}
  absl::Status JoinGroup(const Gid&) override { return absl::OkStatus(); }
  void LeaveGroup(const Gid&) override {}

 private:
  void Check(const Message& message, const Packet& packet, uint32_t index,
             std::span<const std::byte> payload) {
    const OpcodeFacts& facts = packet.facts();
    const bool last = index + 1 == message.packets;
    const size_t offset = size_t{index} * simulation_.mtu_bytes_;
    const auto expected = std::span(from_.model)
                              .subspan(message.offset, message.length)
                              .subspan(offset);
    const bool right =
        facts.transport == simulation_.transport_ &&
        (facts.kind == PacketKind::kWrite) == IsWrite(message.opcode) &&
        facts.first == (index == 0) && facts.last == last &&
        facts.headers.imm_dt == (last && HasImmediate(message.opcode)) &&
        packet.bth.destination == message.to->qp.number() &&
        std::ranges::equal(
            payload, expected.first(std::min<size_t>(expected.size(),
                                                     simulation_.mtu_bytes_)));
    if (!right) simulation_.Find("a packet is not what it must be");
  }

  UnreliableSimulation& simulation_;
  Node& from_;
  size_t room_;
};

UnreliableSimulation::UnreliableSimulation(uint64_t seed)
    : random_(seed),
      transport_(random_.OneIn(2) ? Transport::kUc : Transport::kUd),
      mtu_bytes_(transport_ == Transport::kUd
                     ? kDatagramMtu
                     : uint32_t{256} << random_.Below(5)) {
  DrawNetwork();
  const size_t nodes = transport_ == Transport::kUc ? 2 : 1 + random_.Below(4);
  for (size_t i = 0; i < nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(transport_, i));
  }
  for (const auto& node : nodes_) {
    node->Reserve(0);
    node->target_bytes = size_t{kMostPackets} * mtu_bytes_;
    node->target_offset = node->Reserve(node->target_bytes);
    DrawMessages(*node);
  }
  for (const auto& node : nodes_) {
    DrawReceives(*node);
    node->Register(random_);
  }
  Connect();
  for (const auto& node : nodes_) Schedule(*node);
}

UnreliableSimulation::~UnreliableSimulation() = default;

// ---- Building.

void UnreliableSimulation::DrawNetwork() {
  NetworkOptions options;
  options.delay = microseconds(1 + random_.Below(50));
  options.straggle = microseconds(random_.Below(300));
  if (!random_.OneIn(4)) {
    options.loss = random_.Fraction() * 0.2;
    options.duplicate = random_.Fraction() * 0.2;
    options.corrupt = random_.Fraction() * 0.05;
    options.reorder = random_.Fraction() * (random_.OneIn(2) ? 0.05 : 0.5);
  }
  network_ = std::make_unique<SimNetwork>(options, random_);
}

void UnreliableSimulation::Connect() {
  for (const auto& node : nodes_) {
    Node& peer = *nodes_[nodes_.size() - 1 - node->index];
    const Path path = PathBetween(node->index, peer.index);
    node->first_psn = Psn(
        random_.OneIn(2) ? 0xfffffe : static_cast<uint32_t>(random_.Next()));
    ibv_qp_attr attr{};
    attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
    attr.qkey = ToUint(node->qkey);
    attr.path_mtu = static_cast<ibv_mtu>(__builtin_ctz(mtu_bytes_ / 128));
    attr.dest_qp_num = ToUint(peer.qp.number());
    // The first packet to come may have any PSN.
    attr.rq_psn = static_cast<uint32_t>(random_.Below(Psn::kMask + 1));
    attr.sq_psn = node->first_psn.value();
    constexpr int kAll = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_AV |
                         IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                         IBV_QP_SQ_PSN | IBV_QP_QKEY;
    for (const ibv_qp_state state : {IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS}) {
      attr.qp_state = state;
      if (node->qp.Modify(attr, kAll, path) != 0) Find("it does not come up");
    }
    for (const auto& other : nodes_) {
      node->handles[other->index] = {
          .pd = kPd, .path = PathBetween(node->index, other->index)};
    }
  }
}

void UnreliableSimulation::DrawMessages(Node& node) {
  for (uint64_t left = 1 + random_.Below(30); left > 0; --left) {
    Message message = DrawMessage(node);
    message.offset = node.Reserve(message.length);
    node.messages.push_back(message);
  }
}

UnreliableSimulation::Message UnreliableSimulation::DrawMessage(
    const Node& from) {
  const bool datagram = transport_ == Transport::kUd;
  constexpr ibv_wr_opcode kOpcodes[] = {IBV_WR_SEND, IBV_WR_SEND_WITH_IMM,
                                        IBV_WR_RDMA_WRITE,
                                        IBV_WR_RDMA_WRITE_WITH_IMM};
  const uint32_t most = (datagram ? 1 : kMostPackets) * mtu_bytes_;
  Message message{
      .to = nodes_[datagram ? random_.Below(nodes_.size()) : 1 - from.index]
                .get(),
      .opcode = kOpcodes[random_.Below(datagram ? 2 : 4)],
      .immediate = static_cast<uint32_t>(random_.Next()),
      .length = static_cast<uint32_t>(random_.OneIn(2) ? random_.Below(most + 1)
                                                       : random_.Below(100)),
      .remote_offset = 0,
      .wrong_qkey = datagram && random_.OneIn(8)};
  if (!random_.OneIn(3)) message.flags |= IBV_SEND_SIGNALED;
  if (random_.OneIn(2)) message.flags |= IBV_SEND_SOLICITED;
  if (message.length <= kMostInline && random_.OneIn(2)) {
    message.flags |= IBV_SEND_INLINE;
  }
  message.remote_offset =
      random_.Below(kMostPackets * mtu_bytes_ - message.length + 1);
  if (random_.OneIn(10)) message.key = Message::Key::kReadOnly;
  if (random_.OneIn(10)) message.key = Message::Key::kUnknown;
  // One byte too far.
  if (random_.OneIn(10)) {
    message.remote_offset = kMostPackets * mtu_bytes_ - message.length + 1;
  }
  if (random_.OneIn(25)) {
    message.fault = IBV_WC_LOC_PROT_ERR;
    message.flags &= ~unsigned{IBV_SEND_INLINE};
    message.length = 1;
  }
  message.packets =
      std::max(1u, (message.length + mtu_bytes_ - 1) / mtu_bytes_);
  return message;
}

// As many as there are messages at most, and not all of them long enough.
void UnreliableSimulation::DrawReceives(Node& node) {
  const uint32_t grh = transport_ == Transport::kUd ? kGrhBytes : 0;
  for (const auto& from : nodes_) {
    for (const Message& message : from->messages) {
      if (message.to != &node || !message.needs_receive() ||
          random_.OneIn(10)) {
        continue;
      }
      const uint32_t most =
          IsWrite(message.opcode) ? 0 : kMostPackets * mtu_bytes_;
      const auto length = static_cast<uint32_t>(
          grh + (random_.OneIn(8) ? random_.Below(most + 1) : most));
      node.receives.push_back(
          {.offset = node.Reserve(length), .length = length});
    }
  }
}

void UnreliableSimulation::Schedule(Node& node) {
  Instant at = now_;
  for (size_t i = 0; i < node.receives.size(); ++i) {
    if (random_.OneIn(3)) at += Duration(random_.Below(100'000));
    agenda_.emplace(at, [this, &node] { PostReceive(node); });
  }
  agenda_.emplace(now_ + Duration(random_.Below(kWorkTime.count())),
                  [this, &node] { Post(node); });
  if (random_.OneIn(10)) {
    agenda_.emplace(now_ + Duration(random_.Below(kWorkTime.count())),
                    [this, &node] { GiveUp(node); });
  }
  if (random_.OneIn(4)) SchedulePartition(node);
}

// Some for good.
void UnreliableSimulation::SchedulePartition(Node& node) {
  const Instant at = now_ + Duration(random_.Below(kWorkTime.count()));
  agenda_.emplace(at, [this, &node] { network_->SetCutOff(node.index, true); });
  if (random_.OneIn(4)) return;
  agenda_.emplace(at + Duration(random_.Below(kWorkTime.count() / 4)),
                  [this, &node] {
                    network_->SetCutOff(node.index, false);
                    node.was_cut_off = true;
                  });
}

// ---- Running.

Findings UnreliableSimulation::Run() {
  for (size_t events = 0; Step(); ++events) {
    if (!findings_.empty()) return findings_;
    if (events == kMostEvents) return {"it does not come to rest"};
  }
  for (const auto& node : nodes_) {
    PassOver(*node, node->messages.size());
    if (node->bytes != node->model) {
      const auto at = std::ranges::mismatch(node->bytes, node->model).in1;
      Find(absl::StrCat("node ", node->index, ": byte ",
                        at - node->bytes.begin(), " is not what it must be"));
    }
  }
  return findings_;
}

bool UnreliableSimulation::Step() {
  const auto arrival = network_->NextArrival();
  if (!agenda_.empty() && (!arrival || agenda_.begin()->first <= *arrival)) {
    now_ = agenda_.begin()->first;
    agenda_.extract(agenda_.begin()).mapped()();
    return true;
  }
  if (!arrival) return false;
  now_ = *arrival;
  Deliver(network_->Take());
  return true;
}

void UnreliableSimulation::PostReceive(Node& node) {
  const Receive& receive = node.receives[node.receives_posted++];
  std::vector<ibv_sge> sges =
      node.Elements(receive.offset, receive.length, random_);
  ibv_recv_wr wr{};
  wr.wr_id = node.receives_posted - 1;
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  if (node.qp.PostReceive(wr) != 0) Find("a receive was not posted");
  if (node.given_up) CheckFlushed(node);
}

void UnreliableSimulation::GiveUp(Node& node) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  if (node.qp.Modify(attr, IBV_QP_STATE, {}) != 0) Find("no way out");
  node.given_up = true;
  CheckSent(node);
  CheckFlushed(node);
}

// All receives that are left, in order.
void UnreliableSimulation::CheckFlushed(Node& node) {
  if (std::exchange(node.holds, false)) --node.receives_taken;
  for (; node.receives_taken < node.receives_posted; ++node.receives_taken) {
    const auto wc = node.TakeReceived();
    if (!wc || wc->wr_id != node.receives_taken ||
        wc->status != IBV_WC_WR_FLUSH_ERR) {
      return Find(absl::StrCat("receive ", node.receives_taken,
                               " was not flushed in its turn"));
    }
  }
  if (node.TakeReceived()) Find("a receive was flushed twice");
}

void UnreliableSimulation::Post(Node& node) {
  while (node.posted < node.messages.size()) {
    if (random_.OneIn(4) || !PostOne(node)) {
      agenda_.emplace(now_ + microseconds(1 + random_.Below(100)),
                      [this, &node] { Post(node); });
      break;
    }
  }
  Pump(node);
}

// False: there is no room.
bool UnreliableSimulation::PostOne(Node& node) {
  Message& message = node.messages[node.posted];
  Node& to = *message.to;
  std::vector<ibv_sge> sges =
      node.Elements(message.offset, message.length, random_);
  if (message.fault != IBV_WC_SUCCESS) {
    sges = {{node.AddressOf(message.offset), message.length, 0xbad}};
  }
  ibv_send_wr wr{};
  wr.wr_id = node.posted;
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  wr.opcode = message.opcode;
  wr.send_flags = message.flags;
  wr.imm_data = htonl(message.immediate);
  if (transport_ == Transport::kUd) {
    wr.wr.ud = {.ah = &node.handles[to.index].verbs,
                .remote_qpn = ToUint(to.qp.number()),
                .remote_qkey = ToUint(to.qkey) + message.wrong_qkey};
  } else {
    const uint32_t keys[] = {to.write_key, to.read_key, 0xbad};
    wr.wr.rdma = {kStart + message.remote_offset,
                  keys[static_cast<size_t>(message.key)]};
  }
  message.first = node.packets;
  const int error = node.qp.PostSend(wr);
  if (error == ENOMEM) return false;
  if (error != 0) Find("a send was not posted");
  ++node.posted;
  node.packets += message.packets;
  CheckSent(node);
  return true;
}

void UnreliableSimulation::Pump(Node& node) {
  Wire wire(*this, node, random_.Below(12));
  SendOutcome sent = SendOutcome::kTurn;
  while (sent == SendOutcome::kTurn) sent = node.qp.Transmit(now_, wire);
  const bool all = sent == SendOutcome::kAll;
  CheckSent(node);
  if (node.qp.NextDeadline()) Find("there is nothing to wait for");
  if (all || node.pump_scheduled) return;
  node.pump_scheduled = true;
  agenda_.emplace(now_ + microseconds(1 + random_.Below(20)), [this, &node] {
    node.pump_scheduled = false;
    Pump(node);
  });
}

// Sends complete when they have left, in order, whatever becomes of them. One
// that is wrong stops them until the application goes on.
void UnreliableSimulation::CheckSent(Node& node) {
  ibv_wc wc;
  while (node.send_cq.Poll({&wc, 1}) == 1) {
    if (wc.wr_id < node.completed || wc.wr_id >= node.messages.size()) {
      return Find(absl::StrCat("send ", wc.wr_id, " out of turn"));
    }
    PassOver(node, wc.wr_id);
    ++node.completed;
    const Message& message = node.messages[wc.wr_id];
    const bool flushed = node.stopped || node.given_up;
    const bool right = wc.status == message.fault ||
                       (flushed && wc.status == IBV_WC_WR_FLUSH_ERR);
    const bool told =
        (message.flags & IBV_SEND_SIGNALED) != 0 || wc.status != IBV_WC_SUCCESS;
    if (!right || !told || (node.stopped && wc.status == IBV_WC_SUCCESS)) {
      Find(absl::StrCat("node ", node.index, ": send ", wc.wr_id,
                        " completed with ", wc.status));
    }
    if (wc.status == IBV_WC_SUCCESS || flushed) continue;
    node.stopped = true;
    agenda_.emplace(now_ + microseconds(random_.Below(100)),
                    [this, &node] { GoOn(node); });
  }
}

// Those before `end` have said nothing, rightly so.
void UnreliableSimulation::PassOver(Node& node, uint64_t end) {
  for (; node.completed < end; ++node.completed) {
    const Message& message = node.messages[node.completed];
    if ((message.flags & IBV_SEND_SIGNALED) != 0 ||
        message.fault != IBV_WC_SUCCESS) {
      return Find(absl::StrCat("node ", node.index, ": send ", node.completed,
                               " did not complete"));
    }
  }
}

void UnreliableSimulation::GoOn(Node& node) {
  if (node.given_up) return;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTS;
  if (node.qp.state() != IBV_QPS_SQE ||
      node.qp.Modify(attr, IBV_QP_STATE, {}) != 0) {
    Find("a send queue does not go on");
  }
  node.stopped = false;
}

void UnreliableSimulation::Deliver(const Datagram& datagram) {
  const NetHeaders headers =
      HeadersBetween(datagram.source, datagram.destination);
  const Sealed sealed = Unseal(datagram.bytes);
  const bool whole = IcrcMatches(headers, sealed);
  if (whole == datagram.corrupted) Find("the ICRC did not tell good from bad");
  Packet packet;
  if (!whole || Parse(sealed.packet, packet) != PacketFault::kNone) return;
  Node& from = *nodes_[datagram.source];
  Node& to = *nodes_[datagram.destination];
  const uint64_t number = (packet.bth.psn - from.first_psn) & Psn::kMask;
  const Message& message = *from.Sent(number);
  const Part part{.from = from,
                  .message = message,
                  .index = static_cast<uint32_t>(number - message.first),
                  .wire_bytes = sealed.packet.size()};
  const auto expected = to.given_up                    ? std::nullopt
                        : transport_ == Transport::kUd ? OnDatagram(to, part)
                                                       : OnPart(to, part);
  to.qp.OnArrival({.path = PathBetween(from.index, to.index), .packet = packet},
                  now_);
  Compare(to, expected);
  ++(expected ? received_ : dropped_);
  const bool afterwards = &from != &to && (from.was_cut_off || to.was_cut_off);
  if (expected && afterwards) ++received_afterwards_;
}

void UnreliableSimulation::Compare(Node& to,
                                   const std::optional<ibv_wc>& expected) {
  const auto wc = to.TakeReceived();
  if (wc.has_value() != expected.has_value()) {
    return Find(absl::StrCat("node ", to.index, ": receive ", to.receives_taken,
                             wc ? " out of nowhere" : " is missing"));
  }
  if (!wc) return;
  const bool has_immediate = (expected->wc_flags & IBV_WC_WITH_IMM) != 0;
  if (wc->wr_id != expected->wr_id || wc->status != IBV_WC_SUCCESS ||
      wc->opcode != expected->opcode || wc->byte_len != expected->byte_len ||
      wc->wc_flags != expected->wc_flags || wc->src_qp != expected->src_qp ||
      wc->qp_num != ToUint(to.qp.number()) ||
      (has_immediate && wc->imm_data != expected->imm_data)) {
    Find(absl::StrCat("node ", to.index, ": receive ", wc->wr_id,
                      " tells it wrong"));
  }
}

// ---- What must come of a packet.

bool UnreliableSimulation::TakeReceive(Node& to) {
  if (to.holds) return true;
  if (to.receives_taken == to.receives_posted) return false;
  ++to.receives_taken;
  return to.holds = true;
}

std::optional<ibv_wc> UnreliableSimulation::OnDatagram(Node& to,
                                                       const Part& part) {
  const Message& message = part.message;
  if (message.wrong_qkey || !TakeReceive(to)) return std::nullopt;
  const Receive& receive = to.receives[to.receives_taken - 1];
  if (kGrhBytes + message.length > receive.length) return std::nullopt;
  const auto place = to.model.begin() + static_cast<ptrdiff_t>(receive.offset);
  std::ranges::copy(
      GrhOf(PathBetween(part.from.index, to.index), part.wire_bytes), place);
  Copy(part, 0, message.length, to, receive.offset + kGrhBytes);
  return Completion(to, part);
}

std::optional<ibv_wc> UnreliableSimulation::OnPart(Node& to, const Part& part) {
  const Message& message = part.message;
  const bool follows =
      to.open && to.open->message == &message && to.open->next == part.index;
  const bool goes_on = part.index == 0 || follows;
  to.open.reset();
  if (!goes_on) return std::nullopt;
  const uint32_t arrived = part.index * mtu_bytes_;
  const uint32_t bytes = std::min(message.length - arrived, mtu_bytes_);
  const bool last = part.index + 1 == message.packets;
  const bool write = IsWrite(message.opcode);
  const bool needs_receive = !write || (last && HasImmediate(message.opcode));
  if (needs_receive && !TakeReceive(to)) return std::nullopt;
  if (write && message.length > 0 &&
      (message.key != Message::Key::kRight ||
       message.remote_offset + message.length > to.target_bytes)) {
    return std::nullopt;
  }
  const Receive* const receive =
      to.holds ? &to.receives[to.receives_taken - 1] : nullptr;
  if (!write && arrived + bytes > receive->length) return std::nullopt;
  Copy(part, arrived, bytes, to,
       arrived + (write ? to.target_offset + message.remote_offset
                        : receive->offset));
  if (!last) {
    to.open = Node::Open{.message = &message, .next = part.index + 1};
    return std::nullopt;
  }
  if (!needs_receive) return std::nullopt;
  return Completion(to, part);
}

void UnreliableSimulation::Copy(const Part& part, uint32_t from, uint32_t bytes,
                                Node& to, size_t offset) {
  const auto begin = part.from.model.begin() +
                     static_cast<ptrdiff_t>(part.message.offset + from);
  std::copy(begin, begin + bytes,
            to.model.begin() + static_cast<ptrdiff_t>(offset));
}

ibv_wc UnreliableSimulation::Completion(Node& to, const Part& part) {
  const Message& message = part.message;
  const bool datagram = transport_ == Transport::kUd;
  ibv_wc wc{};
  wc.wr_id = to.receives_taken - 1;
  wc.opcode = IsWrite(message.opcode) ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
  wc.byte_len = message.length + (datagram ? kGrhBytes : 0);
  wc.src_qp = ToUint(part.from.qp.number());
  if (datagram) wc.wc_flags |= IBV_WC_GRH;
  if (HasImmediate(message.opcode)) {
    wc.wc_flags |= IBV_WC_WITH_IMM;
    wc.imm_data = htonl(message.immediate);
  }
  to.holds = false;
  return wc;
}

}  // namespace nd::soft

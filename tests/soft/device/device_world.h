// Two devices joined by a network in memory, with faults, and a clock that
// tests move.
#ifndef ND_TESTS_SOFT_DEVICE_DEVICE_WORLD_H_
#define ND_TESTS_SOFT_DEVICE_DEVICE_WORLD_H_

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fake_clock.h"
#include "base/lock.h"
#include "base/random.h"
#include "soft/device/device.h"
#include "soft/device/fault_plan.h"
#include "soft/net/fault_spec.h"
#include "soft/net/faulty_network.h"

namespace nd::soft {

// One end of a wire that loses nothing. The other end, where there is one
// still, has what was sent and flushed when it receives next. What lasts is
// looked at when it is flushed, as late as may be.
class WireEnd final : public Network {
 public:
  explicit WireEnd(uint32_t slot) : slot_(slot) {}

  void Join(WireEnd& other) { other_ = &other; }
  // Packets that wait at the other end, at most.
  void set_room(size_t room) { room_ = room; }
  // Packets that it hands out at a time.
  void set_most(size_t packets) { most_ = packets; }
  // From now on packets may go as one, up to that much payload.
  void set_burst_bytes(size_t bytes) { burst_bytes_ = bytes; }
  // Called before something is flushed.
  void set_before_flush(std::function<void()> call) {
    before_flush_ = std::move(call);
  }
  // The same, of payload that is lent.
  void set_lent_bytes(size_t bytes) { lent_bytes_ = bytes; }
  // What was sent here so far, without payload.
  const std::vector<Packet>& sent() const { return sent_; }

  // Of it, what was lent.
  size_t lent() const { return lent_; }

  uint32_t slot() const override { return slot_; }
  size_t Room(const Path&, Qpn) override {
    return room_ - std::min(room_, unflushed_.size() + other_->packets_.size());
  }
  BurstBytes Bursts(const Path&, Qpn) override {
    return {.copied = burst_bytes_, .lent = lent_bytes_};
  }
  void Send(const Path& path, const Outgoing& outgoing) override {
    sent_.push_back(outgoing.packet);
    const Segments segments = outgoing.payload.segments;
    Unflushed& unflushed = unflushed_.emplace_back(
        Unflushed{.carried = {.path = path, .packet = outgoing.packet},
                  .segments = {segments.begin(), segments.end()},
                  .slice = outgoing.payload});
    unflushed.slice.segments = unflushed.segments;
    if (outgoing.loan != nullptr) {
      Carried& carried = unflushed.carried;
      ForEachPiece(outgoing.payload,
                   [&carried](Segment piece) { carried.lent = piece; });
      EXPECT_EQ(carried.lent.size(), outgoing.payload.length);
      carried.loan = outgoing.loan;
      carried.word = *outgoing.loan;
      ++lent_;
    } else if (!outgoing.lasts) {
      unflushed.Look();
    }
  }
  void Flush() override {
    if (unflushed_.empty()) return;
    if (before_flush_) before_flush_();
    for (; !unflushed_.empty(); unflushed_.pop_front()) {
      unflushed_.front().Look();
      other_->packets_.push_back(std::move(unflushed_.front().carried));
    }
  }
  bool MayHaveArrivals() override { return !packets_.empty(); }
  size_t Receive(Instant, ArrivalSink& sink) override {
    const size_t most = std::min(most_, packets_.size());
    size_t count = 0;
    while (count < most && !sink.has_enough()) {
      ++count;
      const Carried carried = std::move(packets_.front());
      packets_.pop_front();
      Packet packet = carried.packet;
      packet.payload = carried.payload;
      const Far far(carried);
      if (carried.loan != nullptr) packet.far = &far;
      sink.OnArrival({.path = carried.path, .packet = packet});
    }
    ahead_of_mark_ -= std::min(ahead_of_mark_, count);
    return count;
  }
  void Mark() override { ahead_of_mark_ = packets_.size(); }
  bool PassedMark() const override { return ahead_of_mark_ == 0; }
  std::optional<Instant> NextDeadline() const override { return {}; }
  bool Rest() override { return packets_.empty(); }
  int fd() const override { return -1; }
  absl::Status ClaimService(const HostService&) override {
    return absl::OkStatus();
  }
  void ReleaseService(const HostService&) override {}
  absl::Status JoinGroup(const Gid&) override { return absl::OkStatus(); }
  void LeaveGroup(const Gid&) override {}

 private:
  struct Carried {
    Path path{};
    Packet packet{};
    std::vector<std::byte> payload{};
    Segment lent{};
    const LoanWord* loan = nullptr;
    uint64_t word = 0;
  };
  struct Unflushed {
    void Look() {
      if (carried.loan != nullptr || !carried.payload.empty()) return;
      carried.payload.resize(slice.length);
      Gather(slice, carried.payload);
    }

    Carried carried;
    std::vector<Segment> segments;
    Slice slice;  // of them
  };
  // Reads the memory of the other device while it is lent.
  class Far final : public FarPayload {
   public:
    explicit Far(const Carried& carried)
        : FarPayload(carried.lent.size()), carried_(carried) {}
    [[nodiscard]] bool CopyTo(
        std::span<const std::span<std::byte>> pieces) const override {
      if (*carried_.loan != carried_.word) return false;
      std::span<const std::byte> from = carried_.lent;
      for (const std::span<std::byte> piece : pieces) {
        std::ranges::copy(from.first(piece.size()), piece.begin());
        from = from.subspan(piece.size());
      }
      return true;
    }

   private:
    const Carried& carried_;
  };

  const uint32_t slot_;
  WireEnd* other_ = nullptr;
  size_t room_ = 4096;
  size_t most_ = 4096;
  size_t ahead_of_mark_ = 0;
  size_t burst_bytes_ = 0;
  size_t lent_bytes_ = 0;
  size_t lent_ = 0;
  std::vector<Packet> sent_;
  std::function<void()> before_flush_;
  std::deque<Unflushed> unflushed_;
  std::deque<Carried> packets_;
};

inline Gid WorldGid(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last};
}

// A device with a queue pair and memory that its peer may use.
class WorldDevice {
 public:
  static constexpr size_t kBytes = 64 << 10;
  static constexpr uint8_t kRetries = 7;
  static constexpr uint32_t kQkey = 0x1234;  // UD

  WorldDevice(uint8_t number, const FaultSpec& faults, const Clock& clock,
              Transport transport = Transport::kRc)
      : gid(WorldGid(number)),
        memory(kBytes),
        transport_(transport),
        random_(number),
        plan_(faults, number, clock.Now()) {
    auto wire_end = std::make_unique<WireEnd>(number);
    wire = wire_end.get();
    auto network = std::make_unique<FaultyNetwork>(faults, std::move(wire_end),
                                                   number, clock.Now());
    device = std::make_unique<Device>(
        Device::Options{.host = {.gids = {{.gid = gid, .interface = "eth0"}},
                                 .guid = number},
                        .faults = &plan_},
        std::move(network), clock, random_);
    device->AddListener(events);
    pd_ = *device->AllocatePd();
    key = *device->RegisterMemory(
        {.pd = pd_,
         .address = memory.data(),
         .length = kBytes,
         .iova = address(0),
         .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                   IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC});
    cq = *device->CreateCq(1024, nullptr, nullptr);
    ah_ = {.pd = pd_, .path = {.source = gid}};
    qp = CreateQp();
  }

  QueuePair* CreateQp() {
    return *device->CreateQp({.transport = transport_,
                              .pd = pd_,
                              .send_cq = cq.get(),
                              .recv_cq = cq.get(),
                              .cap = {.max_send_wr = 64,
                                      .max_recv_wr = 64,
                                      .max_send_sge = 1,
                                      .max_recv_sge = 1,
                                      .max_inline_data = 0},
                              .events = {&events, nullptr}});
  }

  uint64_t address(size_t offset) const {
    return reinterpret_cast<uintptr_t>(memory.data()) + offset;
  }

  // To RTS, with the peer's queue pair at the other end.
  void Connect(const WorldDevice& peer, uint8_t rnr_retry = kRetries) {
    Connect(*qp, peer, *peer.qp, rnr_retry);
  }
  void Connect(QueuePair& own, const WorldDevice& peer, const QueuePair& peers,
               uint8_t rnr_retry = kRetries) {
    ah_.path.destination = peer.gid;
    peer_qpn_ = ToUint(peers.number());
    const bool rc = transport_ == Transport::kRc;
    const bool ud = transport_ == Transport::kUd;
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_INIT;
    attr.port_num = 1;
    attr.qkey = kQkey;
    attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                           IBV_ACCESS_REMOTE_ATOMIC;
    Modify(own, attr,
           IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX |
               (ud ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS));
    attr.qp_state = IBV_QPS_RTR;
    attr.path_mtu = IBV_MTU_1024;
    attr.dest_qp_num = peer_qpn_;
    attr.max_dest_rd_atomic = 4;
    attr.min_rnr_timer = 1;
    attr.ah_attr.is_global = 1;
    attr.ah_attr.port_num = 1;
    std::ranges::copy(peer.gid, attr.ah_attr.grh.dgid.raw);
    int mask = IBV_QP_STATE;
    if (!ud) {
      mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
    }
    if (rc) mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
    Modify(own, attr, mask);
    attr.qp_state = IBV_QPS_RTS;
    attr.timeout = 8;  // about 1 ms
    attr.retry_cnt = kRetries;
    attr.rnr_retry = rnr_retry;
    attr.max_rd_atomic = 4;
    mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
    if (rc) {
      mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
              IBV_QP_MAX_QP_RD_ATOMIC;
    }
    Modify(own, attr, mask);
  }

  struct Request {
    ibv_wr_opcode opcode = IBV_WR_SEND;
    size_t offset = 0;
    uint32_t length = 0;
    uint64_t remote = 0;
    uint32_t rkey = 0;
    uint64_t add = 0;
  };
  int Post(uint64_t id, const Request& request) {
    return Post(*qp, id, request);
  }
  int Post(QueuePair& own, uint64_t id, const Request& request) {
    ibv_sge sge{address(request.offset), request.length, key};
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = request.opcode;
    wr.send_flags = IBV_SEND_SIGNALED;
    if (transport_ == Transport::kUd) {
      wr.wr.ud = {&ah_.verbs, peer_qpn_, kQkey};
    } else if (request.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
      wr.wr.atomic = {request.remote, request.add, 0, request.rkey};
    } else {
      wr.wr.rdma = {request.remote, request.rkey};
    }
    ibv_send_wr* bad = nullptr;
    return device->PostSend(own, &wr, &bad);
  }
  int PostReceive(uint64_t id, size_t offset, uint32_t length) {
    ibv_sge sge{address(offset), length, key};
    ibv_recv_wr wr{};
    wr.wr_id = id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    return device->PostReceive(*qp, &wr, &bad);
  }

  // What has completed so far.
  std::vector<ibv_wc> Completions() {
    std::vector<ibv_wc> all(1024);
    all.resize(static_cast<size_t>(cq->Poll(all)));
    return all;
  }
  std::vector<ibv_wc_status> Statuses() {
    std::vector<ibv_wc_status> statuses;
    for (const ibv_wc& wc : Completions()) statuses.push_back(wc.status);
    return statuses;
  }
  std::vector<ibv_event_type> Events() {
    std::vector<ibv_event_type> types;
    events.Withdraw([&types](const AsyncEvent& event) {
      types.push_back(event.type);
      return true;
    });
    return types;
  }
  bool Progress() {
    Holding lock(device->mutex());
    return device->Progress();
  }

  const Gid gid;
  std::vector<std::byte> memory;
  AsyncEvents events{*EventFd::Create()};
  WireEnd* wire = nullptr;
  std::unique_ptr<Device> device;
  uint32_t key = 0;
  std::unique_ptr<CompletionQueue> cq;
  QueuePair* qp = nullptr;

 private:
  void Modify(QueuePair& own, const ibv_qp_attr& attr, int mask) {
    const ibv_qp_type type = transport_ == Transport::kRc   ? IBV_QPT_RC
                             : transport_ == Transport::kUc ? IBV_QPT_UC
                                                            : IBV_QPT_UD;
    EXPECT_EQ(device->ModifyQp(own, type, attr, mask), 0);
  }

  const Transport transport_;
  PdId pd_{};
  AddressHandle ah_;  // UD: the peer's
  uint32_t peer_qpn_ = 0;
  SeededRandom random_;
  FaultPlan plan_;
};

class DeviceWorld {
 public:
  // Faults of either; a spec as users write it.
  explicit DeviceWorld(const char* client_faults = "",
                       const char* server_faults = "",
                       Transport transport = Transport::kRc)
      : client(1, *ParseFaultSpec(client_faults), clock, transport),
        server(2, *ParseFaultSpec(server_faults), clock, transport) {
    client.wire->Join(*server.wire);
    server.wire->Join(*client.wire);
  }

  void Connect(uint8_t rnr_retry = WorldDevice::kRetries) {
    client.Connect(server, rnr_retry);
    server.Connect(client, rnr_retry);
  }

  void set_burst_bytes(size_t bytes) {
    client.wire->set_burst_bytes(bytes);
    server.wire->set_burst_bytes(bytes);
  }

  // Whether either found something to do.
  bool BothProgress() {
    const bool any = client.Progress();
    return server.Progress() || any;
  }

  // Lets time pass.
  void Run(Duration duration) {
    constexpr Duration kStep = std::chrono::microseconds(100);
    for (Duration passed{}; passed <= duration; passed += kStep) {
      while (BothProgress()) continue;
      clock.Advance(kStep);
    }
  }

  FakeClock clock;
  WorldDevice client;
  WorldDevice server;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_DEVICE_DEVICE_WORLD_H_

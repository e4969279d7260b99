// Two hosts with rdma_cm's character device each, a network between them and a
// clock, all run by hand; and the commands as librdmacm writes them.
#ifndef ND_TESTS_SOFT_ABI_UCMA_WORLD_H_
#define ND_TESTS_SOFT_ABI_UCMA_WORLD_H_

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/random.h"
#include "soft/abi/ucma.h"

namespace nd::soft {

constexpr Gid Ipv4(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last};
}
constexpr Gid Ipv6(uint8_t last) {
  return {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
}
inline constexpr Gid kLoopback4 = {0, 0, 0,    0,    0,   0, 0, 0,
                                   0, 0, 0xff, 0xff, 127, 0, 0, 1};

struct Wire {
  Instant now{};
  std::deque<CmDatagram> datagrams{};
  bool silent = false;  // nothing arrives
};

// Host `number` has 10.0.0.number, fd00::number, and 10.0.1.number, which the
// device does not use. There is no way to 10.0.0.99.
class FakeHost final : public UcmaHost {
 public:
  FakeHost(uint8_t number, Wire& wire)
      : number_(number),
        wire_(wire),
        random_(number),
        manager_({.device = {.guid = 0x1000u + number,
                             .gids = {Ipv6(number), Ipv4(number)}}},
                 random_),
        ucma(*this) {}

  CmManager& manager() override { return manager_; }
  Instant Now() const override { return wire_.now; }
  uint64_t node_guid() const override { return 0x1000u + number_; }
  uint32_t device_index() const override { return 7; }
  uint8_t path_mtu() const override { return 4; }

  absl::StatusOr<Gid> SourceFor(const Gid& destination) override {
    if (destination == Ipv4(99) || no_route) {
      return absl::UnavailableError("no route");
    }
    if (destination == Ipv4(98)) return Other();
    return IsIpv4(destination) ? Ipv4(number_) : Ipv6(number_);
  }
  bool IsLocal(const Gid& address) override {
    return GidIndex(address) >= 0 || address == Other();
  }
  int GidIndex(const Gid& address) override {
    if (gids_gone) return -1;
    if (address == Ipv6(number_)) return 0;
    return address == Ipv4(number_) ? 1 : -1;
  }

  absl::StatusOr<PortTable::Bound> BindPort(const PortTable::Binding& binding,
                                            bool announced) override {
    auto bound = ports_.Bind(binding, random_);
    if (bound.ok()) claims_[bound->claim] = announced;
    return bound;
  }
  absl::Status ListenOnPort(PortClaim claim) override {
    return ports_.Listen(claim);
  }
  void ReleasePort(PortClaim claim) override {
    claims_.erase(claim);
    ports_.Release(claim);
  }
  void Deliver(const CmOutput& output) override {
    wire_.datagrams.insert(wire_.datagrams.end(), output.datagrams.begin(),
                           output.datagrams.end());
    for (const CmEvent& each : output.events) ucma.OnEvent(each);
    if (at_once) at_once();
  }
  void EventsChanged(UcmaFile file, int count) override {
    waiting[file] += count;
  }

  void Hear(const CmDatagram& datagram) {
    CmOutput output;
    manager_.HandleMad(datagram, wire_.now, output);
    Deliver(output);
  }
  void Expire() {
    CmOutput output;
    manager_.Expire(wire_.now, output);
    Deliver(output);
  }
  bool Has(const Gid& address) const {
    return address == Ipv4(number_) || address == Ipv6(number_);
  }
  size_t ports() const { return claims_.size(); }
  const std::map<PortClaim, bool>& claims() const { return claims_; }

 private:
  Gid Other() const {
    Gid other = Ipv4(number_);
    other[14] = 1;
    return other;
  }

  const uint8_t number_;
  Wire& wire_;
  SeededRandom random_;
  CmManager manager_;
  PortTable ports_;
  std::map<PortClaim, bool> claims_;

 public:
  Ucma ucma;
  bool gids_gone = false;
  bool no_route = false;
  std::map<UcmaFile, int> waiting;
  std::function<void()> at_once;  // run within Deliver
};

struct World {
  World() {
    client.ucma.Open();  // so that the hosts' files have different numbers
  }

  // Until nobody has anything more to say.
  void Settle() {
    while (!wire.datagrams.empty()) {
      const CmDatagram datagram = wire.datagrams.front();
      wire.datagrams.pop_front();
      if (wire.silent) continue;
      for (FakeHost* const host : {&client, &server}) {
        if (host->Has(datagram.destination)) host->Hear(datagram);
      }
    }
  }
  // To the next timer. False: there is none.
  bool Tick() {
    std::optional<Instant> next;
    for (FakeHost* const host : {&client, &server}) {
      const auto deadline = host->manager().NextDeadline();
      if (deadline && (!next || *deadline < *next)) next = deadline;
    }
    if (!next) return false;
    wire.now = std::max(wire.now, *next);
    client.Expire();
    server.Expire();
    Settle();
    return true;
  }

  Wire wire;
  FakeHost client{1, wire};
  FakeHost server{2, wire};
};

inline UcmaSockaddr AddressOf(const Gid& ip, uint16_t port) {
  return UcmaSockaddr::Of({.ip = ip, .port = port});
}

template <typename T>
uint64_t PointerTo(T& answer) {
  return reinterpret_cast<uintptr_t>(&answer);
}

// The bytes of a command whose answer has `room`.
template <typename Body>
std::vector<std::byte> Bytes(uint32_t command, const Body& body,
                             size_t room = 0) {
  const rdma_ucm_cmd_hdr header{
      .cmd = command, .in = sizeof(body), .out = static_cast<uint16_t>(room)};
  std::vector<std::byte> bytes(sizeof(header) + sizeof(body));
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(header), &body, sizeof(body));
  return bytes;
}

// A program with the device open. What returns an int64_t returns 0 or -errno.
class Program {
 public:
  explicit Program(FakeHost& host) : host_(host), file(host.ucma.Open()) {}

  int64_t Write(std::span<const std::byte> bytes) {
    const int64_t result = host_.ucma.Command(file, bytes);
    return result == static_cast<int64_t>(bytes.size()) ? 0 : result;
  }
  template <typename Body>
  int64_t Do(uint32_t command, const Body& body) {
    return Write(Bytes(command, body));
  }
  template <typename Body, typename Answer>
  int64_t Do(uint32_t command, Body body, Answer& answer) {
    body.response = PointerTo(answer);
    return Write(Bytes(command, body, sizeof(answer)));
  }

  int64_t Create(uint32_t& id, uint64_t uid, uint16_t space,
                 UcmaQpType type = UcmaQpType::kRc) {
    rdma_ucm_create_id body{};
    body.uid = uid;
    body.ps = space;
    body.qp_type = static_cast<uint8_t>(type);
    rdma_ucm_create_id_resp answer{};
    const int64_t result = Do(RDMA_USER_CM_CMD_CREATE_ID, body, answer);
    id = answer.id;
    return result;
  }
  uint32_t Create(uint64_t uid, uint16_t space = RDMA_PS_TCP) {
    uint32_t id = 0;
    Create(id, uid, space);
    return id;
  }
  // How many events were reported, or -errno.
  int64_t Destroy(uint32_t id) {
    rdma_ucm_destroy_id body{};
    body.id = id;
    rdma_ucm_destroy_id_resp answer{};
    const int64_t result = Do(RDMA_USER_CM_CMD_DESTROY_ID, body, answer);
    return result == 0 ? answer.events_reported : result;
  }
  int64_t Bind(uint32_t id, const UcmaSockaddr& address) {
    rdma_ucm_bind body{};
    body.id = id;
    body.addr_size = static_cast<uint16_t>(address.size());
    address.Write(std::as_writable_bytes(std::span(&body.addr, 1)));
    return Do(RDMA_USER_CM_CMD_BIND, body);
  }
  int64_t ResolveAddr(uint32_t id, const UcmaSockaddr& destination,
                      const UcmaSockaddr& source = {}) {
    rdma_ucm_resolve_addr body{};
    body.id = id;
    body.timeout_ms = 2000;
    body.src_size = static_cast<uint16_t>(source.size());
    body.dst_size = static_cast<uint16_t>(destination.size());
    source.Write(std::as_writable_bytes(std::span(&body.src_addr, 1)));
    destination.Write(std::as_writable_bytes(std::span(&body.dst_addr, 1)));
    return Do(RDMA_USER_CM_CMD_RESOLVE_ADDR, body);
  }
  int64_t ResolveRoute(uint32_t id, uint32_t timeout_ms = 2000) {
    return Do(RDMA_USER_CM_CMD_RESOLVE_ROUTE,
              rdma_ucm_resolve_route{.id = id, .timeout_ms = timeout_ms});
  }
  int64_t Listen(uint32_t id, uint32_t backlog = 0) {
    return Do(RDMA_USER_CM_CMD_LISTEN,
              rdma_ucm_listen{.id = id, .backlog = backlog});
  }
  static rdma_ucm_conn_param Param(uint32_t qpn, size_t data_size = 3) {
    rdma_ucm_conn_param param{};
    param.qp_num = qpn;
    param.private_data[0] = 'x';
    param.private_data_len = static_cast<uint8_t>(data_size);
    param.responder_resources = 4;
    param.initiator_depth = 3;
    param.retry_count = 6;
    param.rnr_retry_count = 5;
    param.valid = 1;
    return param;
  }
  int64_t Connect(uint32_t id, const rdma_ucm_conn_param& param) {
    rdma_ucm_connect body{};
    body.id = id;
    body.conn_param = param;
    return Do(RDMA_USER_CM_CMD_CONNECT, body);
  }
  int64_t Accept(uint32_t id, uint64_t uid, const rdma_ucm_conn_param& param) {
    rdma_ucm_accept body{};
    body.id = id;
    body.uid = uid;
    body.conn_param = param;
    return Do(RDMA_USER_CM_CMD_ACCEPT, body);
  }
  // What librdmacm does when its QP is ready.
  int64_t Establish(uint32_t id) { return Accept(id, 0, {}); }
  int64_t Reject(uint32_t id, uint8_t reason = 0, uint8_t data_size = 1) {
    rdma_ucm_reject body{};
    body.id = id;
    body.reason = reason;
    body.private_data_len = data_size;
    body.private_data[0] = 'n';
    return Do(RDMA_USER_CM_CMD_REJECT, body);
  }
  int64_t Disconnect(uint32_t id) {
    return Do(RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{.id = id});
  }
  int64_t InitQp(uint32_t id, uint32_t state, ib_uverbs_qp_attr& answer) {
    rdma_ucm_init_qp_attr body{};
    body.id = id;
    body.qp_state = state;
    return Do(RDMA_USER_CM_CMD_INIT_QP_ATTR, body, answer);
  }
  template <typename Answer>
  int64_t Query(uint32_t id, uint32_t option, Answer& answer) {
    rdma_ucm_query body{};
    body.id = id;
    body.option = option;
    return Do(RDMA_USER_CM_CMD_QUERY, body, answer);
  }
  int64_t QueryRoute(uint32_t id, rdma_ucm_query_route_resp& answer) {
    rdma_ucm_query body{};
    body.id = id;
    return Do(RDMA_USER_CM_CMD_QUERY_ROUTE, body, answer);
  }
  template <typename Value>
  int64_t SetOption(uint32_t id, uint32_t name, Value value,
                    uint32_t level = RDMA_OPTION_ID) {
    rdma_ucm_set_option body{};
    body.optval = PointerTo(value);
    body.id = id;
    body.level = level;
    body.optname = name;
    body.optlen = sizeof(value);
    return Do(RDMA_USER_CM_CMD_SET_OPTION, body);
  }
  // How many events were reported, or -errno.
  int64_t Migrate(uint32_t id) {
    rdma_ucm_migrate_id body{};
    body.id = id;
    rdma_ucm_migrate_resp answer{};
    const int64_t result = Do(RDMA_USER_CM_CMD_MIGRATE_ID, body, answer);
    return result == 0 ? answer.events_reported : result;
  }
  // The join's number, or -errno.
  int64_t JoinMcast(uint32_t id, uint64_t uid, const UcmaSockaddr& group,
                    uint16_t flags = RDMA_MC_JOIN_FLAG_FULLMEMBER) {
    rdma_ucm_join_mcast body{};
    body.uid = uid;
    body.id = id;
    body.addr_size = static_cast<uint16_t>(group.size());
    body.join_flags = flags;
    group.Write(std::as_writable_bytes(std::span(&body.addr, 1)));
    rdma_ucm_create_id_resp answer{};
    const int64_t result = Do(RDMA_USER_CM_CMD_JOIN_MCAST, body, answer);
    return result == 0 ? answer.id : result;
  }
  // How many events of the join were reported, or -errno.
  int64_t LeaveMcast(uint32_t join) {
    rdma_ucm_destroy_id body{};
    body.id = join;
    rdma_ucm_destroy_id_resp answer{};
    const int64_t result = Do(RDMA_USER_CM_CMD_LEAVE_MCAST, body, answer);
    return result == 0 ? answer.events_reported : result;
  }
  int64_t GetEvent(rdma_ucm_event_resp& event) {
    return Do(RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{}, event);
  }
  // The next event, or nothing.
  std::optional<rdma_ucm_event_resp> Next() {
    rdma_ucm_event_resp event{};
    if (GetEvent(event) != 0) return std::nullopt;
    return event;
  }
  int waiting() const { return host_.waiting[file]; }
  void Close() { host_.ucma.Close(file); }

 private:
  FakeHost& host_;

 public:
  const UcmaFile file;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_ABI_UCMA_WORLD_H_

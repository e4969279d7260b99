// What librdmacm sees of the character device, command by command.
#include "soft/abi/ucma.h"

#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <cerrno>
#include <chrono>
#include <span>

#include "soft/abi/ucma_world.h"

namespace nd::soft {
namespace {

constexpr uint16_t kPort = 7471;
constexpr uint64_t kClientUid = 0xc11e;
constexpr uint64_t kListenerUid = 0x115;
constexpr uint64_t kChildUid = 0xc41d;
constexpr uint32_t kClientQp = 0x11;
constexpr uint32_t kServerQp = 0x22;
const Gid kAny4 = Mapped({});

// The address that an answer holds.
template <typename Storage>
std::optional<UcmaSockaddr> Read(const Storage& storage) {
  return UcmaSockaddr::Read(std::as_bytes(std::span(&storage, 1)));
}

// Puts an address where a command has it.
template <typename Storage>
void Put(const UcmaSockaddr& address, Storage& storage) {
  address.Write(std::as_writable_bytes(std::span(&storage, 1)));
}

constexpr uint32_t Status(int value) { return static_cast<uint32_t>(value); }

class UcmaTest : public ::testing::Test, protected World {
 protected:
  // Takes the next event, which must be of this type.
  rdma_ucm_event_resp Expect(Program& program, UcmaEventType type) {
    const auto event = program.Next();
    EXPECT_TRUE(event) << "no event";
    if (!event) return {};
    EXPECT_EQ(event->event, static_cast<uint32_t>(type));
    return *event;
  }
  void ExpectQuiet(Program& program) {
    EXPECT_FALSE(program.Next());
    EXPECT_EQ(program.waiting(), 0);
  }

  // Each leads on from the one before.
  void Listen(uint16_t space = RDMA_PS_TCP, uint32_t backlog = 0) {
    listener = passive.Create(kListenerUid, space);
    ASSERT_EQ(passive.Bind(listener, AddressOf(kAny4, kPort)), 0);
    ASSERT_EQ(passive.Listen(listener, backlog), 0);
  }
  void ResolveRoute(uint16_t space = RDMA_PS_TCP) {
    connecting = active.Create(kClientUid, space);
    ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort)), 0);
    Expect(active, UcmaEventType::kAddrResolved);
    ASSERT_EQ(active.ResolveRoute(connecting), 0);
    Expect(active, UcmaEventType::kRouteResolved);
  }
  void Connect(uint16_t space = RDMA_PS_TCP) {
    Listen(space);
    ResolveRoute(space);
    ASSERT_EQ(active.Connect(connecting, Program::Param(kClientQp)), 0);
    Settle();
  }
  void FetchRequest(uint16_t space = RDMA_PS_TCP) {
    Connect(space);
    child = Expect(passive, UcmaEventType::kConnectRequest).id;
  }
  void Accept(uint16_t space = RDMA_PS_TCP) {
    FetchRequest(space);
    ASSERT_EQ(passive.Accept(child, kChildUid, Program::Param(kServerQp)), 0);
    Settle();
  }
  void Establish() {
    Accept();
    Expect(active, UcmaEventType::kConnectResponse);
    ASSERT_EQ(active.Establish(connecting), 0);
    Settle();
    Expect(passive, UcmaEventType::kEstablished);
  }

  Program active{client};
  Program passive{server};
  uint32_t listener = 0;
  uint32_t connecting = 0;
  uint32_t child = 0;
};

// Ids.

TEST_F(UcmaTest, IdsAreOfTheirFile) {
  const uint32_t id = active.Create(1);
  Program other(client);
  EXPECT_EQ(other.Listen(id), -EINVAL);
  EXPECT_EQ(other.Listen(id + 1), -ENOENT);
  EXPECT_EQ(active.Destroy(id), 0);
  EXPECT_EQ(active.Destroy(id), -ENOENT);
}

TEST_F(UcmaTest, ClosedFileTakesNothing) {
  active.Close();
  EXPECT_EQ(active.Listen(1), -EBADF);
}

TEST_F(UcmaTest, PortSpacesAndQpTypes) {
  uint32_t id = 0;
  EXPECT_EQ(active.Create(id, 1, RDMA_PS_UDP), 0);
  EXPECT_EQ(active.Create(id, 1, RDMA_PS_IB, UcmaQpType::kUc), 0);
  EXPECT_EQ(active.Create(id, 1, RDMA_PS_IB, UcmaQpType{9}), -EINVAL);
  EXPECT_EQ(active.Create(id, 1, 0x123), -EINVAL);
}

TEST_F(UcmaTest, IdsAreBounded) {
  for (size_t i = 0; i < Ucma::kMaxIds; ++i) {
    const uint32_t id = active.Create(1);
    ASSERT_GT(id, 0u);
    ASSERT_LE(id, Ucma::kMaxIds);
  }
  uint32_t id = 0;
  EXPECT_EQ(active.Create(id, 1, RDMA_PS_TCP), -ENOMEM);
  EXPECT_EQ(active.Destroy(5), 0);
  EXPECT_EQ(active.Create(1), 5u);
}

// Addresses.

TEST_F(UcmaTest, LibrdmacmFindsAfIb) {
  const uint32_t id = active.Create(1, RDMA_PS_IB);
  const UcmaSockaddr probe{.family = kIbFamily,
                           .service_id = 0x0000000001060000,
                           .service_id_mask = 0xffffffffffff0000};
  EXPECT_EQ(active.Bind(id, probe), 0);
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(answer.src_size, 48);
  const auto bound = Read(answer.src_addr);
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->service_id >> 16, 0x106u);
  EXPECT_NE(bound->endpoint.port, 0);
  EXPECT_EQ(active.Listen(id), -EOPNOTSUPP);
  EXPECT_EQ(active.Destroy(id), 0);
  EXPECT_EQ(client.ports(), 0u);
}

TEST_F(UcmaTest, AfIbInAnotherPortSpaceIsRefused) {
  const uint32_t id = active.Create(1, RDMA_PS_TCP);
  EXPECT_EQ(active.Bind(id, {.family = kIbFamily,
                             .service_id = 0x0000000001110000,
                             .service_id_mask = 0xffffffffffff0000}),
            -EPROTONOSUPPORT);
}

TEST_F(UcmaTest, BoundToAllIsOnNoDeviceYet) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.Bind(id, AddressOf(kAny4, 0)), 0);
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(answer.node_guid, 0u);
  EXPECT_EQ(answer.src_size, sizeof(sockaddr_in));
  EXPECT_EQ(answer.dst_size, 0);
  const auto bound = Read(answer.src_addr);
  ASSERT_TRUE(bound);
  EXPECT_GE(bound->endpoint.port, PortTable::kFirstEphemeral);
}

TEST_F(UcmaTest, BoundToOneAddressIsOnTheDevice) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.Bind(id, AddressOf(Ipv6(1), kPort)), 0);
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(answer.node_guid, 0x1001u);
  EXPECT_EQ(answer.port_num, 1);
  EXPECT_EQ(answer.pkey, 0xffff);
  EXPECT_EQ(answer.ibdev_index, 7u);
  EXPECT_EQ(answer.src_size, sizeof(sockaddr_in6));
  EXPECT_EQ(Read(answer.src_addr), AddressOf(Ipv6(1), kPort));
}

TEST_F(UcmaTest, AddressesThatCannotBeBound) {
  Gid other_interface = Ipv4(1);
  other_interface[14] = 1;
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.Bind(id, AddressOf(Ipv4(77), 1)), -EADDRNOTAVAIL);
  EXPECT_EQ(active.Bind(id, AddressOf(other_interface, 1)), -ENODEV);
  EXPECT_EQ(active.Bind(id, {}), -EINVAL);
  EXPECT_EQ(active.Bind(id, AddressOf(Ipv4(1), 1)), 0);
  EXPECT_EQ(active.Bind(id, AddressOf(Ipv4(1), 2)), -EINVAL);
  EXPECT_EQ(active.Bind(active.Create(2), AddressOf(Ipv4(1), 1)), -EADDRINUSE);
  EXPECT_EQ(active.Bind(active.Create(2), AddressOf(kAny4, 1)), -EADDRNOTAVAIL);
  const uint32_t ipoib = active.Create(3, RDMA_PS_IPOIB);
  EXPECT_EQ(active.Bind(ipoib, AddressOf(kAny4, 3)), -EPROTONOSUPPORT);
}

TEST_F(UcmaTest, SizeOfAnAddressMustBeItsFamilys) {
  const uint32_t id = active.Create(1);
  rdma_ucm_bind body{};
  body.id = id;
  Put(AddressOf(Ipv4(1), 1), body.addr);
  body.addr_size = sizeof(sockaddr_in6);
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_BIND, body), -EINVAL);
  body.addr_size = sizeof(sockaddr_in);
  body.reserved = 1;
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_BIND, body), -EINVAL);
}

TEST_F(UcmaTest, OldBindAndResolve) {
  const uint32_t id = active.Create(1);
  rdma_ucm_bind_ip bind{};
  bind.id = id;
  Put(AddressOf(Ipv4(1), kPort), bind.addr);
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_BIND_IP, bind), 0);
  rdma_ucm_resolve_ip resolve{};
  resolve.id = id;
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_RESOLVE_IP, resolve), -EINVAL);
  Put(AddressOf(Ipv4(2), kPort), resolve.dst_addr);
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_RESOLVE_IP, resolve), 0);
  Expect(active, UcmaEventType::kAddrResolved);
}

TEST_F(UcmaTest, ReusedPortCanBeListenedToByOne) {
  const uint32_t a = active.Create(1);
  const uint32_t b = active.Create(2);
  for (const uint32_t id : {a, b}) {
    EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_REUSEADDR, int{1}), 0);
    EXPECT_EQ(active.Bind(id, AddressOf(kAny4, kPort)), 0);
  }
  EXPECT_EQ(active.Listen(a), -EADDRNOTAVAIL);
  EXPECT_EQ(active.Destroy(b), 0);
  EXPECT_EQ(active.Listen(a), 0);
  EXPECT_EQ(active.Listen(a), -EINVAL);
}

TEST_F(UcmaTest, ListeningBindsByItself) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.Listen(id), 0);
  ASSERT_EQ(client.ports(), 1u);
  EXPECT_TRUE(client.claims().begin()->second) << "announced";
}

TEST_F(UcmaTest, BothFamiliesUnlessToldOtherwise) {
  const uint32_t six = active.Create(1);
  EXPECT_EQ(active.SetOption(six, RDMA_OPTION_ID_AFONLY, int{1}), 0);
  EXPECT_EQ(active.Bind(six, AddressOf(Gid{}, kPort)), 0);
  const uint32_t four = active.Create(2);
  EXPECT_EQ(active.Bind(four, AddressOf(kAny4, kPort)), 0);
  const uint32_t both = active.Create(3);
  EXPECT_EQ(active.Bind(both, AddressOf(Gid{}, kPort)), -EADDRNOTAVAIL);
}

// Resolving.

TEST_F(UcmaTest, ResolvedAddressHasItsSource) {
  const uint32_t id = active.Create(kClientUid);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  const auto event = Expect(active, UcmaEventType::kAddrResolved);
  EXPECT_EQ(event.uid, kClientUid);
  EXPECT_EQ(event.id, id);
  EXPECT_EQ(event.status, 0u);
  ASSERT_EQ(client.ports(), 1u);
  EXPECT_FALSE(client.claims().begin()->second) << "announced";

  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(answer.node_guid, 0x1001u);
  EXPECT_EQ(Read(answer.dst_addr), AddressOf(Ipv4(2), kPort));
  const auto source = Read(answer.src_addr);
  ASSERT_TRUE(source);
  EXPECT_EQ(source->endpoint.ip, Ipv4(1));
  EXPECT_NE(source->endpoint.port, 0);
}

TEST_F(UcmaTest, GidsAreTheAddresses) {
  const uint32_t id = active.Create(1);
  ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv6(2), kPort)), 0);
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_GID, answer), 0);
  EXPECT_EQ(answer.src_size, 48);
  EXPECT_EQ(answer.dst_size, 48);
  const auto destination = Read(answer.dst_addr);
  ASSERT_TRUE(destination);
  EXPECT_EQ(destination->family, kIbFamily);
  EXPECT_EQ(destination->endpoint.ip, Ipv6(2));
  EXPECT_EQ(destination->pkey, 0xffff);
  EXPECT_EQ(destination->service_id, uint64_t{RDMA_PS_TCP} << 16 | kPort);
  const auto source = Read(answer.src_addr);
  ASSERT_TRUE(source);
  EXPECT_EQ(source->endpoint.ip, Ipv6(1));
}

TEST_F(UcmaTest, NoWayIsAnErrorAtOnce) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(99), kPort)), -ENETUNREACH);
  ExpectQuiet(active);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
}

TEST_F(UcmaTest, WayOverAnotherInterfaceIsAnEvent) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(98), kPort)), 0);
  EXPECT_EQ(Expect(active, UcmaEventType::kAddrError).status, Status(-ENODEV));
  EXPECT_EQ(active.ResolveRoute(id), -EINVAL);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
}

TEST_F(UcmaTest, BoundSourceIsKept) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(
      active.ResolveAddr(id, AddressOf(Ipv4(2), kPort), AddressOf(Ipv4(77), 0)),
      -EADDRNOTAVAIL);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort),
                               AddressOf(Ipv4(1), 4000)),
            0);
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(Read(answer.src_addr), AddressOf(Ipv4(1), 4000));
}

TEST_F(UcmaTest, ResolvingInWrongStates) {
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.ResolveRoute(id), -EINVAL);
  EXPECT_EQ(active.Connect(id, Program::Param(1)), -EINVAL);
  EXPECT_EQ(active.Bind(id, AddressOf(kAny4, 0)), 0);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv6(2), kPort)), -EINVAL);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  EXPECT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), -EINVAL);
  EXPECT_EQ(active.Listen(id), -EINVAL);
  EXPECT_EQ(active.ResolveRoute(id, 0), -EINVAL);
  EXPECT_EQ(active.ResolveRoute(id), 0);
  EXPECT_EQ(active.ResolveRoute(id), -EINVAL);
  EXPECT_EQ(active.ResolveAddr(active.Create(2), {.family = kIbFamily}),
            -EAFNOSUPPORT);
}

TEST_F(UcmaTest, PathRecord) {
  struct Answer {
    uint32_t num_paths = 0;
    uint32_t reserved = 0;
    std::array<ib_path_rec_data, 6> paths{};
  };
  connecting = active.Create(1);
  ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort),
                               AddressOf(Ipv4(1), 4000)),
            0);
  EXPECT_EQ(active.SetOption(connecting, RDMA_OPTION_ID_TOS, uint8_t{0x68}), 0);
  Answer before;
  EXPECT_EQ(active.Query(connecting, RDMA_USER_CM_QUERY_PATH, before), 0);
  EXPECT_EQ(before.num_paths, 0u);
  ASSERT_EQ(active.ResolveRoute(connecting), 0);
  Answer after;
  EXPECT_EQ(active.Query(connecting, RDMA_USER_CM_QUERY_PATH, after), 0);
  EXPECT_EQ(after.num_paths, 1u);
  EXPECT_EQ(after.paths[0].flags, 0x2bu);
  std::array<uint8_t, 64> record;
  std::memcpy(record.data(), after.paths[0].path_rec, record.size());
  const uint32_t label = 4000 * 31 + kPort;
  std::array<uint8_t, 64> expected{};
  std::ranges::copy(Ipv4(2), expected.begin() + 8);
  std::ranges::copy(Ipv4(1), expected.begin() + 24);
  expected[44] = static_cast<uint8_t>(label >> 16);
  expected[45] = static_cast<uint8_t>(label >> 8);
  expected[46] = static_cast<uint8_t>(label);
  expected[47] = 64;    // hop limit
  expected[48] = 0x68;  // traffic class
  expected[49] = 0x80;  // reversible
  expected[50] = 0xff;  // P_Key
  expected[51] = 0xff;
  expected[54] = 0x80 | 4;   // MTU
  expected[55] = 0x80;       // rate
  expected[56] = 0x80 | 18;  // packet life time
  EXPECT_EQ(record, expected);
}

TEST_F(UcmaTest, OldRouteQuery) {
  connecting = active.Create(1);
  ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort)), 0);
  rdma_ucm_query_route_resp answer{};
  EXPECT_EQ(active.QueryRoute(connecting, answer), 0);
  EXPECT_EQ(answer.num_paths, 0u);
  EXPECT_EQ(std::memcmp(answer.ib_route[0].dgid, Ipv4(2).data(), 16), 0);
  EXPECT_EQ(std::memcmp(answer.ib_route[0].sgid, Ipv4(1).data(), 16), 0);
  ASSERT_EQ(active.ResolveRoute(connecting), 0);
  EXPECT_EQ(active.QueryRoute(connecting, answer), 0);
  EXPECT_EQ(answer.num_paths, 1u);
  EXPECT_EQ(answer.node_guid, 0x1001u);
  EXPECT_EQ(answer.port_num, 1);
  EXPECT_EQ(answer.ibdev_index, 7u);
  const ib_user_path_rec& path = answer.ib_route[0];
  EXPECT_EQ(std::memcmp(path.dgid, Ipv4(2).data(), 16), 0);
  EXPECT_EQ(std::memcmp(path.sgid, Ipv4(1).data(), 16), 0);
  EXPECT_EQ(path.mtu, 4u);
  EXPECT_EQ(path.pkey, 0xffff);
  EXPECT_EQ(path.hop_limit, 64);
  EXPECT_EQ(path.reversible, 1u);
  EXPECT_EQ(path.packet_life_time, 18);
  EXPECT_EQ(path.mtu_selector, 2);
}

TEST_F(UcmaTest, APortBoundByLoopbackIsTakenAtAllAddresses) {
  Program here(client);
  constexpr Gid kLoopback6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  ASSERT_EQ(here.Bind(here.Create(kListenerUid), AddressOf(kLoopback6, kPort)),
            0);
  const uint32_t other = here.Create(kListenerUid + 1);
  EXPECT_EQ(here.Bind(other, AddressOf(Ipv4(1), kPort)), -EADDRNOTAVAIL);
  EXPECT_EQ(here.Bind(other, AddressOf(Ipv4(1), kPort + 1)), 0);
}

TEST_F(UcmaTest, LoopbackLeadsToTheHostItself) {
  Program here(client);
  const uint32_t id = here.Create(kListenerUid);
  ASSERT_EQ(here.Bind(id, AddressOf(kLoopback4, kPort)), 0);
  ASSERT_EQ(here.Listen(id), 0);
  for (const Gid& destination : {kLoopback4, kAny4, Ipv4(1)}) {
    const uint32_t requester = active.Create(kClientUid);
    ASSERT_EQ(active.ResolveAddr(requester, AddressOf(destination, kPort)), 0);
    ASSERT_EQ(active.ResolveRoute(requester), 0);
    ASSERT_EQ(active.Connect(requester, Program::Param(kClientQp)), 0);
    Settle();
    const uint32_t request = Expect(here, UcmaEventType::kConnectRequest).id;
    EXPECT_EQ(here.Destroy(request), 0);
    Settle();
    EXPECT_EQ(active.Destroy(requester), 0);
  }
}

// Options.

TEST_F(UcmaTest, OptionsAreChecked) {
  const uint32_t id = active.Create(1, RDMA_PS_UDP);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_TOS, int{1}), -EINVAL);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_REUSEADDR, uint8_t{1}),
            -EINVAL);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_ACK_TIMEOUT, uint8_t{1}),
            -EINVAL);
  EXPECT_EQ(active.SetOption(id, 9, int{1}), -ENOSYS);
  EXPECT_EQ(active.SetOption(id, 0, int{1}, 5), -ENOSYS);
  rdma_ucm_set_option null{};
  null.id = id;
  null.optlen = 1;
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_SET_OPTION, null), -EFAULT);
  null.optlen = 0;
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_SET_OPTION, null), -EINVAL);
  ASSERT_EQ(active.Listen(id), 0);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_REUSEADDR, int{1}), -EINVAL);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_ID_AFONLY, int{1}), -EINVAL);
}

TEST_F(UcmaTest, GivenPathResolvesTheRoute) {
  const uint32_t id = active.Create(1);
  ib_path_rec_data path{};
  path.flags = IB_PATH_GMP | IB_PATH_PRIMARY | IB_PATH_BIDIRECTIONAL;
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_IB_PATH, path, RDMA_OPTION_IB),
            -EINVAL);
  ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  Expect(active, UcmaEventType::kAddrResolved);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_IB_PATH, ib_path_rec_data{},
                             RDMA_OPTION_IB),
            -EINVAL);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_IB_PATH, int{0}, RDMA_OPTION_IB),
            -EINVAL);
  EXPECT_EQ(active.SetOption(id, RDMA_OPTION_IB_PATH, path, RDMA_OPTION_IB), 0);
  Expect(active, UcmaEventType::kRouteResolved);
  EXPECT_EQ(active.Connect(id, Program::Param(1)), 0);
}

// Connecting.

TEST_F(UcmaTest, RequestAsTheListenerSeesIt) {
  Connect();
  const auto event = Expect(passive, UcmaEventType::kConnectRequest);
  EXPECT_EQ(event.uid, kListenerUid);
  EXPECT_NE(event.id, listener);
  EXPECT_EQ(event.status, 0u);
  const rdma_ucm_conn_param& param = event.param.conn;
  EXPECT_EQ(param.qp_num, kClientQp);
  EXPECT_EQ(param.responder_resources, 3);
  EXPECT_EQ(param.initiator_depth, 4);
  EXPECT_EQ(param.retry_count, 6);
  EXPECT_EQ(param.rnr_retry_count, 5);
  EXPECT_EQ(param.private_data_len, 56);
  EXPECT_EQ(param.private_data[0], 'x');
  EXPECT_EQ(event.ece.vendor_id, 0u);

  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(passive.Query(event.id, RDMA_USER_CM_QUERY_ADDR, answer), 0);
  EXPECT_EQ(answer.node_guid, 0x1002u);
  EXPECT_EQ(Read(answer.src_addr), AddressOf(Ipv4(2), kPort));
  const auto peer = Read(answer.dst_addr);
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->endpoint.ip, Ipv4(1));
  EXPECT_NE(peer->endpoint.port, 0);
  rdma_ucm_query_route_resp route{};
  EXPECT_EQ(passive.QueryRoute(event.id, route), 0);
  EXPECT_EQ(route.num_paths, 1u);
  EXPECT_EQ(std::memcmp(route.ib_route[0].dgid, Ipv4(1).data(), 16), 0);
  EXPECT_EQ(std::memcmp(route.ib_route[0].sgid, Ipv4(2).data(), 16), 0);
  EXPECT_EQ(route.ib_route[0].mtu, 4u);
}

TEST_F(UcmaTest, ConnectAndDisconnect) {
  Accept();
  const auto response = Expect(active, UcmaEventType::kConnectResponse);
  EXPECT_EQ(response.uid, kClientUid);
  EXPECT_EQ(response.id, connecting);
  EXPECT_EQ(response.param.conn.qp_num, kServerQp);
  EXPECT_EQ(response.param.conn.responder_resources, 3);
  EXPECT_EQ(response.param.conn.initiator_depth, 3);
  EXPECT_EQ(response.param.conn.private_data_len, 196);
  EXPECT_EQ(response.param.conn.private_data[0], 'x');
  EXPECT_EQ(response.param.conn.retry_count, 0);
  EXPECT_EQ(response.param.conn.rnr_retry_count, 5);
  ExpectQuiet(passive);

  EXPECT_EQ(active.Establish(connecting), 0);
  Settle();
  const auto established = Expect(passive, UcmaEventType::kEstablished);
  EXPECT_EQ(established.uid, kChildUid);
  EXPECT_EQ(established.id, child);
  EXPECT_EQ(established.param.conn.private_data_len, 0);
  ExpectQuiet(active);

  EXPECT_EQ(active.Disconnect(connecting), 0);
  Settle();
  EXPECT_EQ(Expect(passive, UcmaEventType::kDisconnected).uid, kChildUid);
  ExpectQuiet(active);
  EXPECT_EQ(passive.Disconnect(child), 0);
  EXPECT_EQ(passive.Disconnect(child), 0);
  Settle();
  EXPECT_EQ(Expect(active, UcmaEventType::kDisconnected).status, 0u);
  while (Tick()) {
  }
  EXPECT_EQ(Expect(active, UcmaEventType::kTimewaitExit).uid, kClientUid);
  Expect(passive, UcmaEventType::kTimewaitExit);
  EXPECT_EQ(active.Destroy(connecting), 5);
  EXPECT_EQ(passive.Destroy(child), 3);
  EXPECT_EQ(passive.Destroy(listener), 1);
  EXPECT_EQ(client.manager().size() + server.manager().size(), 0u);
  EXPECT_EQ(client.ports() + server.ports(), 0u);
}

TEST_F(UcmaTest, EventsWithinACommand) {
  // All that is said is heard before Deliver returns.
  client.at_once = server.at_once = [this] { Settle(); };
  Accept();
  Expect(active, UcmaEventType::kConnectResponse);
  EXPECT_EQ(active.Establish(connecting), 0);
  Expect(passive, UcmaEventType::kEstablished);
  EXPECT_EQ(active.Destroy(connecting), 3);
  Expect(passive, UcmaEventType::kDisconnected);
  EXPECT_EQ(passive.Destroy(child), 2);
  passive.Close();
  active.Close();
  EXPECT_EQ(client.ucma.size() + server.ucma.size(), 0u);
}

TEST_F(UcmaTest, DeviceRemovalIsToldToWhoeverUsesTheDevice) {
  Establish();
  client.ucma.OnDeviceRemoval();
  server.ucma.OnDeviceRemoval();
  EXPECT_EQ(Expect(active, UcmaEventType::kDeviceRemoval).uid, kClientUid);
  // Not the listener, whose address is a wildcard.
  EXPECT_EQ(Expect(passive, UcmaEventType::kDeviceRemoval).uid, kChildUid);
  ExpectQuiet(passive);
}

TEST_F(UcmaTest, RequestThatWasNotAcceptedHearsNothingOfRemoval) {
  FetchRequest();
  server.ucma.OnDeviceRemoval();
  ExpectQuiet(passive);
}

TEST_F(UcmaTest, QpOfBothEnds) {
  FetchRequest();
  ib_uverbs_qp_attr init{}, rtr{}, rts{};
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_INIT, init), 0);
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTR, rtr), 0);
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTS, rts), 0);
  EXPECT_EQ(init.qp_attr_mask, uint32_t{IBV_QP_STATE | IBV_QP_ACCESS_FLAGS |
                                        IBV_QP_PKEY_INDEX | IBV_QP_PORT});
  EXPECT_EQ(init.qp_state, uint32_t{IBV_QPS_INIT});
  EXPECT_EQ(init.port_num, 1);
  EXPECT_EQ(init.qp_access_flags,
            uint32_t{IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                     IBV_ACCESS_REMOTE_ATOMIC});
  EXPECT_EQ(rtr.qp_attr_mask,
            uint32_t{IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                     IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER});
  EXPECT_EQ(rtr.dest_qp_num, kClientQp);
  EXPECT_EQ(rtr.path_mtu, 4u);
  EXPECT_EQ(rtr.max_dest_rd_atomic, 3);
  EXPECT_EQ(std::memcmp(rtr.ah_attr.grh.dgid, Ipv4(1).data(), 16), 0);
  EXPECT_EQ(rtr.ah_attr.grh.sgid_index, 1);
  EXPECT_EQ(rtr.ah_attr.grh.hop_limit, 64);
  EXPECT_EQ(rtr.ah_attr.is_global, 1);
  EXPECT_EQ(rtr.ah_attr.port_num, 1);
  EXPECT_EQ(
      rts.qp_attr_mask,
      uint32_t{IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT |
               IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC});
  EXPECT_EQ(rts.max_rd_atomic, 4);
  EXPECT_EQ(rts.retry_cnt, 6);
  EXPECT_EQ(rts.rnr_retry, 5);

  ib_uverbs_qp_attr early{};
  EXPECT_EQ(active.InitQp(connecting, IBV_QPS_RTR, early), -EINVAL);
  ASSERT_EQ(passive.Accept(child, kChildUid, Program::Param(kServerQp)), 0);
  Settle();
  ib_uverbs_qp_attr peer_rtr{}, peer_rts{};
  ASSERT_EQ(active.InitQp(connecting, IBV_QPS_RTR, peer_rtr), 0);
  ASSERT_EQ(active.InitQp(connecting, IBV_QPS_RTS, peer_rts), 0);
  EXPECT_EQ(peer_rtr.rq_psn, rts.sq_psn);
  EXPECT_EQ(peer_rts.sq_psn, rtr.rq_psn);
  EXPECT_EQ(peer_rtr.dest_qp_num, kServerQp);
  EXPECT_EQ(peer_rtr.ah_attr.grh.flow_label, rtr.ah_attr.grh.flow_label);
  EXPECT_EQ(active.InitQp(connecting, IBV_QPS_SQD, early), -EINVAL);
}

TEST_F(UcmaTest, QpBeforeTheConnection) {
  ib_uverbs_qp_attr attr{};
  const uint32_t id = active.Create(1);
  EXPECT_EQ(active.InitQp(id, IBV_QPS_INIT, attr), -EINVAL);
  ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  EXPECT_EQ(active.InitQp(id, IBV_QPS_INIT, attr), 0);
  EXPECT_EQ(attr.qp_attr_mask, uint32_t{IBV_QP_STATE | IBV_QP_ACCESS_FLAGS |
                                        IBV_QP_PKEY_INDEX | IBV_QP_PORT});
  EXPECT_EQ(attr.qp_access_flags, 0u);
  EXPECT_EQ(attr.port_num, 1);
  EXPECT_EQ(active.InitQp(id, IBV_QPS_ERR + 1, attr), -EINVAL);
}

TEST_F(UcmaTest, NoQpOnAnAddressThatHasGone) {
  FetchRequest();
  server.gids_gone = true;
  ib_uverbs_qp_attr attr{};
  EXPECT_EQ(passive.InitQp(child, IBV_QPS_RTR, attr), -EINVAL);
}

TEST_F(UcmaTest, AckTimeoutShowsAtRts) {
  FetchRequest();
  EXPECT_EQ(passive.SetOption(child, RDMA_OPTION_ID_ACK_TIMEOUT, uint8_t{9}),
            0);
  EXPECT_EQ(passive.SetOption(child, RDMA_OPTION_ID_ACK_TIMEOUT, uint8_t{32}),
            -EINVAL);
  ib_uverbs_qp_attr rts{};
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTS, rts), 0);
  EXPECT_EQ(rts.timeout, 9);
}

TEST_F(UcmaTest, UcConnects) {
  uint32_t id = 0;
  ASSERT_EQ(passive.Create(id, kListenerUid, RDMA_PS_IB, UcmaQpType::kUc), 0);
  ASSERT_EQ(passive.Bind(id, AddressOf(kAny4, kPort)), 0);
  ASSERT_EQ(passive.Listen(id), 0);
  ASSERT_EQ(active.Create(connecting, 1, RDMA_PS_IB, UcmaQpType::kUc), 0);
  ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort)), 0);
  ASSERT_EQ(active.ResolveRoute(connecting), 0);
  ASSERT_EQ(active.Connect(connecting, Program::Param(kClientQp)), 0);
  Settle();
  child = Expect(passive, UcmaEventType::kConnectRequest).id;
  ib_uverbs_qp_attr attr{};
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTS, attr), 0);
  EXPECT_EQ(attr.qp_attr_mask, uint32_t{IBV_QP_STATE | IBV_QP_SQ_PSN});
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTR, attr), 0);
  EXPECT_EQ(attr.qp_attr_mask,
            uint32_t{IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN});
}

TEST_F(UcmaTest, TooMuchPrivateData) {
  Listen();
  ResolveRoute();
  EXPECT_EQ(active.Connect(connecting, Program::Param(1, 57)), -EINVAL);
  EXPECT_EQ(active.Connect(connecting, {}), -EINVAL) << "not valid";
  EXPECT_EQ(active.Connect(connecting, Program::Param(1, 56)), 0);
  Settle();
  child = Expect(passive, UcmaEventType::kConnectRequest).id;
  EXPECT_EQ(passive.Reject(child, 0, 149), -EINVAL);
  EXPECT_EQ(passive.Accept(child, 1, Program::Param(2, 197)), -EINVAL);
  Settle();
  // Who cannot accept refuses.
  EXPECT_EQ(Expect(active, UcmaEventType::kRejected).status, 28u);
}

TEST_F(UcmaTest, NobodyListens) {
  ResolveRoute();
  ASSERT_EQ(active.Connect(connecting, Program::Param(1)), 0);
  Settle();
  const auto event = Expect(active, UcmaEventType::kRejected);
  EXPECT_EQ(event.status, 8u);
  EXPECT_EQ(event.uid, kClientUid);
}

TEST_F(UcmaTest, Rejected) {
  FetchRequest();
  EXPECT_EQ(passive.Reject(child, 7), -EINVAL);
  EXPECT_EQ(passive.Reject(child, 28), 0);
  EXPECT_EQ(passive.Reject(child), -EINVAL);
  Settle();
  const auto event = Expect(active, UcmaEventType::kRejected);
  EXPECT_EQ(event.status, 28u);
  EXPECT_EQ(event.param.conn.private_data_len, 148);
  EXPECT_EQ(event.param.conn.private_data[0], 'n');
  EXPECT_EQ(passive.Accept(child, 1, Program::Param(1)), -EINVAL);
}

TEST_F(UcmaTest, RequesterRejectsTheResponse) {
  Accept();
  Expect(active, UcmaEventType::kConnectResponse);
  EXPECT_EQ(active.Reject(connecting), 0);
  Settle();
  EXPECT_EQ(Expect(passive, UcmaEventType::kRejected).uid, kChildUid);
}

TEST_F(UcmaTest, SilentPeerIsUnreachable) {
  Listen();
  ResolveRoute();
  wire.silent = true;
  ASSERT_EQ(active.Connect(connecting, Program::Param(1)), 0);
  while (Tick()) {
  }
  EXPECT_EQ(Expect(active, UcmaEventType::kUnreachable).status,
            Status(-ETIMEDOUT));
}

TEST_F(UcmaTest, SilentRequesterIsUnreachable) {
  FetchRequest();
  wire.silent = true;
  ASSERT_EQ(passive.Accept(child, kChildUid, Program::Param(1)), 0);
  while (Tick()) {
  }
  EXPECT_EQ(Expect(passive, UcmaEventType::kUnreachable).status,
            Status(-ETIMEDOUT));
}

TEST_F(UcmaTest, SilentDisconnect) {
  Establish();
  wire.silent = true;
  ASSERT_EQ(active.Disconnect(connecting), 0);
  while (Tick()) {
  }
  EXPECT_EQ(Expect(active, UcmaEventType::kDisconnected).status,
            Status(-ETIMEDOUT));
  Expect(active, UcmaEventType::kTimewaitExit);
}

TEST_F(UcmaTest, FirstPacketCountsAsEstablished) {
  FetchRequest();
  ASSERT_EQ(passive.Accept(child, kChildUid, Program::Param(1)), 0);
  EXPECT_EQ(passive.Do(RDMA_USER_CM_CMD_NOTIFY,
                       rdma_ucm_notify{.id = child, .event = 1}),
            -EINVAL);
  EXPECT_EQ(
      passive.Do(RDMA_USER_CM_CMD_NOTIFY,
                 rdma_ucm_notify{.id = child, .event = IBV_EVENT_COMM_EST}),
      0);
  Expect(passive, UcmaEventType::kEstablished);
}

TEST_F(UcmaTest, CommandsOfOtherStates) {
  Listen();
  ResolveRoute();
  for (const uint32_t id : {connecting}) {
    EXPECT_EQ(active.Accept(id, 1, Program::Param(1)), -EINVAL);
    EXPECT_EQ(active.Establish(id), -EINVAL);
    EXPECT_EQ(active.Reject(id), -EINVAL);
    EXPECT_EQ(active.Disconnect(id), -EINVAL);
  }
  EXPECT_EQ(passive.Accept(listener, 1, Program::Param(1)), -EINVAL);
  EXPECT_EQ(passive.Connect(listener, Program::Param(1)), -EINVAL);
  EXPECT_EQ(passive.Disconnect(listener), -EINVAL);
}

// Datagrams.

TEST_F(UcmaTest, LookUp) {
  Connect(RDMA_PS_UDP);
  const auto request = Expect(passive, UcmaEventType::kConnectRequest);
  child = request.id;
  EXPECT_EQ(request.uid, kListenerUid);
  EXPECT_EQ(request.param.ud.private_data_len, 180);
  EXPECT_EQ(request.param.ud.private_data[0], 'x');
  EXPECT_EQ(request.param.ud.qp_num, 0u);
  rdma_ucm_query_addr_resp address{};
  EXPECT_EQ(passive.Query(child, RDMA_USER_CM_QUERY_ADDR, address), 0);
  EXPECT_EQ(address.node_guid, 0x1002u);
  ib_uverbs_qp_attr attr{};
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_INIT, attr), 0);
  EXPECT_EQ(attr.qp_attr_mask, uint32_t{IBV_QP_STATE | IBV_QP_QKEY |
                                        IBV_QP_PKEY_INDEX | IBV_QP_PORT});
  EXPECT_EQ(attr.qkey, 0x01234567u);
  ASSERT_EQ(passive.InitQp(child, IBV_QPS_RTS, attr), 0);
  EXPECT_EQ(attr.qp_attr_mask,
            uint32_t{IBV_QP_STATE | IBV_QP_QKEY | IBV_QP_SQ_PSN});

  EXPECT_EQ(passive.Accept(child, kChildUid, Program::Param(kServerQp)), 0);
  Settle();
  const auto found = Expect(active, UcmaEventType::kEstablished);
  EXPECT_EQ(found.uid, kClientUid);
  EXPECT_EQ(found.status, 0u);
  const rdma_ucm_ud_param& param = found.param.ud;
  EXPECT_EQ(param.qp_num, kServerQp);
  EXPECT_EQ(param.qkey, 0x01234567u);
  EXPECT_EQ(param.private_data_len, 136);
  EXPECT_EQ(std::memcmp(param.ah_attr.grh.dgid, Ipv4(2).data(), 16), 0);
  EXPECT_EQ(param.ah_attr.grh.sgid_index, 1);
  EXPECT_EQ(param.ah_attr.grh.hop_limit, 64);
  EXPECT_EQ(param.ah_attr.is_global, 1);
  EXPECT_EQ(param.ah_attr.port_num, 1);
  ExpectQuiet(passive);
  EXPECT_EQ(active.Disconnect(connecting), 0);
}

TEST_F(UcmaTest, RefusedLookUp) {
  FetchRequest(RDMA_PS_UDP);
  EXPECT_EQ(passive.Reject(child), 0);
  Settle();
  const auto event = Expect(active, UcmaEventType::kUnreachable);
  EXPECT_EQ(event.status, 2u);
  EXPECT_EQ(event.param.ud.private_data[0], 'n');
}

TEST_F(UcmaTest, SilentLookUp) {
  ResolveRoute(RDMA_PS_UDP);
  wire.silent = true;
  ASSERT_EQ(active.Connect(connecting, Program::Param(1)), 0);
  while (Tick()) {
  }
  EXPECT_EQ(Expect(active, UcmaEventType::kUnreachable).status,
            Status(-ETIMEDOUT));
}

TEST_F(UcmaTest, LookUpInTheIbPortSpace) {
  ASSERT_EQ(passive.Create(listener, 1, RDMA_PS_IB, UcmaQpType::kUd), 0);
  ASSERT_EQ(passive.Bind(listener, AddressOf(kAny4, kPort)), 0);
  ASSERT_EQ(passive.Listen(listener), 0);
  ASSERT_EQ(active.Create(connecting, 1, RDMA_PS_IB, UcmaQpType::kUd), 0);
  ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort)), 0);
  ASSERT_EQ(active.ResolveRoute(connecting), 0);
  ASSERT_EQ(active.Connect(connecting, Program::Param(1)), 0);
  Settle();
  Expect(passive, UcmaEventType::kConnectRequest);
}

// The ends of ids and files.

// Multicast.

constexpr uint64_t kJoinUid = 0x701;
const Gid kGroup4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 2, 3};
const Gid kGroup6 = {0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3};

TEST_F(UcmaTest, JoinTellsWhereToSend) {
  for (const bool ipv4 : {true, false}) {
    const Gid group = ipv4 ? kGroup4 : kGroup6;
    const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
    ASSERT_EQ(active.SetOption(id, RDMA_OPTION_ID_TOS, uint8_t{0x20}), 0);
    ASSERT_EQ(active.ResolveAddr(id, AddressOf(group, 0)), 0);
    Expect(active, UcmaEventType::kAddrResolved);
    const int64_t join = active.JoinMcast(id, kJoinUid, AddressOf(group, 0));
    ASSERT_GT(join, 0);
    const auto event = Expect(active, UcmaEventType::kMulticastJoin);
    EXPECT_EQ(event.id, join);
    EXPECT_EQ(event.uid, kJoinUid);
    EXPECT_EQ(event.status, 0u);
    const rdma_ucm_ud_param& param = event.param.ud;
    EXPECT_EQ(param.qp_num, 0xffffffu);
    EXPECT_EQ(param.qkey, 0x01234567u);
    EXPECT_EQ(param.private_data_len, 0);
    EXPECT_EQ(param.ah_attr.is_global, 1);
    EXPECT_EQ(param.ah_attr.port_num, 1);
    EXPECT_TRUE(std::ranges::equal(param.ah_attr.grh.dgid, group));
    EXPECT_EQ(param.ah_attr.grh.sgid_index, ipv4 ? 1 : 0);
    EXPECT_EQ(param.ah_attr.grh.hop_limit, 64);
    EXPECT_EQ(param.ah_attr.grh.traffic_class, 0x20);
    EXPECT_EQ(active.Destroy(id), 2);
  }
}

TEST_F(UcmaTest, BoundIdJoinsWithoutARoute) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  const UcmaSockaddr group = AddressOf(kGroup4, 0);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, group), -EINVAL);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), 0)), 0);
  EXPECT_GT(active.JoinMcast(id, kJoinUid, group), 0);
  EXPECT_GT(active.JoinMcast(id, kJoinUid, group,
                             RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER),
            0);
  UcmaSockaddr ib = group;
  ib.family = kIbFamily;
  EXPECT_GT(active.JoinMcast(id, kJoinUid, ib), 0);
  for (int i = 0; i < 3; ++i) Expect(active, UcmaEventType::kMulticastJoin);
}

TEST_F(UcmaTest, BoundSourceReachesAGroupWithoutARoute) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  client.no_route = true;
  const UcmaSockaddr group = AddressOf(kGroup4, 0);
  EXPECT_EQ(active.ResolveAddr(id, group), -ENETUNREACH);
  EXPECT_EQ(active.Destroy(id), 0);
  const uint32_t bound = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(bound, AddressOf(Ipv4(1), 0)), 0);
  EXPECT_EQ(active.ResolveAddr(bound, group), 0);
  Expect(active, UcmaEventType::kAddrResolved);
}

TEST_F(UcmaTest, OldJoin) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv6(1), 0)), 0);
  rdma_ucm_join_ip_mcast body{};
  body.uid = kJoinUid;
  body.id = id;
  Put(AddressOf(kGroup6, 0), body.addr);
  rdma_ucm_create_id_resp answer{};
  ASSERT_EQ(active.Do(RDMA_USER_CM_CMD_JOIN_IP_MCAST, body, answer), 0);
  EXPECT_EQ(Expect(active, UcmaEventType::kMulticastJoin).id, answer.id);
  body.addr.sin6_family = 0;
  EXPECT_EQ(active.Do(RDMA_USER_CM_CMD_JOIN_IP_MCAST, body, answer), -EINVAL);
}

TEST_F(UcmaTest, JoinsThatCannotBe) {
  const UcmaSockaddr group = AddressOf(kGroup4, 0);
  const uint32_t connected = active.Create(kClientUid, RDMA_PS_TCP);
  ASSERT_EQ(active.Bind(connected, AddressOf(Ipv4(1), 0)), 0);
  EXPECT_EQ(active.JoinMcast(connected, kJoinUid, group), -EINVAL);
  const uint32_t everywhere = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(everywhere, AddressOf(kAny4, 0)), 0);
  EXPECT_EQ(active.JoinMcast(everywhere, kJoinUid, group), -EINVAL);
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), 0)), 0);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, AddressOf(Ipv4(2), 0)), -EINVAL);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, AddressOf(kAny4, 0)), -EINVAL);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, {}), -EINVAL);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, group, RDMA_MC_JOIN_FLAG_RESERVED),
            -EINVAL);
  ASSERT_EQ(active.ResolveAddr(id, group), 0);
  ASSERT_EQ(active.ResolveRoute(id), 0);
  EXPECT_EQ(active.JoinMcast(id, kJoinUid, group), -EINVAL);
}

TEST_F(UcmaTest, JoinThatFailsIsAnEvent) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), 0)), 0);
  const int64_t join = active.JoinMcast(id, kJoinUid, AddressOf(kGroup6, 0));
  const auto other_family = Expect(active, UcmaEventType::kMulticastError);
  EXPECT_EQ(other_family.id, join);
  EXPECT_EQ(other_family.uid, kJoinUid);
  EXPECT_EQ(other_family.status, Status(-EINVAL));
  client.gids_gone = true;
  EXPECT_GT(active.JoinMcast(id, kJoinUid, AddressOf(kGroup4, 0)), join);
  EXPECT_EQ(Expect(active, UcmaEventType::kMulticastError).status,
            Status(-ENODEV));
}

TEST_F(UcmaTest, LeavingTakesTheJoinsEventsAlong) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), 0)), 0);
  const UcmaSockaddr group = AddressOf(kGroup4, 0);
  const auto join = [&] {
    return static_cast<uint32_t>(active.JoinMcast(id, kJoinUid, group));
  };
  const uint32_t reported = join();
  Expect(active, UcmaEventType::kMulticastJoin);
  const uint32_t waiting = join();
  const uint32_t kept = join();
  EXPECT_EQ(active.LeaveMcast(reported), 1);
  EXPECT_EQ(active.LeaveMcast(reported), -ENOENT);
  EXPECT_EQ(active.LeaveMcast(waiting), 0);
  Program other(client);
  EXPECT_EQ(other.LeaveMcast(kept), -EINVAL);
  EXPECT_EQ(Expect(active, UcmaEventType::kMulticastJoin).id, kept);
  ExpectQuiet(active);
  // Both count the events: those of a join are the id's as well.
  EXPECT_EQ(active.Destroy(id), 2);
  EXPECT_EQ(active.LeaveMcast(kept), -ENOENT);
}

TEST_F(UcmaTest, JoinsMoveWithTheirId) {
  const uint32_t id = active.Create(kClientUid, RDMA_PS_UDP);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), 0)), 0);
  const auto join = static_cast<uint32_t>(
      active.JoinMcast(id, kJoinUid, AddressOf(kGroup4, 0)));
  Program other(client);
  ASSERT_EQ(other.Migrate(id), 0);
  EXPECT_EQ(active.LeaveMcast(join), -EINVAL);
  Expect(other, UcmaEventType::kMulticastJoin);
  EXPECT_EQ(other.LeaveMcast(join), 1);
}

TEST_F(UcmaTest, DestroyedIdDropsItsEvents) {
  const uint32_t other = active.Create(2);
  const uint32_t id = active.Create(1);
  ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  ASSERT_EQ(active.ResolveAddr(other, AddressOf(Ipv4(2), kPort)), 0);
  ASSERT_EQ(active.ResolveRoute(id), 0);
  EXPECT_EQ(active.waiting(), 3);
  EXPECT_EQ(active.Destroy(id), 0);
  EXPECT_EQ(active.waiting(), 1);
  EXPECT_EQ(Expect(active, UcmaEventType::kAddrResolved).id, other);
}

TEST_F(UcmaTest, RequestsNotFetchedGoWithTheListener) {
  Connect();
  EXPECT_EQ(server.ucma.size(), 2u);
  EXPECT_EQ(passive.Destroy(listener), 0);
  EXPECT_EQ(server.ucma.size(), 0u);
  EXPECT_EQ(passive.waiting(), 0);
  Settle();
  EXPECT_EQ(Expect(active, UcmaEventType::kRejected).status, 28u);
}

TEST_F(UcmaTest, RequestNotFetchedCannotBeNamed) {
  Connect();
  EXPECT_EQ(passive.Destroy(listener + 1), -ENOENT);
}

TEST_F(UcmaTest, FetchedRequestsOutliveTheListener) {
  FetchRequest();
  EXPECT_EQ(passive.Destroy(listener), 1);
  EXPECT_EQ(passive.Accept(child, kChildUid, Program::Param(kServerQp)), 0);
  Settle();
  Expect(active, UcmaEventType::kConnectResponse);
}

TEST_F(UcmaTest, BacklogFreesUpWhenRequestsAreFetched) {
  Listen(RDMA_PS_TCP, 1);
  for (int i = 0; i < 2; ++i) {
    const uint32_t id = active.Create(1);
    ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
    ASSERT_EQ(active.ResolveRoute(id), 0);
    ASSERT_EQ(active.Connect(id, Program::Param(0x100 + i)), 0);
    Settle();
  }
  EXPECT_EQ(passive.waiting(), 1);
  Expect(passive, UcmaEventType::kConnectRequest);
  ASSERT_TRUE(Tick());
  Expect(passive, UcmaEventType::kConnectRequest);
}

TEST_F(UcmaTest, EventsOfNoNameAreIgnored) {
  FetchRequest();
  EXPECT_EQ(active.Destroy(connecting), 2);
  Settle();
  ExpectQuiet(passive);
  EXPECT_EQ(passive.Accept(child, kChildUid, Program::Param(1)), -EINVAL);
}

TEST_F(UcmaTest, ClosedFileTellsThePeers) {
  Establish();
  passive.Close();
  EXPECT_EQ(server.ucma.size(), 0u);
  Settle();
  Expect(active, UcmaEventType::kDisconnected);
  active.Close();
  while (Tick()) {
  }
  EXPECT_EQ(client.manager().size() + server.manager().size(), 0u);
  EXPECT_EQ(client.ports() + server.ports(), 0u);
}

TEST_F(UcmaTest, ClosedFileWithRequestsNotFetched) {
  Connect();
  passive.Close();
  EXPECT_EQ(server.ucma.size(), 0u);
  Settle();
  EXPECT_EQ(Expect(active, UcmaEventType::kRejected).status, 28u);
}

// Whichever end lets go, and whenever, the other hears of it or never knew.
TEST_F(UcmaTest, DestroyedInEveryState) {
  const std::vector<std::function<void()>> steps = {
      [this] { Listen(); },
      [this] { Listen(), ResolveRoute(); },
      [this] { Connect(); },
      [this] { FetchRequest(); },
      [this] { Accept(); },
      [this] { Establish(); },
      [this] { Establish(), active.Disconnect(connecting), Settle(); },
  };
  for (size_t step = 0; step < steps.size(); ++step) {
    for (const bool client_first : {true, false}) {
      SCOPED_TRACE(step * 10 + client_first);
      listener = connecting = child = 0;
      steps[step]();
      for (const bool of_client : {client_first, !client_first}) {
        if (of_client) {
          if (connecting != 0) {
            EXPECT_GE(active.Destroy(connecting), 0);
          }
        } else {
          if (child != 0) {
            EXPECT_GE(passive.Destroy(child), 0);
          }
          EXPECT_GE(passive.Destroy(listener), 0);
        }
        Settle();
      }
      ExpectQuiet(active);
      ExpectQuiet(passive);
      while (Tick()) {
      }
      EXPECT_EQ(client.manager().size() + server.manager().size(), 0u);
      EXPECT_EQ(client.ucma.size() + server.ucma.size(), 0u);
      EXPECT_EQ(client.ports() + server.ports(), 0u);
    }
  }
}

TEST_F(UcmaTest, MigratedIdTakesItsEventsAlong) {
  connecting = active.Create(kClientUid);
  ASSERT_EQ(active.ResolveAddr(connecting, AddressOf(Ipv4(2), kPort)), 0);
  Expect(active, UcmaEventType::kAddrResolved);
  ASSERT_EQ(active.ResolveRoute(connecting), 0);
  Program other(client);
  EXPECT_EQ(other.Migrate(connecting), 1);
  EXPECT_EQ(active.waiting(), 0);
  EXPECT_EQ(other.waiting(), 1);
  EXPECT_EQ(active.Destroy(connecting), -EINVAL);
  Expect(other, UcmaEventType::kRouteResolved);
  EXPECT_EQ(other.Migrate(connecting), 2);
  EXPECT_EQ(other.Migrate(77), -ENOENT);
  EXPECT_EQ(other.Destroy(connecting), 2);
}

TEST_F(UcmaTest, MigratedListenerTakesItsRequestsAlong) {
  Connect();
  Program other(server);
  EXPECT_EQ(other.Migrate(listener), 0);
  passive.Close();
  child = Expect(other, UcmaEventType::kConnectRequest).id;
  EXPECT_EQ(other.Accept(child, kChildUid, Program::Param(kServerQp)), 0);
  Settle();
  Expect(active, UcmaEventType::kConnectResponse);
}

TEST_F(UcmaTest, EventsAreBounded) {
  Listen();
  const uint32_t id = passive.Create(1);
  for (size_t i = 0; i < Ucma::kMaxEvents; ++i) {
    ASSERT_EQ(passive.ResolveAddr(id, AddressOf(Ipv4(98), kPort)), 0);
  }
  EXPECT_EQ(passive.ResolveAddr(id, AddressOf(Ipv4(98), kPort)), -ENOMEM);
  ResolveRoute();
  ASSERT_EQ(active.Connect(connecting, Program::Param(1)), 0);
  Settle();
  EXPECT_EQ(Expect(active, UcmaEventType::kRejected).status, 28u);
  EXPECT_EQ(passive.Destroy(id), 0);
  ExpectQuiet(passive);
}

// Commands that are none.

TEST_F(UcmaTest, UnknownCommands) {
  for (const uint32_t command : {13u, 23u, 24u, 1000u}) {
    EXPECT_EQ(active.Do(command, std::array<char, 256>{}), -ENOSYS);
  }
  rdma_ucm_query_addr_resp answer{};
  EXPECT_EQ(active.Query(active.Create(1), 3, answer), -ENOSYS);
}

TEST_F(UcmaTest, NullAnswers) {
  const uint32_t id = active.Create(1);
  rdma_ucm_query query{};
  query.id = id;
  EXPECT_EQ(active.Write(Bytes(RDMA_USER_CM_CMD_QUERY, query, 1000)), -EFAULT);
  rdma_ucm_destroy_id destroy{};
  destroy.id = id;
  EXPECT_EQ(active.Write(Bytes(RDMA_USER_CM_CMD_DESTROY_ID, destroy, 4)),
            -EFAULT);
  ASSERT_EQ(active.ResolveAddr(id, AddressOf(Ipv4(2), kPort)), 0);
  EXPECT_EQ(active.Write(
                Bytes(RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{}, 1000)),
            -EFAULT);
  Expect(active, UcmaEventType::kAddrResolved);
}

TEST_F(UcmaTest, AnswersAreCutWhereOlderOnesEnded) {
  const uint32_t id = active.Create(1);
  ASSERT_EQ(active.Bind(id, AddressOf(Ipv4(1), kPort)), 0);
  std::array<rdma_ucm_query_addr_resp, 1> answer{};
  rdma_ucm_query query{};
  query.id = id;
  query.response = PointerTo(answer);
  constexpr size_t kOld = offsetof(rdma_ucm_query_addr_resp, ibdev_index);
  answer[0].ibdev_index = 99;
  EXPECT_EQ(active.Write(Bytes(RDMA_USER_CM_CMD_QUERY, query, kOld)), 0);
  EXPECT_EQ(answer[0].ibdev_index, 99u);
  EXPECT_EQ(answer[0].node_guid, 0x1001u);
  EXPECT_EQ(active.Write(Bytes(RDMA_USER_CM_CMD_QUERY, query, kOld - 1)),
            -ENOSPC);
}

TEST_F(UcmaTest, CommandsWithoutEceAreTaken) {
  Listen();
  ResolveRoute();
  rdma_ucm_connect connect{};
  connect.id = connecting;
  connect.conn_param = Program::Param(1);
  auto bytes = Bytes(RDMA_USER_CM_CMD_CONNECT, connect);
  bytes.resize(bytes.size() - sizeof(rdma_ucm_ece));
  const auto in =
      static_cast<uint16_t>(bytes.size() - sizeof(rdma_ucm_cmd_hdr));
  std::memcpy(bytes.data() + 4, &in, sizeof(in));
  EXPECT_EQ(active.Write(bytes), 0);
}

TEST_F(UcmaTest, LongerWritesAreTakenWhole) {
  auto bytes = Bytes(RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{.id = 1});
  bytes.resize(100);
  EXPECT_EQ(active.Write(bytes), -ENOENT);
  const uint32_t id = active.Create(1);
  rdma_ucm_set_option option{};
  uint8_t tos = 1;
  option.id = id;
  option.optval = PointerTo(tos);
  option.optlen = 1;
  bytes = Bytes(RDMA_USER_CM_CMD_SET_OPTION, option);
  bytes.resize(100);
  EXPECT_EQ(client.ucma.Command(active.file, bytes), 100);
}

TEST_F(UcmaTest, GetEventIsKnownByItsHeader) {
  EXPECT_TRUE(Ucma::IsGetEvent(
      Bytes(RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{})));
  EXPECT_FALSE(
      Ucma::IsGetEvent(Bytes(RDMA_USER_CM_CMD_LISTEN, rdma_ucm_listen{})));
  EXPECT_FALSE(Ucma::IsGetEvent({}));
  rdma_ucm_event_resp event{};
  EXPECT_EQ(active.GetEvent(event), -EAGAIN);
}

// Every command, cut at every byte, whether the header owns up to that or not.
template <typename Body>
void CutEverywhere(Program& program, uint32_t command, size_t least) {
  SCOPED_TRACE(command);
  std::array<std::byte, 1024> answer{};
  Body body{};
  if constexpr (requires { body.response; }) body.response = PointerTo(answer);
  const auto whole = Bytes(command, body, answer.size());
  for (size_t size = 0; size < sizeof(rdma_ucm_cmd_hdr) + least; ++size) {
    const auto part = std::span(whole).first(size);
    std::vector<std::byte> cut(part.begin(), part.end());
    EXPECT_EQ(program.Write(cut), -EINVAL);
    if (size < sizeof(rdma_ucm_cmd_hdr)) continue;
    const auto in = static_cast<uint16_t>(size - sizeof(rdma_ucm_cmd_hdr));
    std::memcpy(cut.data() + 4, &in, sizeof(in));
    EXPECT_EQ(program.Write(cut), -EINVAL);
  }
}

TEST_F(UcmaTest, CutCommands) {
  const auto cut = [this]<typename Body>(uint32_t command, const Body&) {
    CutEverywhere<Body>(active, command, LeastSize<Body>());
  };
  cut(RDMA_USER_CM_CMD_CREATE_ID, rdma_ucm_create_id{});
  cut(RDMA_USER_CM_CMD_DESTROY_ID, rdma_ucm_destroy_id{});
  cut(RDMA_USER_CM_CMD_BIND_IP, rdma_ucm_bind_ip{});
  cut(RDMA_USER_CM_CMD_RESOLVE_IP, rdma_ucm_resolve_ip{});
  cut(RDMA_USER_CM_CMD_RESOLVE_ROUTE, rdma_ucm_resolve_route{});
  cut(RDMA_USER_CM_CMD_QUERY_ROUTE, rdma_ucm_query{});
  cut(RDMA_USER_CM_CMD_CONNECT, rdma_ucm_connect{});
  cut(RDMA_USER_CM_CMD_LISTEN, rdma_ucm_listen{});
  cut(RDMA_USER_CM_CMD_ACCEPT, rdma_ucm_accept{});
  cut(RDMA_USER_CM_CMD_REJECT, rdma_ucm_reject{});
  cut(RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{});
  cut(RDMA_USER_CM_CMD_INIT_QP_ATTR, rdma_ucm_init_qp_attr{});
  cut(RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{});
  cut(RDMA_USER_CM_CMD_SET_OPTION, rdma_ucm_set_option{});
  cut(RDMA_USER_CM_CMD_NOTIFY, rdma_ucm_notify{});
  cut(RDMA_USER_CM_CMD_MIGRATE_ID, rdma_ucm_migrate_id{});
  cut(RDMA_USER_CM_CMD_QUERY, rdma_ucm_query{});
  cut(RDMA_USER_CM_CMD_BIND, rdma_ucm_bind{});
  cut(RDMA_USER_CM_CMD_RESOLVE_ADDR, rdma_ucm_resolve_addr{});
  cut(RDMA_USER_CM_CMD_JOIN_IP_MCAST, rdma_ucm_join_ip_mcast{});
  cut(RDMA_USER_CM_CMD_JOIN_MCAST, rdma_ucm_join_mcast{});
  cut(RDMA_USER_CM_CMD_LEAVE_MCAST, rdma_ucm_destroy_id{});
}

TEST_F(UcmaTest, TooLittleRoomForTheAnswer) {
  const auto at = [this](uint32_t command, const auto& body, size_t least) {
    for (size_t room = 0; room < least; ++room) {
      EXPECT_EQ(active.Write(Bytes(command, body, room)), -ENOSPC);
    }
  };
  rdma_ucm_query query{};
  at(RDMA_USER_CM_CMD_CREATE_ID, rdma_ucm_create_id{}, 4);
  at(RDMA_USER_CM_CMD_DESTROY_ID, rdma_ucm_destroy_id{}, 4);
  at(RDMA_USER_CM_CMD_MIGRATE_ID, rdma_ucm_migrate_id{}, 4);
  at(RDMA_USER_CM_CMD_JOIN_IP_MCAST, rdma_ucm_join_ip_mcast{}, 4);
  at(RDMA_USER_CM_CMD_JOIN_MCAST, rdma_ucm_join_mcast{}, 4);
  at(RDMA_USER_CM_CMD_LEAVE_MCAST, rdma_ucm_destroy_id{}, 4);
  at(RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{}, 324);
  at(RDMA_USER_CM_CMD_INIT_QP_ATTR, rdma_ucm_init_qp_attr{}, 144);
  at(RDMA_USER_CM_CMD_QUERY_ROUTE, query, 200);
  at(RDMA_USER_CM_CMD_QUERY, query, 272);
  query.option = RDMA_USER_CM_QUERY_PATH;
  at(RDMA_USER_CM_CMD_QUERY, query, 8);
}

}  // namespace
}  // namespace nd::soft

// The manager in the place of one of the two Linux machines of a capture: it
// hears what that machine heard and must say what that machine said. Comm ids,
// transaction ids and starting PSNs are each end's own choice: they may differ,
// but as names do, each for the same one throughout.
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "soft/cm/manager.h"
#include "soft/pcap.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;

constexpr size_t kBthAndDeth = 20;

constexpr Gid kA4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 98, 0, 1};
constexpr Gid kB4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 98, 0, 2};
constexpr Gid kNobody = {0, 0, 0,    0,    0,  0,  0, 0,
                         0, 0, 0xff, 0xff, 10, 98, 0, 9};
constexpr Gid kA6 = {0xfd, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Gid kB6 = {0xfd, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
constexpr Gid kAny6 = {};

constexpr CmDevice DeviceOf(uint8_t number) {
  CmDevice device;
  device.guid = 0x000000fffe980000 + number;
  return device;
}

// The CM's datagrams of a capture.
std::vector<CmDatagram> ReadCapture(const std::string& name) {
  std::vector<CmDatagram> datagrams;
  for (const CapturedDatagram& each :
       ReadPcap(absl::StrCat(ND_GOLDEN_DIR, "/", name, ".pcap"))) {
    if (each.payload.size() < kBthAndDeth + kMadBytes) continue;
    const auto mad = ParseCmMad(
        std::span(each.payload).subspan(kBthAndDeth).first(kMadBytes));
    if (!mad) continue;
    datagrams.push_back({.source = each.headers.source,
                         .destination = each.headers.destination,
                         .mad = *mad});
  }
  return datagrams;
}

// `size` bytes as the captures' programs made them: a0 a1 ... af a0 ...
std::vector<uint8_t> Pattern(uint8_t first, size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<uint8_t>(first + i % 16);
  }
  return bytes;
}

// Names that Linux chose, and the manager's for the same.
template <typename Name>
class Names {
 public:
  // Whether `ours` may stand for `theirs`.
  bool Same(Name ours, Name theirs) {
    return ours_.emplace(theirs, ours).first->second == ours &&
           theirs_.emplace(ours, theirs).first->second == theirs;
  }
  Name Ours(Name theirs) const {
    const auto found = ours_.find(theirs);
    return found == ours_.end() ? theirs : found->second;
  }

 private:
  std::map<Name, Name> ours_;
  std::map<Name, Name> theirs_;
};

// One machine of a capture.
class Actor {
 public:
  Actor(const std::string& capture, CmDevice device)
      : capture_(ReadCapture(capture)),
        cm({.device = WithGids(std::move(device))}, random_) {}

  ~Actor() {
    EXPECT_EQ(at_, capture_.size()) << "the capture goes on";
    EXPECT_TRUE(out.datagrams.empty()) << "the manager says more";
  }

  // The next datagram of the capture is one that this machine hears.
  void Hears() {
    ASSERT_LT(at_, capture_.size());
    CmDatagram datagram = capture_[at_++];
    std::visit(
        [this](auto& message) {
          if constexpr (requires { message.remote_id; }) {
            message.remote_id = ids_.Ours(message.remote_id);
          }
          if constexpr (requires { message.remote_qpn; }) {
            ASSERT_EQ(message.remote_qpn, qpn);
          }
          if constexpr (std::is_same_v<std::decay_t<decltype(message)>,
                                       CmSidrRep>) {
            message.request_id = ids_.Ours(message.request_id);
          }
        },
        datagram.mad.message);
    datagram.mad.transaction_id =
        transactions_.Ours(datagram.mad.transaction_id);
    cm.HandleMad(datagram, now, out);
  }

  // The next datagram of the capture is one that this machine says, and so
  // does the manager.
  void Says() {
    ASSERT_LT(at_, capture_.size());
    const CmDatagram theirs = capture_[at_++];
    ASSERT_FALSE(out.datagrams.empty());
    CmDatagram ours = out.datagrams.front();
    out.datagrams.erase(out.datagrams.begin());
    EXPECT_EQ(ours.source, theirs.source);
    EXPECT_EQ(ours.destination, theirs.destination);
    ASSERT_EQ(AttributeOf(ours.mad.message), AttributeOf(theirs.mad.message));
    Rename(ours.mad, theirs.mad);
    EXPECT_TRUE(ours.mad == theirs.mad)
        << "datagram " << at_ << " differs from the capture's";
  }

  // The next datagram of the capture did not arrive.
  void Skips() { ++at_; }
  // What the manager says was lost before the capture.
  void Loses() {
    ASSERT_EQ(out.datagrams.size(), 1u);
    out.datagrams.clear();
  }

  // It is `after` later.
  void Waits(Duration after) {
    now += after;
    cm.Expire(now, out);
  }
  // The next repeat is due.
  void WaitsForTimer() {
    ASSERT_TRUE(cm.NextDeadline());
    now = *cm.NextDeadline();
    cm.Expire(now, out);
  }

  CmEvent TakeEvent() {
    if (out.events.empty()) {
      ADD_FAILURE() << "no event";
      return {};
    }
    CmEvent event = out.events.front();
    out.events.erase(out.events.begin());
    return event;
  }

 private:
  static CmDevice WithGids(CmDevice device) {
    const bool is_a = device.guid % 2 == 1;
    device.gids = {is_a ? kA4 : kB4, is_a ? kA6 : kB6};
    return device;
  }

  // Gives our choices in `ours` the names that Linux chose.
  void Rename(CmMad& ours, const CmMad& theirs) {
    // Linux numbers a DREQ as the REQ; any new number will do.
    if (!std::holds_alternative<CmDreq>(ours.message)) {
      EXPECT_TRUE(
          transactions_.Same(ours.transaction_id, theirs.transaction_id));
    }
    ours.transaction_id = theirs.transaction_id;
    std::visit(
        [this, &theirs](auto& message) {
          using Message = std::decay_t<decltype(message)>;
          const auto& other = std::get<Message>(theirs.message);
          if constexpr (requires { message.local_id; }) {
            EXPECT_TRUE(ids_.Same(message.local_id, other.local_id));
            message.local_id = other.local_id;
          }
          if constexpr (std::is_same_v<Message, CmSidrReq>) {
            EXPECT_TRUE(ids_.Same(message.request_id, other.request_id));
            message.request_id = other.request_id;
          }
          if constexpr (requires { message.starting_psn; }) {
            message.starting_psn = other.starting_psn;
          }
        },
        ours.message);
  }

  std::vector<CmDatagram> capture_;
  size_t at_ = 0;
  SeededRandom random_{1};
  Names<CommId> ids_;
  Names<uint64_t> transactions_;

 public:
  Instant now{};
  CmManager cm;
  CmOutput out;
  Qpn qpn{};  // of this machine's QP
};

// A's side of a capture: it connects as its program did.
class Client : public Actor {
 public:
  explicit Client(const std::string& capture) : Actor(capture, DeviceOf(1)) {}

  struct Target {
    Qpn qpn{};
    uint16_t source_port = 0;
    uint16_t port = 0;
    size_t private_bytes = 0;
    Gid local = kA4;
    Gid remote = kB4;
  };
  CmHandle Connect(const Target& target) {
    qpn = target.qpn;
    const auto data = Pattern(0xa0, target.private_bytes);
    return *cm.Connect(
        {.endpoints = {.local = {.ip = target.local,
                                 .port = target.source_port},
                       .remote = {.ip = target.remote, .port = target.port}},
         .qpn = target.qpn,
         .responder_resources = 4,
         .initiator_depth = 3,
         .flow_control = true,
         .retry_count = 6,
         .rnr_retry_count = 5,
         .path_mtu = 5,
         .private_data = data},
        now, out);
  }
  void Establish(CmHandle handle) {
    EXPECT_TRUE(cm.Establish(handle, now, out).ok());
  }
  void Disconnect(CmHandle handle) {
    EXPECT_TRUE(cm.Disconnect(handle, {}, now, out).ok());
  }
};

// B's side.
class Server : public Actor {
 public:
  explicit Server(const std::string& capture) : Actor(capture, DeviceOf(2)) {}

  CmHandle Listen(uint16_t port, PortSpace space = PortSpace::kTcp) {
    return cm.Listen(
        {.space = space, .local = {.ip = kAny6, .port = port}, .backlog = 3});
  }
  void Accept(CmHandle handle, Qpn with, size_t private_bytes,
              uint8_t responder_resources = 2) {
    qpn = with;
    const auto data = Pattern(0xb0, private_bytes);
    EXPECT_TRUE(cm.Accept(handle,
                          {.qpn = with,
                           .responder_resources = responder_resources,
                           .initiator_depth = 1,
                           .flow_control = true,
                           .rnr_retry_count = 3,
                           .private_data = data},
                          now, out)
                    .ok());
  }
  // Its program lets go of the connection, or takes part in its end.
  void Disconnect(CmHandle handle) {
    EXPECT_TRUE(cm.Disconnect(handle, {}, now, out).ok());
  }
};

TEST(CmGolden, ServerOfOrdinaryConnection) {
  Server b("cm_connect");
  const CmHandle listener = b.Listen(0x1d2f);
  b.Hears();
  const CmEvent request = b.TakeEvent();
  EXPECT_EQ(request.type, CmEventType::kConnectRequest);
  EXPECT_EQ(request.listener, listener);
  EXPECT_EQ(request.private_data, Pattern(0xa0, 56));
  EXPECT_EQ(request.peer, (CmPeerParams{.qpn = Qpn(0x45),
                                        .responder_resources = 3,
                                        .initiator_depth = 4,
                                        .flow_control = true,
                                        .retry_count = 6,
                                        .rnr_retry_count = 5}));
  b.Accept(request.handle, Qpn(0xdb), 196);
  b.Says();
  // What the QP of the capture had.
  const auto params = b.cm.QpParams(request.handle, QpStage::kRts);
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->path_mtu, 5);
  EXPECT_EQ(params->sq_psn, Psn(0xe5ad2a));
  EXPECT_EQ(params->ack_timeout, 19);
  EXPECT_EQ(params->retry_count, 6);
  EXPECT_EQ(params->rnr_retry_count, 5);
  EXPECT_EQ(params->max_rd_atomic, 1);
  EXPECT_EQ(params->max_dest_rd_atomic, 2);
  EXPECT_TRUE(params->remote_read_and_atomic);
  EXPECT_EQ(params->remote_qpn, Qpn(0x45));
  EXPECT_EQ(params->destination, kA4);
  EXPECT_EQ(params->hop_limit, 64);
  b.Hears();
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kEstablished);
  b.Hears();
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kDisconnected);
  b.Disconnect(request.handle);
  b.Says();
  b.WaitsForTimer();
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kTimewaitExit);
}

TEST(CmGolden, ClientOfOrdinaryConnection) {
  Client a("cm_connect");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x45),
                                     .source_port = 50050,
                                     .port = 0x1d2f,
                                     .private_bytes = 56});
  a.Says();
  a.Hears();
  const CmEvent response = a.TakeEvent();
  EXPECT_EQ(response.type, CmEventType::kConnectResponse);
  EXPECT_EQ(response.private_data, Pattern(0xb0, 196));
  const auto params = a.cm.QpParams(handle, QpStage::kRts);
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->sq_psn, Psn(0x42f11d));
  EXPECT_EQ(params->ack_timeout, 19);
  EXPECT_EQ(params->rnr_retry_count, 3);
  EXPECT_EQ(params->max_rd_atomic, 2);
  EXPECT_EQ(params->max_dest_rd_atomic, 1);
  EXPECT_EQ(params->remote_qpn, Qpn(0xdb));
  a.Establish(handle);
  a.Says();
  a.Disconnect(handle);
  a.Says();
  a.Hears();
  EXPECT_EQ(a.TakeEvent().type, CmEventType::kDisconnected);
}

TEST(CmGolden, ServerOverIpv6) {
  Server b("cm_connect_ipv6");
  b.Listen(0x1d31);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xdd), 30);
  b.Says();
  b.Hears();
  b.Hears();
  b.Disconnect(handle);
  b.Says();
}

TEST(CmGolden, ClientOverIpv6) {
  Client a("cm_connect_ipv6");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x47),
                                     .source_port = 40936,
                                     .port = 0x1d31,
                                     .private_bytes = 20,
                                     .local = kA6,
                                     .remote = kB6});
  a.Says();
  a.Hears();
  a.Establish(handle);
  a.Says();
  a.Disconnect(handle);
  a.Says();
  a.Hears();
}

TEST(CmGolden, ServerThatDisconnects) {
  Server b("cm_connect_nopd");
  b.Listen(0x1d30);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xdc), 0);
  b.Says();
  b.Hears();
  b.Disconnect(handle);
  b.Says();
  b.Hears();
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kEstablished);
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kDisconnected);
}

TEST(CmGolden, ClientWhoseServerDisconnects) {
  Client a("cm_connect_nopd");
  const CmHandle handle =
      a.Connect({.qpn = Qpn(0x46), .source_port = 54377, .port = 0x1d30});
  a.Says();
  a.Hears();
  a.Establish(handle);
  a.Says();
  a.Hears();
  a.Disconnect(handle);
  a.Says();
}

TEST(CmGolden, NobodyListens) {
  Server b("cm_rej_noserv");
  b.Hears();
  b.Says();
}

TEST(CmGolden, ClientThatNobodyListensTo) {
  Client a("cm_rej_noserv");
  a.Connect({.qpn = Qpn(0x48),
             .source_port = 55771,
             .port = 0x270f,
             .private_bytes = 10});
  a.Says();
  a.Hears();
  const CmEvent event = a.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.reason, RejectReason::kInvalidServiceId);
  EXPECT_EQ(event.private_data, std::vector<uint8_t>(148));
}

TEST(CmGolden, ServerThatRejects) {
  Server b("cm_rej_user");
  b.Listen(0x1d32);
  b.Hears();
  EXPECT_TRUE(
      b.cm.Reject(b.TakeEvent().handle, Pattern(0xb0, 148), b.now, b.out).ok());
  b.Says();
}

TEST(CmGolden, ClientThatIsRejected) {
  Client a("cm_rej_user");
  a.Connect({.qpn = Qpn(0x49),
             .source_port = 56724,
             .port = 0x1d32,
             .private_bytes = 10});
  a.Says();
  a.Hears();
  const CmEvent event = a.TakeEvent();
  EXPECT_EQ(event.reason, RejectReason::kConsumer);
  EXPECT_EQ(event.private_data, Pattern(0xb0, 148));
}

TEST(CmGolden, ClientThatRejectsTheReply) {
  Client a("cm_rej_client");
  const auto data = Pattern(0xa0, 8);
  a.qpn = Qpn(0xabcdef);
  const CmHandle handle =
      *a.cm.Connect({.endpoints = {.local = {.ip = kA4, .port = 45110},
                                   .remote = {.ip = kB4, .port = 0x1d38}},
                     .qpn = a.qpn,
                     .responder_resources = 1,
                     .initiator_depth = 1,
                     .path_mtu = 5,
                     .private_data = data},
                    a.now, a.out);
  a.Says();
  a.Hears();
  EXPECT_EQ(a.TakeEvent().type, CmEventType::kConnectResponse);
  EXPECT_TRUE(a.cm.Reject(handle, Pattern(0xa0, 20), a.now, a.out).ok());
  a.Says();
}

TEST(CmGolden, ServerWhoseReplyIsRejected) {
  Server b("cm_rej_client");
  b.Listen(0x1d38);
  b.Hears();
  b.Accept(b.TakeEvent().handle, Qpn(0xe3), 10, 1);
  b.Says();
  b.Hears();
  const CmEvent event = b.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.reason, RejectReason::kConsumer);
}

TEST(CmGolden, ServerWhoseClientLosesTheRtu) {
  Server b("cm_rtu_lost");
  b.Listen(0x1d34);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xdf), 5);
  b.Says();
  b.Skips();
  b.WaitsForTimer();
  EXPECT_EQ(b.now - Instant(), milliseconds(4096));
  b.Says();
  b.Hears();
  EXPECT_EQ(b.TakeEvent().type, CmEventType::kEstablished);
  b.Hears();
  b.Disconnect(handle);
  b.Says();
}

TEST(CmGolden, ClientWhoseRtuIsLost) {
  Client a("cm_rtu_lost");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x4b),
                                     .source_port = 42221,
                                     .port = 0x1d34,
                                     .private_bytes = 5});
  a.Says();
  a.Hears();
  a.Establish(handle);
  a.Says();
  a.Hears();
  a.Says();
  a.Disconnect(handle);
  a.Says();
  a.Hears();
}

TEST(CmGolden, ServerWhoseReplyIsLost) {
  Server b("cm_rep_lost");
  b.Listen(0x1d35);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xe0), 5);
  b.Loses();
  b.WaitsForTimer();
  b.Says();
  b.Hears();
  b.Hears();
  b.Disconnect(handle);
  b.Says();
}

TEST(CmGolden, ClientRepeatsItsDreq) {
  Client a("cm_dreq_lost");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x4d),
                                     .source_port = 42444,
                                     .port = 0x1d36,
                                     .private_bytes = 5});
  a.Says();
  a.Hears();
  a.Establish(handle);
  a.Says();
  a.Disconnect(handle);
  a.Says();
  a.WaitsForTimer();
  EXPECT_EQ(a.now - Instant(), milliseconds(6144));
  a.Says();
  a.Hears();
  EXPECT_EQ(a.TakeEvent().type, CmEventType::kConnectResponse);
  EXPECT_EQ(a.TakeEvent().type, CmEventType::kDisconnected);
}

TEST(CmGolden, ServerAnswersDreqThatComesAgainAfterTheEnd) {
  Server b("cm_dreq_lost");
  b.Listen(0x1d36);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xe1), 5);
  b.Says();
  b.Hears();
  b.Hears();
  EXPECT_TRUE(b.cm.Destroy(handle, b.now, b.out).ok());
  b.Loses();
  b.WaitsForTimer();
  EXPECT_EQ(b.cm.size(), 0u);
  b.Hears();
  b.Says();
}

TEST(CmGolden, ClientThatDestroysItsConnection) {
  Client a("cm_destroy_estab");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x4f),
                                     .source_port = 34367,
                                     .port = 0x1d37,
                                     .private_bytes = 5});
  a.Says();
  a.Hears();
  a.Establish(handle);
  a.Says();
  EXPECT_TRUE(a.cm.Destroy(handle, a.now, a.out).ok());
  a.Says();
  a.Hears();
}

TEST(CmGolden, ServerWhoseClientDestroysItsConnection) {
  Server b("cm_destroy_estab");
  b.Listen(0x1d37);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Accept(handle, Qpn(0xe2), 5);
  b.Says();
  b.Hears();
  b.Hears();
  EXPECT_TRUE(b.cm.Destroy(handle, b.now, b.out).ok());
  b.Says();
}

TEST(CmGolden, ServerThatTakesItsTime) {
  Server b("cm_mra");
  b.Listen(0x1d33);
  b.Hears();
  const CmHandle handle = b.TakeEvent().handle;
  b.Hears();
  b.Says();
  b.Waits(milliseconds(14000));
  b.Accept(handle, Qpn(0xde), 10);
  b.Says();
  b.Hears();
  b.Hears();
  b.Disconnect(handle);
  b.Says();
}

TEST(CmGolden, ClientWhoseServerTakesItsTime) {
  Client a("cm_mra");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x4a),
                                     .source_port = 59801,
                                     .port = 0x1d33,
                                     .private_bytes = 10});
  a.Says();
  a.WaitsForTimer();
  EXPECT_EQ(a.now - Instant(), milliseconds(6144));
  a.Says();
  a.Hears();
  a.Waits(milliseconds(8000));
  a.Hears();
  a.Establish(handle);
  a.Says();
  a.Disconnect(handle);
  a.Says();
  a.Hears();
}

// Its REQs were not captured.
TEST(CmGolden, ClientThatGivesUp) {
  Client a("cm_req_cancel");
  const CmHandle handle = a.Connect({.qpn = Qpn(0x4e), .remote = kNobody});
  a.Loses();
  EXPECT_TRUE(a.cm.Destroy(handle, a.now, a.out).ok());
  a.Says();
}

TEST(CmGolden, ClientThatNobodyAnswers) {
  Client a("cm_req_timeout");
  a.Connect({.qpn = Qpn(0x4e),
             .source_port = 36623,
             .port = 0x1d2f,
             .private_bytes = 10,
             .remote = kNobody});
  a.Says();
  for (int repeat = 0; repeat < 4; ++repeat) {
    a.WaitsForTimer();
    a.Says();
  }
}

TEST(CmGolden, DatagramServer) {
  Server b("sidr_udaddy");
  b.Listen(0x1c06, PortSpace::kUdp);
  b.Hears();
  const CmEvent request = b.TakeEvent();
  EXPECT_EQ(request.type, CmEventType::kConnectRequest);
  EXPECT_EQ(request.private_data.size(), 180u);
  EXPECT_TRUE(b.cm.AcceptLookUp(request.handle,
                                {.qpn = Qpn(0xe7), .qkey = Qkey(0x01234567)},
                                b.now, b.out)
                  .ok());
  b.Says();
}

TEST(CmGolden, DatagramClient) {
  Client a("sidr_udaddy");
  ASSERT_TRUE(
      a.cm.Resolve({.endpoints = {.local = {.ip = kA4, .port = 0xa11f},
                                  .remote = {.ip = kB4, .port = 0x1c06}}},
                   a.now, a.out)
          .ok());
  a.Says();
  a.Hears();
  const CmEvent event = a.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kEstablished);
  EXPECT_EQ(event.peer.qpn, Qpn(0xe7));
  EXPECT_EQ(event.peer.qkey, Qkey(0x01234567));
}

}  // namespace
}  // namespace nd::soft

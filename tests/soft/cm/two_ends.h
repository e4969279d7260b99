// Two managers and the datagrams between them, delivered by hand.
#ifndef ND_TESTS_SOFT_CM_TWO_ENDS_H_
#define ND_TESTS_SOFT_CM_TWO_ENDS_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "soft/cm/manager.h"

namespace nd::soft {

constexpr Gid Ipv4(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last};
}
constexpr Gid Ipv6(uint8_t last) {
  return {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
}

inline constexpr Gid kClientIp = Ipv4(1);
inline constexpr Gid kServerIp = Ipv4(2);
inline constexpr uint16_t kPort = 7471;
inline constexpr Qpn kClientQpn{0x11};
inline constexpr Qpn kServerQpn{0x22};

// One manager, and what it said last.
struct End {
  End(uint8_t number, CmManager::Options options, uint64_t seed)
      : random(seed), cm(WithDevice(number, std::move(options)), random) {}

  static CmManager::Options WithDevice(uint8_t number,
                                       CmManager::Options options) {
    options.device.guid = 0x1000u + number;
    options.device.gids = {Ipv4(number), Ipv6(number)};
    return options;
  }

  // The only datagram to be sent.
  CmMad TakeMad() {
    EXPECT_EQ(out.datagrams.size(), 1u);
    if (out.datagrams.empty()) return {.message = CmMra{}};
    const CmMad mad = out.datagrams.front().mad;
    out.datagrams.clear();
    return mad;
  }
  template <typename Message>
  Message Take() {
    const CmMad mad = TakeMad();
    const auto* const message = std::get_if<Message>(&mad.message);
    EXPECT_NE(message, nullptr) << "another message";
    return message == nullptr ? Message{} : *message;
  }
  // The only event.
  CmEvent TakeEvent() {
    EXPECT_EQ(out.events.size(), 1u);
    if (out.events.empty()) return {};
    CmEvent event = std::move(out.events.front());
    out.events.clear();
    return event;
  }
  bool Silent() const { return out.datagrams.empty() && out.events.empty(); }

  SeededRandom random;
  CmManager cm;
  CmOutput out;
};

// `client` has the first address, `server` the second.
class TwoEnds : public ::testing::Test {
 protected:
  // All that `from` has to say reaches `to`.
  void Deliver(End& from, End& to) {
    for (const CmDatagram& each : std::exchange(from.out.datagrams, {})) {
      to.cm.HandleMad(each, now, to.out);
    }
  }
  // A message of the client's making reaches the server, or the other way.
  void SayToServer(CmMessage message, Gid source = kClientIp) {
    server.cm.HandleMad(
        {.source = source,
         .destination = kServerIp,
         .mad = {.transaction_id = kTransaction, .message = message}},
        now, server.out);
  }
  void SayToClient(CmMessage message, Gid source = kServerIp) {
    client.cm.HandleMad(
        {.source = source,
         .destination = kClientIp,
         .mad = {.transaction_id = kTransaction, .message = message}},
        now, client.out);
  }

  void Listen() {
    listener = server.cm.Listen({.local = {.port = kPort}, .backlog = 2});
  }

  CmConnectOptions ConnectOptions() const {
    return {.endpoints = {.local = {.ip = kClientIp, .port = 40000},
                          .remote = {.ip = kServerIp, .port = kPort}},
            .qpn = kClientQpn,
            .responder_resources = 4,
            .initiator_depth = 3,
            .retry_count = 6,
            .rnr_retry_count = 5};
  }
  static CmAcceptOptions AcceptOptions() {
    return {.qpn = kServerQpn,
            .responder_resources = 2,
            .initiator_depth = 1,
            .rnr_retry_count = 3};
  }

  // Each of these leads on to a state, nothing left to take.
  void ReachReqSent() {
    requester = *client.cm.Connect(ConnectOptions(), now, client.out);
    req = client.Take<CmReq>();
  }
  void ReachReqReceived() {
    Listen();
    ReachReqSent();
    SayToServer(req);
    acceptor = server.TakeEvent().handle;
  }
  void ReachRepSent() {
    ReachReqReceived();
    EXPECT_TRUE(
        server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
    rep = server.Take<CmRep>();
  }
  void ReachRepReceived() {
    ReachRepSent();
    SayToClient(rep);
    EXPECT_EQ(client.TakeEvent().type, CmEventType::kConnectResponse);
  }
  void ReachRtuSent() {
    ReachRepReceived();
    EXPECT_TRUE(client.cm.Establish(requester, now, client.out).ok());
    rtu = client.Take<CmRtu>();
  }
  void ReachEstablished() {
    ReachRtuSent();
    SayToServer(rtu);
    EXPECT_EQ(server.TakeEvent().type, CmEventType::kEstablished);
  }
  void ReachDreqSent() {
    ReachEstablished();
    EXPECT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
    dreq = client.Take<CmDreq>();
  }
  void ReachDreqReceived() {
    ReachDreqSent();
    SayToServer(dreq);
    EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
  }
  // Both.
  void ReachTimewait() {
    ReachDreqReceived();
    EXPECT_TRUE(server.cm.Disconnect(acceptor, {}, now, server.out).ok());
    SayToClient(server.Take<CmDrep>());
    EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
  }

  // Goes to the end's next deadline; returns how long that took.
  Duration WaitForTimer(End& end) {
    EXPECT_TRUE(end.cm.NextDeadline());
    const Instant before = now;
    now = end.cm.NextDeadline().value_or(now);
    end.cm.Expire(now, end.out);
    return now - before;
  }

  static constexpr uint64_t kTransaction = 0x77;

  Instant now{};
  End client{1, {}, 1};
  End server{2, {}, 2};
  CmHandle listener{};
  CmHandle requester{};
  CmHandle acceptor{};
  CmReq req;
  CmRep rep;
  CmRtu rtu;
  CmDreq dreq;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_CM_TWO_ENDS_H_

// Sessions on real queue pairs: of the soft device, and of rxe in the guest.
#include "transport/link/verbs_carrier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "transport/link/session_pair.h"
#include "verbs/rdma_env.h"

namespace nd::transport {
namespace {

std::vector<std::byte> MessageOf(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom(seed).Fill(bytes);
  return bytes;
}

// A stream and its other end, with the messages that go over it.
struct Exchange {
  explicit Exchange(SessionPair& its, MessageClass message_class) : pair(its) {
    auto opened = pair.core(0).OpenStream(message_class, "test");
    EXPECT_TRUE(opened.ok()) << opened.status();
    from = *opened;
    pair.Run([this] { return (to = pair.core(1).AcceptStream()) != nullptr; });
  }
  ~Exchange() {
    from->Close();
    if (to != nullptr) to->Close();
  }

  void Send(std::vector<std::byte> bytes) {
    messages.push_back(std::move(bytes));
    auto& operation = *sends.emplace_back(std::make_unique<SendOperation>());
    operation.set_piece({.bytes = messages.back()});
    from->Send(operation);
  }
  // Receives the next message and compares it.
  void ExpectNext() {
    ReceiveOperation operation;
    to->Receive(operation);
    const Instant now = Clock::Monotonic().Now();
    ASSERT_TRUE(pair.Run([&operation] { return operation.done(); }))
        << pair.core(0).Describe(now) << pair.core(1).Describe(now);
    ASSERT_TRUE(operation.status().ok()) << operation.status();
    const std::span<const std::byte> bytes = operation.message().bytes();
    ASSERT_EQ(bytes.size(), messages[received].size());
    EXPECT_TRUE(std::ranges::equal(bytes, messages[received]));
    ++received;
  }
  void ExpectAllSent() {
    ASSERT_TRUE(pair.Run([this] {
      return std::ranges::all_of(sends,
                                 [](const auto& each) { return each->done(); });
    }));
    for (const auto& each : sends) EXPECT_TRUE(each->status().ok());
  }

  SessionPair& pair;
  Stream* from = nullptr;
  Stream* to = nullptr;
  std::vector<std::vector<std::byte>> messages;
  std::vector<std::unique_ptr<SendOperation>> sends;
  size_t received = 0;
};

class SessionOnVerbs : public verbs::RdmaTest {};

class SessionOnVerbsByLayout : public verbs::RdmaTest,
                               public testing::WithParamInterface<int> {
 protected:
  static SessionLayout Layout() {
    SessionLayout layout;
    layout.digest = (GetParam() & 1) != 0;
    layout.bulk_links = (GetParam() & 2) != 0 ? 3 : 1;
    layout.ring = (GetParam() & 4) != 0;
    return layout;
  }
};

TEST_P(SessionOnVerbsByLayout, MessagesOfAnySizeArriveUnchanged) {
  SessionPair pair(Layout());
  for (const MessageClass each :
       {MessageClass::kLatency, MessageClass::kBulk}) {
    Exchange exchange(pair, each);
    uint32_t seed = 1;
    for (const size_t size :
         {size_t{0}, size_t{1}, size_t{8}, size_t{1024}, size_t{8159},
          size_t{8160}, size_t{8161}, size_t{65536}, size_t{1} << 20,
          (size_t{1} << 20) + 1, size_t{9} << 20}) {
      exchange.Send(MessageOf(size, seed++));
    }
    for (size_t i = 0; i < 11; ++i) exchange.ExpectNext();
    exchange.ExpectAllSent();
  }
}

TEST_P(SessionOnVerbsByLayout, ALinkThatBreaksLosesNothing) {
  SessionPair pair(Layout());
  Exchange exchange(pair, MessageClass::kBulk);
  for (uint32_t i = 0; i < 60; ++i) {
    exchange.Send(MessageOf(i % 7 == 0 ? 300000 : 100 * i, i));
  }
  for (size_t i = 0; i < 20; ++i) exchange.ExpectNext();
  pair.Break(1, 1);
  for (size_t i = 20; i < 60; ++i) exchange.ExpectNext();
  exchange.ExpectAllSent();
  EXPECT_FALSE(pair.core(0).LinkIsUp(1));
  EXPECT_FALSE(pair.core(1).LinkIsUp(1));
}

INSTANTIATE_TEST_SUITE_P(DigestLinksAndRing, SessionOnVerbsByLayout,
                         testing::Range(0, 8));

TEST_F(SessionOnVerbs, WithoutAnyLinkLeftOperationsEndAndSayWhy) {
  // No connection manager tells the other end.
  SessionLayout layout;
  layout.keepalive = std::chrono::milliseconds(200);
  SessionPair pair(layout);
  Exchange exchange(pair, MessageClass::kLatency);
  ReceiveOperation waiting;
  exchange.to->Receive(waiting);
  pair.Break(0, 0);
  pair.Break(0, 1);
  ASSERT_TRUE(pair.Run([&] { return pair.ended(0) && pair.ended(1); }));
  EXPECT_TRUE(waiting.done());
  EXPECT_FALSE(waiting.status().ok());
  SendOperation late;
  late.set_piece({});
  exchange.from->Send(late);
  pair.Run([&late] { return late.done(); });
  EXPECT_FALSE(late.status().ok());
}

TEST_F(SessionOnVerbs, AReceiveIntoMemoryOfTheApplicationsIsFilledByThePeer) {
  SessionPair pair(SessionLayout{});
  Exchange exchange(pair, MessageClass::kBulk);
  exchange.Send(MessageOf(5 << 20, 1));
  std::vector<std::byte> memory(6 << 20);
  ReceiveOperation operation;
  operation.set_into({.bytes = memory});
  exchange.to->Receive(operation);
  ASSERT_TRUE(pair.Run([&operation] { return operation.done(); }));
  ASSERT_TRUE(operation.status().ok()) << operation.status();
  ASSERT_EQ(operation.size(), size_t{5} << 20);
  EXPECT_EQ(std::memcmp(memory.data(), exchange.messages[0].data(), 5 << 20),
            0);
  exchange.ExpectAllSent();
}

TEST_P(SessionOnVerbsByLayout, RegisteredMemoryIsUsedWhereItLies) {
  SessionPair pair(Layout());
  std::vector<std::byte> from = MessageOf(3 << 20, 1), into(from.size());
  const auto source =
      verbs::MemoryRegion::Register(pair.pd(0), from, IBV_ACCESS_LOCAL_WRITE);
  const auto target = verbs::MemoryRegion::Register(
      pair.pd(1), into, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  ASSERT_TRUE(source.ok() && target.ok());
  for (const MessageClass each :
       {MessageClass::kLatency, MessageClass::kBulk}) {
    Exchange exchange(pair, each);
    for (const size_t size : {size_t{64}, size_t{8160}, from.size()}) {
      std::ranges::fill(into, std::byte{});
      SendOperation send;
      send.set_piece({.bytes = std::span(from).first(size),
                      .lkey = (*source)->lkey(),
                      .registered = true});
      ReceiveOperation receive;
      receive.set_into(
          {.bytes = into, .rkey = (*target)->rkey(), .registered = true});
      exchange.to->Receive(receive);
      exchange.from->Send(send);
      ASSERT_TRUE(pair.Run([&] { return receive.done() && send.done(); }));
      EXPECT_TRUE(send.status().ok()) << send.status();
      ASSERT_TRUE(receive.status().ok()) << receive.status();
      ASSERT_EQ(receive.size(), size);
      EXPECT_TRUE(std::equal(from.begin(), from.begin() + ptrdiff_t(size),
                             into.begin()));
    }
  }
}

}  // namespace
}  // namespace nd::transport

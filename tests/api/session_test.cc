// Sessions as applications have them, over gRPC and rdma_cm: on the soft
// device, and on rxe in the guest.
#include "nd/session.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/session_impl.h"
#include "base/environment.h"
#include "base/random.h"
#include "nd/reactor.h"
#include "nd/server.h"
#include "nd/stream.h"
#include "verbs/device.h"
#include "verbs/rdma_env.h"

namespace nd {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::nanoseconds kLong = 20s;  // what nobody waits for

std::vector<std::byte> MessageOf(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom(seed).Fill(bytes);
  return bytes;
}

template <typename T>
T OrDie(absl::StatusOr<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.status();
  return *std::move(result);
}

// A server and a client of it, each with a reactor.
class SessionTest : public verbs::RdmaTest {
 protected:
  void Connect(Server::Options server_options = {},
               const Session::Options& client_options = {},
               bool own_threads = true) {
    near_ = OrDie(Reactor::Create({}));
    far_ = OrDie(Reactor::Create({}));
    ASSERT_TRUE(far_->Start().ok());
    if (own_threads) {
      ASSERT_TRUE(near_->Start().ok());
    }
    server_options.address = verbs::LocalAddress(AF_INET).host() + ":0";
    server_options.allow_insecure_remote = true;
    server_ = OrDie(Server::Start({far_.get()}, server_options));
    client_ = OrDie(
        Session::Connect(*near_, server_->address(), client_options, kLong));
    serving_ = OrDie(server_->Accept(kLong));
  }

  // Streams of the class, the client's end and the server's.
  std::pair<Stream, Stream> Open(StreamClass stream_class) {
    Stream ours = OrDie(client_.Open(stream_class, "test", kLong));
    Stream theirs = OrDie(serving_.Accept(kLong));
    return {std::move(ours), std::move(theirs)};
  }

  // At a time, so that none is made anew before the next is lost.
  static void LoseLinks(Session& session, std::vector<uint32_t> links) {
    ASSERT_TRUE(session.impl()
                    .OnReactor(
                        [&links](transport::SessionRuntime& runtime) {
                          for (const uint32_t link : links) {
                            runtime.core().LoseLink(
                                link, absl::UnavailableError("of the test"));
                          }
                        },
                        Instant::max())
                    .ok());
  }
  static bool LinkIsUp(Session& session, uint32_t link) {
    bool up = false;
    EXPECT_TRUE(session.impl()
                    .OnReactor(
                        [&](transport::SessionRuntime& runtime) {
                          up = runtime.core().LinkIsUp(link);
                        },
                        Instant::max())
                    .ok());
    return up;
  }

  std::unique_ptr<Reactor> near_, far_;
  std::unique_ptr<Server> server_;
  Session client_, serving_;
};

void ExpectEcho(Stream& ours, Stream& theirs, size_t size, uint32_t seed) {
  const std::vector<std::byte> sent = MessageOf(size, seed);
  SendOperation send, answer;
  send.set_piece({.bytes = sent});
  ours.Send(send);
  const absl::StatusOr<Message> there = theirs.Receive(kLong);
  ASSERT_TRUE(there.ok()) << there.status();
  answer.set_piece({.bytes = there->bytes()});
  theirs.Send(answer);
  std::vector<std::byte> back(size + 1);
  const absl::StatusOr<size_t> got = ours.ReceiveInto(back, kLong);
  EXPECT_TRUE(theirs.Await(answer).ok()) << answer.status();
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(*got, size);
  EXPECT_TRUE(std::equal(sent.begin(), sent.end(), back.begin()));
  EXPECT_TRUE(ours.Await(send).ok());
}

TEST_F(SessionTest, MessagesOfAnySizeComeBackInBothClasses) {
  Connect();
  for (const StreamClass each : {StreamClass::kLatency, StreamClass::kBulk}) {
    auto [ours, theirs] = Open(each);
    EXPECT_EQ(theirs.name(), "test");
    EXPECT_EQ(theirs.stream_class(), each);
    uint32_t seed = 1;
    for (const size_t size : {0, 1, 64, 8160, 8161, 100'000, 9'000'000}) {
      ExpectEcho(ours, theirs, size, seed++);
    }
  }
}

TEST_F(SessionTest, AnApplicationOfOneThreadPollsItsReactorInCallsThatBlock) {
  Connect({}, {}, false);
  auto [ours, theirs] = Open(StreamClass::kLatency);
  for (uint32_t i = 0; i < 10; ++i) {
    const std::vector<std::byte> sent = MessageOf(1000 * i, i);
    ASSERT_TRUE(ours.Send(sent, kLong).ok());
    const Message there = OrDie(theirs.Receive(kLong));
    SendOperation answer;
    answer.set_piece({.bytes = there.bytes()});
    theirs.Send(answer);
    EXPECT_TRUE(std::ranges::equal(OrDie(ours.Receive(kLong)).bytes(), sent));
    EXPECT_TRUE(theirs.Await(answer).ok());
  }
}

TEST_F(SessionTest, ALostConnectionLosesNothingAndIsMadeAnew) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  for (uint32_t round = 0; round < 4; ++round) {
    LoseLinks(round % 2 == 0 ? client_ : serving_, {round / 2});
    for (uint32_t i = 0; i < 20; ++i) ExpectEcho(ours, theirs, 3000 * i, i);
    while (!LinkIsUp(client_, round / 2) || !LinkIsUp(serving_, round / 2)) {
      ASSERT_TRUE(client_.status().ok()) << client_.status();
      std::this_thread::yield();
    }
  }
}

TEST_F(SessionTest, WithoutAnyConnectionASessionWaitsForItsReconnectTime) {
  Connect({.reconnect = kLong}, {.reconnect = kLong});
  auto [ours, theirs] = Open(StreamClass::kBulk);
  for (uint32_t round = 0; round < 3; ++round) {
    LoseLinks(client_, {0, 1});
    for (uint32_t i = 0; i < 10; ++i) ExpectEcho(ours, theirs, 9000 * i, i);
  }
}

TEST_F(SessionTest, WithoutReconnectTimeTheLossOfAllConnectionsEndsEverything) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ReceiveOperation waiting;
  theirs.Receive(waiting);
  LoseLinks(client_, {0, 1});
  EXPECT_FALSE(theirs.Await(waiting).ok());
  EXPECT_TRUE(serving_.impl().AwaitEnd(api::After(kLong)));
  EXPECT_TRUE(client_.impl().AwaitEnd(api::After(kLong)));
  EXPECT_TRUE(absl::IsUnavailable(client_.status())) << client_.status();
  EXPECT_FALSE(ours.Send({}, kLong).ok());
}

TEST_F(SessionTest, APeacefulEndGivesOutWhatWasSentBefore) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  const std::vector<std::byte> last = MessageOf(20'000, 1);
  SendOperation send;
  send.set_piece({.bytes = last});
  ours.Send(send);
  ours.Finish();
  EXPECT_EQ(OrDie(theirs.Receive(kLong)).size(), last.size());
  EXPECT_TRUE(absl::IsOutOfRange(theirs.Receive(kLong).status()));
  theirs.Finish();
  std::thread there([this] {
    const absl::Status closed = serving_.Close(kLong);
    EXPECT_TRUE(closed.ok()) << closed;
  });
  const absl::Status closed = client_.Close(kLong);
  EXPECT_TRUE(closed.ok()) << closed;
  there.join();
  EXPECT_TRUE(absl::IsCancelled(client_.status())) << client_.status();
  EXPECT_TRUE(ours.Await(send).ok());
}

TEST_F(SessionTest, ASessionThatIsDroppedEndsAtItsPeer) {
  Connect();
  AcceptOperation waiting;
  serving_.Accept(waiting);
  client_ = Session();
  EXPECT_TRUE(serving_.impl().AwaitEnd(api::After(kLong)));
  waiting.Wait();
  EXPECT_FALSE(waiting.status().ok());
}

TEST_F(SessionTest, ManyThreadsShareASessionOfAnothersReactor) {
  Connect();
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    auto streams = std::make_shared<std::pair<Stream, Stream>>(
        Open(t % 2 == 0 ? StreamClass::kLatency : StreamClass::kBulk));
    threads.emplace_back([streams, t] {
      for (uint32_t i = 0; i < 30; ++i) {
        ExpectEcho(streams->first, streams->second, 700 * i, 100 * t + i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SessionTest, SixtyFourStreamsCarryMessagesAtOnce) {
  Connect();
  struct Traffic {
    std::pair<Stream, Stream> ends;
    std::vector<std::byte> sent;
    SendOperation send;
    ReceiveOperation receive;
  };
  std::vector<std::unique_ptr<Traffic>> all;
  for (uint32_t i = 0; i < 64; ++i) {
    auto& each = *all.emplace_back(std::make_unique<Traffic>());
    each.ends = Open(i % 2 == 0 ? StreamClass::kLatency : StreamClass::kBulk);
    each.sent = MessageOf(1000 * i, i);
    each.send.set_piece({.bytes = each.sent});
  }
  EXPECT_TRUE(absl::IsResourceExhausted(
      client_.Open(StreamClass::kBulk, "one more", kLong).status()));
  for (const auto& each : all) each->ends.first.Send(each->send);
  for (const auto& each : all) each->ends.second.Receive(each->receive);
  for (const auto& each : all) {
    ASSERT_TRUE(each->ends.second.Await(each->receive).ok());
    EXPECT_TRUE(
        std::ranges::equal(each->receive.message().bytes(), each->sent));
    EXPECT_TRUE(each->ends.first.Await(each->send).ok());
  }
}

// ND_API_SESSIONS=1000 for more.
TEST_F(SessionTest, OneServerHasManySessionsThatAreOpenedAtOnce) {
  const char* const wanted = Environment("ND_API_SESSIONS");
  // Each end of a session has two completion queues.
  const int room = OrDie(verbs::Context::Open(""))->limits().max_cq / 8;
  const size_t count = *wanted == '\0'
                           ? static_cast<size_t>(std::clamp(room, 1, 40))
                           : std::stoul(wanted);
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  SessionLayout small;
  small.slots = 8;
  small.slot_size = 1024;
  small.eager_limit = 900;
  small.stream_window = 64 << 10;
  small.max_streams = 4;
  small.receive_budget = 1 << 20;
  Connect({}, {.layout = small});
  std::vector<Session> ours(count), theirs(count);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < count; i += 8) {
        auto session = Session::Connect(*near_, server_->address(),
                                        {.layout = small}, 5 * kLong);
        ASSERT_TRUE(session.ok()) << session.status();
        ours[i] = *std::move(session);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Session& session : theirs) session = OrDie(server_->Accept(kLong));
  for (Session& session : ours) {
    Stream stream = OrDie(session.Open(StreamClass::kLatency, "one", kLong));
    EXPECT_TRUE(stream.Send(MessageOf(500, 1), kLong).ok());
    stream.Finish();
  }
  for (Session& session : theirs) {
    Stream stream = OrDie(session.Accept(kLong));
    EXPECT_EQ(OrDie(stream.Receive(kLong)).size(), 500u);
  }
}

TEST_F(SessionTest, AMessageOnLoanMayBeDroppedWhenItsSessionIsGone) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  const std::vector<std::byte> sent = MessageOf(5000, 7);
  ASSERT_TRUE(ours.Send(sent, kLong).ok());
  Message kept = OrDie(theirs.Receive(kLong));
  theirs = Stream();
  serving_ = Session();
  EXPECT_TRUE(std::ranges::equal(kept.bytes(), sent));
}

TEST_F(SessionTest, AReceiveThatNobodyAnswersEndsWithItsDeadline) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  EXPECT_TRUE(absl::IsDeadlineExceeded(ours.Receive(1ms).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client_.Accept(1ms).status()));
  ReceiveOperation given_up;
  ours.Receive(given_up);
  ours.Cancel(given_up);
  EXPECT_TRUE(absl::IsCancelled(ours.Await(given_up)));
  ExpectEcho(ours, theirs, 10, 1);
}

TEST_F(SessionTest, ACallThatBlocksIsRefusedInACallback) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  struct Seen {
    Stream& stream;
    Session& session;
    absl::Status sent, accepted, closed;
  } seen{ours, client_, {}, {}, {}};
  SendOperation send;
  send.set_piece({});
  send.OnDone(
      [](Operation&, void* context) {
        auto& here = *static_cast<Seen*>(context);
        here.sent = here.stream.Send({}, kLong);
        here.accepted = here.session.Accept(kLong).status();
        here.closed = here.session.Close(kLong);
      },
      &seen);
  ours.Send(send);
  // Behind the callback, on the same thread.
  ASSERT_TRUE(OrDie(theirs.Receive(kLong)).size() == 0);
  ASSERT_TRUE(ours.Await(send).ok());
  ASSERT_TRUE(ours.Send({}, kLong).ok());
  for (const absl::Status& each : {seen.sent, seen.accepted, seen.closed}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(each)) << each;
  }
}

TEST_F(SessionTest, WhoCannotBeReachedIsNamed) {
  near_ = OrDie(Reactor::Create({}));
  const absl::Status none =
      Session::Connect(*near_, verbs::LocalAddress(AF_INET).host() + ":9", {},
                       5s)
          .status();
  EXPECT_TRUE(absl::IsUnavailable(none) || absl::IsDeadlineExceeded(none))
      << none;
  EXPECT_NE(none.message().find(verbs::LocalAddress(AF_INET).host()),
            std::string::npos);
  for (const char* const wrong :
       {"", "host", "host:", "host:70000", "::1:80"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        Session::Connect(*near_, wrong, {}, 5s).status()))
        << wrong;
  }
  Session::Options options;
  options.layout.slots = 1;
  far_ = OrDie(Reactor::Create({}));
  server_ = OrDie(Server::Start({far_.get()}, {}));
  const absl::Status refused =
      Session::Connect(*near_, server_->address(), options, 5s).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_NE(refused.message().find("slots"), std::string::npos) << refused;
}

}  // namespace
}  // namespace nd

// Sessions in reactors: on the soft device, and on rxe in the guest.
#include "transport/endpoint/session_runtime.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/until_true.h"
#include "transport/endpoint/runtime_pair.h"
#include "verbs/rdma_env.h"

namespace nd::transport {
namespace {

using Progress = Reactor::Progress;

std::vector<std::byte> MessageOf(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom(seed).Fill(bytes);
  return bytes;
}

absl::Status SendFrom(Side& side, Stream& stream,
                      std::span<const std::byte> bytes) {
  SendOperation operation;
  operation.set_piece({.bytes = bytes});
  operation.set_deadline(Late());
  side.Send(stream, operation);
  operation.Wait();
  return operation.status();
}

void ExpectFrom(Side& side, Stream& stream,
                std::span<const std::byte> expected) {
  ReceiveOperation operation;
  operation.set_deadline(Late());
  side.Receive(stream, operation);
  operation.Wait();
  ASSERT_TRUE(operation.status().ok()) << operation.status();
  EXPECT_TRUE(std::ranges::equal(operation.message().bytes(), expected));
  // The loan is dropped here, which is not the reactor's thread.
}

class RuntimeByProgress : public verbs::RdmaTest,
                          public testing::WithParamInterface<Progress> {};
class Runtime : public verbs::RdmaTest {};
class RuntimeAccept : public verbs::RdmaTest {};
class ReactorInALoop : public testing::Test {};

INSTANTIATE_TEST_SUITE_P(, RuntimeByProgress,
                         testing::Values(Progress::kBusy, Progress::kEvent,
                                         Progress::kAdaptive),
                         [](const auto& tested) {
                           switch (tested.param) {
                             case Progress::kBusy:
                               return "Busy";
                             case Progress::kEvent:
                               return "Event";
                             case Progress::kAdaptive:
                               break;
                           }
                           return "Adaptive";
                         });

TEST_P(RuntimeByProgress, MessagesOfAnySizeArriveUnchangedBothWays) {
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  std::vector<std::vector<std::byte>> messages;
  for (const size_t size : {0, 1, 64, 8160, 8161, 65536, 1 << 20, 3 << 20}) {
    messages.push_back(MessageOf(size, uint32_t(messages.size())));
  }
  std::vector<std::thread> threads;
  for (const MessageClass message_class :
       {MessageClass::kLatency, MessageClass::kBulk}) {
    const auto ends = pair.OpenStream(0, message_class);
    for (size_t from = 0; from < 2; ++from) {
      threads.emplace_back([&pair, &messages, from, end = ends[from]] {
        for (const auto& message : messages) {
          const absl::Status sent = SendFrom(pair.side(from), *end, message);
          EXPECT_TRUE(sent.ok()) << sent;
        }
      });
      threads.emplace_back(
          [&pair, &messages, to = 1 - from, end = ends[1 - from]] {
            for (const auto& message : messages) {
              ExpectFrom(pair.side(to), *end, message);
            }
          });
    }
  }
  for (std::thread& each : threads) each.join();
}

// The acknowledgement of a message often comes with the answer to it.
TEST_P(RuntimeByProgress, ASendEndsAlsoWhereItsAnswerIsTheLastThatComes) {
  constexpr int kRounds = 20;
  struct Echo {
    Stream& stream;
    ReceiveOperation receive{};
    SendOperation send{};
  };
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  Echo echo{.stream = *ends[1]};
  echo.receive.OnDone(
      [](Operation& operation, void* context) {
        if (!operation.status().ok()) return;
        auto& its = *static_cast<Echo*>(context);
        its.receive.message().Drop();
        its.stream.Send(its.send);
      },
      &echo);
  const std::vector<std::byte> bytes = MessageOf(64, 1);
  for (int i = 0; i < kRounds; ++i) {
    pair.side(1).Receive(*ends[1], echo.receive);
    ReceiveOperation answer;
    pair.side(0).Receive(*ends[0], answer);
    ASSERT_TRUE(SendFrom(pair.side(0), *ends[0], bytes).ok());
    answer.Wait();
    ASSERT_TRUE(answer.status().ok()) << answer.status();
    echo.receive.Wait();
    echo.send.Wait();
    ASSERT_TRUE(echo.send.status().ok()) << echo.send.status();
  }
}

// Whoever waits for an operation polls on while nothing comes.
TEST_P(RuntimeByProgress, ATurnInWhichASendEndsSaysThatSomethingCame) {
  constexpr int kRounds = 100;
  struct Echo {
    Stream* stream = nullptr;
    ReceiveOperation receive{};
    std::array<SendOperation, kRounds> sends{};  // each once
    size_t next = 0;
  } echo;
  echo.receive.OnDone(
      [](Operation& operation, void* context) {
        if (!operation.status().ok()) return;
        auto& its = *static_cast<Echo*>(context);
        its.receive.message().Drop();
        its.stream->Send(its.sends.at(its.next++));
        its.stream->Receive(its.receive);
      },
      &echo);
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  echo.stream = ends[1];
  pair.side(1).Receive(*echo.stream, echo.receive);
  int silent = 0;
  pair.side(0).On([&] {
    Engine& engine = pair.side(0).engine();
    SessionRuntime& runtime = pair.side(0).runtime();
    std::array<SendOperation, 4> sends;
    const Instant end = Late();
    const auto turn_until = [&](const Operation& operation) {
      while (operation.pending() && engine.Now() < end) {
        const auto pending = [&sends] {
          return std::ranges::count_if(sends, &SendOperation::pending);
        };
        const auto before = pending();
        if (!runtime.Turn(engine.Now()) && pending() < before) ++silent;
      }
    };
    for (int i = 0; i < kRounds; ++i) {
      SendOperation& send = sends[i % sends.size()];
      turn_until(send);
      ReceiveOperation answer;
      ends[0]->Receive(answer);
      ends[0]->Send(send);
      turn_until(answer);
      ASSERT_TRUE(answer.done() && answer.status().ok());
      answer.message().Drop();
    }
    for (const SendOperation& send : sends) turn_until(send);
  });
  EXPECT_EQ(silent, 0);
}

TEST_P(RuntimeByProgress, LongMessagesLeaveMemoryThatCannotBeRegistered) {
  RuntimePair pair(GetParam());
  pair.side(0).LimitRegistrations(0);
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kBulk);
  for (const size_t size : {100'000, 1 << 20, (5 << 20) + 1}) {
    const std::vector<std::byte> message = MessageOf(size, 1);
    std::thread sender([&] {
      const absl::Status sent = SendFrom(pair.side(0), *ends[0], message);
      EXPECT_TRUE(sent.ok()) << sent;
    });
    ExpectFrom(pair.side(1), *ends[1], message);
    sender.join();
  }
}

TEST_P(RuntimeByProgress, ManyThreadsUseStreamsOfTheirOwn) {
  constexpr uint32_t kThreads = 3, kEach = 100;
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    const auto ends = pair.OpenStream(t % 2, MessageClass::kLatency);
    threads.emplace_back([&pair, end = ends[0], t] {
      for (uint32_t i = 0; i < kEach; ++i) {
        const absl::Status sent = SendFrom(
            pair.side(0), *end, MessageOf(size_t{i} * 10, t * kEach + i));
        EXPECT_TRUE(sent.ok()) << sent;
      }
    });
    threads.emplace_back([&pair, end = ends[1], t] {
      for (uint32_t i = 0; i < kEach; ++i) {
        ExpectFrom(pair.side(1), *end,
                   MessageOf(size_t{i} * 10, t * kEach + i));
      }
    });
  }
  for (std::thread& each : threads) each.join();
}

// A ping-pong that lives in callbacks, all on the thread of its reactor.
class Player {
 public:
  Player(Stream& stream, bool serves, uint32_t rounds)
      : stream_(stream), rounds_(rounds), to_send_(serves ? 1 : 0) {
    send_.OnDone(
        [](Operation&, void* its) { static_cast<Player*>(its)->OnSent(); },
        this);
    receive_.OnDone(
        [](Operation&, void* its) { static_cast<Player*>(its)->OnReceived(); },
        this);
  }
  void Start() {
    stream_.Receive(receive_);
    MaybeSend();
  }
  bool done() const { return done_; }

 private:
  static size_t SizeOf(uint32_t round) { return round * 997 % 20'000; }

  void MaybeSend() {
    if (sent_ == to_send_ || send_.pending()) return;
    send_.set_piece({.bytes = std::span(bytes_).first(SizeOf(sent_++))});
    stream_.Send(send_);
  }
  void OnSent() {
    EXPECT_TRUE(send_.status().ok()) << send_.status();
    MaybeSend();
    if (received_ == rounds_ && sent_ == rounds_) done_ = true;
  }
  void OnReceived() {
    ASSERT_TRUE(receive_.status().ok()) << receive_.status();
    EXPECT_EQ(receive_.size(), SizeOf(received_));
    receive_.message().Drop();
    ++received_;
    to_send_ = std::min(to_send_ + 1, rounds_);
    if (received_ < rounds_) stream_.Receive(receive_);
    MaybeSend();
    if (received_ == rounds_ && sent_ == rounds_ && !send_.pending()) {
      done_ = true;
    }
  }

  Stream& stream_;
  const uint32_t rounds_;
  uint32_t to_send_, sent_ = 0, received_ = 0;
  const std::vector<std::byte> bytes_ = std::vector<std::byte>(20'000);
  SendOperation send_;
  ReceiveOperation receive_;
  std::atomic<bool> done_{false};
};

// What an application of eight threads does, for ThreadSanitizer: each has a
// reactor that it runs itself, and more threads post to these.
TEST_F(Runtime, EightThreadsRunTheirReactorsAndOthersPostToThem) {
  // Abseil's table of errors is made here: TSan does not see how the library,
  // which is not built with it, would guard that against several threads.
  (void)absl::ErrnoToStatus(ENOMEM, "");
  constexpr size_t kPairs = 4;
  constexpr uint32_t kRounds = 60;
  std::vector<std::unique_ptr<RuntimePair>> pairs;
  std::deque<Player> players;
  std::vector<std::array<Stream*, 2>> posted;
  for (size_t i = 0; i < kPairs; ++i) {
    RuntimePair& pair = *pairs.emplace_back(std::make_unique<RuntimePair>(
        i % 2 == 0 ? Progress::kEvent : Progress::kAdaptive));
    ASSERT_TRUE(pair.ConnectAll().ok());
    const auto own = pair.OpenStream(0, MessageClass::kLatency);
    for (size_t side = 0; side < 2; ++side) {
      players.emplace_back(*own[side], side == 0, kRounds);
    }
    posted.push_back(pair.OpenStream(1, MessageClass::kBulk));
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> runners, posters;
  for (size_t i = 0; i < 2 * kPairs; ++i) {
    Engine& engine = pairs[i / 2]->side(i % 2).engine();
    engine.Stop();
    runners.emplace_back([&engine, &stop, player = &players[i]] {
      engine.Adopt();
      player->Start();
      engine.RunUntil([&stop] { return stop.load(); }, Late());
    });
  }
  for (size_t i = 0; i < kPairs; ++i) {
    posters.emplace_back([&side = pairs[i]->side(0), end = posted[i][0]] {
      for (uint32_t n = 0; n < kRounds; ++n) {
        const absl::Status sent =
            SendFrom(side, *end, MessageOf(size_t{n} * 150, n));
        EXPECT_TRUE(sent.ok()) << sent;
      }
    });
    posters.emplace_back([&side = pairs[i]->side(1), end = posted[i][1]] {
      for (uint32_t n = 0; n < kRounds; ++n) {
        ExpectFrom(side, *end, MessageOf(size_t{n} * 150, n));
      }
    });
  }
  for (std::thread& each : posters) each.join();
  EXPECT_TRUE(UntilTrue([&players] {
                return std::ranges::all_of(
                    players, [](const Player& each) { return each.done(); });
              }).ok());
  stop = true;
  for (const auto& pair : pairs) {
    for (size_t side = 0; side < 2; ++side) pair->side(side).engine().Nudge();
  }
  for (std::thread& each : runners) each.join();
  for (const auto& pair : pairs) {
    for (size_t side = 0; side < 2; ++side) {
      EXPECT_TRUE(pair->side(side).engine().Start().ok());
      SessionStatistics statistics;
      pair->side(side).On([&] {
        statistics = pair->side(side).runtime().core().Statistics(Late());
      });
      EXPECT_EQ(statistics.latency.sent.messages, kRounds);
      EXPECT_EQ(statistics.latency.received.messages, kRounds);
    }
  }
}

// Loans that are dropped while the reactor is busy with something else find no
// room in its ring.
TEST_F(Runtime, TakesMoreLoansBackAtATimeThanItHasRoomFor) {
  constexpr size_t kLoans = 1500;
  SessionLayout layout;
  layout.stream_window = 4 << 20;
  RuntimePair pair(Progress::kEvent, layout);
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  const std::vector<std::byte> bytes = MessageOf(16, 1);
  std::deque<SendOperation> sends(kLoans);
  std::deque<ReceiveOperation> receives(kLoans);
  for (size_t i = 0; i < kLoans; ++i) {
    sends[i].set_piece({.bytes = bytes});
    sends[i].set_deadline(Late());
    receives[i].set_deadline(Late());
    pair.side(1).Receive(*ends[1], receives[i]);
    pair.side(0).Send(*ends[0], sends[i]);
  }
  for (size_t i = 0; i < kLoans; ++i) {
    sends[i].Wait();
    receives[i].Wait();
    ASSERT_TRUE(receives[i].status().ok()) << i << receives[i].status();
  }
  pair.side(1).Close(*ends[1]);
  pair.side(1).Bury();
  std::atomic<bool> held{false}, go_on{false};
  std::thread holder([&] {
    pair.side(1).On([&] {
      held = true;
      while (!go_on) std::this_thread::yield();
    });
  });
  ASSERT_TRUE(UntilTrue([&held] { return held.load(); }).ok());
  EXPECT_FALSE(pair.side(1).destroyed());
  std::thread other([&] {
    for (size_t i = 0; i < kLoans; i += 2) receives[i].message().Drop();
  });
  for (size_t i = 1; i < kLoans; i += 2) receives[i].message().Drop();
  other.join();
  go_on = true;
  holder.join();
  EXPECT_TRUE(UntilTrue([&pair] { return pair.side(1).destroyed(); }).ok());
}

TEST_P(RuntimeByProgress, ALinkThatBreaksLosesNothingAndIsMadeAnew) {
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kBulk);
  constexpr uint32_t kMessages = 40;
  std::atomic<uint32_t> received{0};
  std::thread receiver([&] {
    for (uint32_t i = 0; i < kMessages; ++i) {
      ExpectFrom(pair.side(1), *ends[1],
                 MessageOf(i % 5 == 0 ? 300000 : 100 * i, i));
      if (++received == 10) pair.side(1).Break(1);
    }
  });
  for (uint32_t i = 0; i < kMessages; ++i) {
    const absl::Status sent = SendFrom(
        pair.side(0), *ends[0], MessageOf(i % 5 == 0 ? 300000 : 100 * i, i));
    EXPECT_TRUE(sent.ok()) << sent;
  }
  receiver.join();
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(UntilTrue([&] { return pair.side(i).free_links() == 2; }).ok());
    pair.side(i).On([&] { EXPECT_TRUE(pair.side(i).runtime().LinkIsFree(1)); });
  }
  const absl::Status again = pair.Connect(1, 1);
  ASSERT_TRUE(again.ok()) << again;
  // It carries the class again: the other one is taken away.
  pair.side(0).Break(0);
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(UntilTrue([&] { return pair.side(i).free_links() == 3; }).ok());
  }
  std::thread last(
      [&] { ExpectFrom(pair.side(1), *ends[1], MessageOf(1 << 20, 99)); });
  const absl::Status sent =
      SendFrom(pair.side(0), *ends[0], MessageOf(1 << 20, 99));
  EXPECT_TRUE(sent.ok()) << sent;
  last.join();
}

// Without a keepalive: the connection manager tells.
TEST_P(RuntimeByProgress, AnEndThatGoesIsNoticedByTheOther) {
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  ReceiveOperation waiting;
  waiting.set_deadline(Late());
  pair.side(1).Receive(*ends[1], waiting);
  pair.side(0).Close(*ends[0]);
  pair.side(0).Bury();
  waiting.Wait();
  EXPECT_FALSE(waiting.status().ok());
  EXPECT_NE(waiting.status().code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_TRUE(UntilTrue([&] { return pair.side(1).ended().has_value(); }).ok());
  EXPECT_FALSE(pair.side(1).ended()->ok());
  EXPECT_TRUE(UntilTrue([&] { return pair.side(0).destroyed(); }).ok());
}

// A thread that waits for events of its own id reads those of the sessions'.
TEST_F(Runtime, IsToldOfEventsThatAnotherThreadHasRead) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.ConnectAll().ok());
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  std::thread reader([&] {
    EXPECT_EQ(
        (*id)->NextEvent(Deadline::After(kLongTime), &*cancel).status().code(),
        absl::StatusCode::kCancelled);
  });
  pair.side(1).Bury();
  EXPECT_TRUE(UntilTrue([&] { return pair.side(0).ended().has_value(); }).ok());
  cancel->Cancel();
  reader.join();
}

TEST_F(Runtime, ALinkThatThePeerHasLeftWhileItWasSetUpIsLostWhenItIsOpened) {
  SessionLayout layout;
  layout.bulk_links = 0;
  RuntimePair pair(Progress::kEvent, layout);
  std::unique_ptr<verbs::CmId> accepted;
  std::thread server([&] {
    auto event = pair.listener().Next(Deadline::After(kLongTime), nullptr);
    ASSERT_TRUE(event.ok()) << event.status();
    accepted = std::move(event->request);
    ASSERT_TRUE(pair.side(1).Begin(*accepted).ok());
    const auto channel = pair.side(1).hub().CmChannel(Late());
    ASSERT_TRUE(channel.ok()) << channel.status();
    const auto qp = pair.side(1).Prepare(0, 0, *accepted);
    ASSERT_TRUE(qp.ok()) << qp.status();
    const absl::Status done = accepted->Accept(
        **qp, {}, nullptr, Deadline::After(kLongTime), nullptr);
    ASSERT_TRUE(done.ok()) << done;
  });
  // The server's thread listens for this one only.
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  const auto qp = pair.side(0).Prepare(0, 0, **id);
  ASSERT_TRUE(qp.ok()) << qp.status();
  const auto answer =
      (*id)->Connect(**qp, {}, nullptr, Deadline::After(kLongTime), nullptr);
  ASSERT_TRUE(answer.ok()) << answer.status();
  server.join();
  pair.side(0).Abandon(0);
  id->reset();
  const absl::Status disconnected = UntilTrue([&accepted] {
    pollfd entry{.fd = accepted->fd(), .events = POLLIN, .revents = 0};
    return poll(&entry, 1, 0) == 1;
  });
  ASSERT_TRUE(disconnected.ok());
  const auto channel = pair.side(1).hub().CmChannel(Late());
  ASSERT_TRUE(accepted->Migrate(*channel).ok());
  // The reactor files it: behind the first call it has looked.
  for (int i = 0; i < 2; ++i) pair.side(1).On([] {});
  pair.side(1).Open(0, std::move(accepted));
  EXPECT_TRUE(UntilTrue([&] { return pair.side(1).ended().has_value(); }).ok());
}

TEST_F(Runtime, ALinkThatIsThereIsNotPreparedAgain) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.Connect(0).ok());
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(pair.side(0).Prepare(0, 1, **id).status().code(),
            absl::StatusCode::kFailedPrecondition);
  // One that is being set up is there as well.
  ASSERT_TRUE(pair.side(0).Prepare(1, 0, **id).ok());
  auto other = pair.Resolve();
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(pair.side(0).Prepare(1, 1, **other).status().code(),
            absl::StatusCode::kFailedPrecondition);
  pair.side(0).Abandon(1);
}

TEST_F(Runtime, ALinkWhoseSetUpIsGivenUpIsFreeAgain) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.Connect(0).ok());
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  ASSERT_TRUE(pair.side(0).Prepare(1, 0, **id).ok());
  pair.side(0).Abandon(1);
  ASSERT_TRUE(UntilTrue([&] { return pair.side(0).free_links() == 2; }).ok());
  const absl::Status connected = pair.Connect(1, 1);
  EXPECT_TRUE(connected.ok()) << connected;
  const auto ends = pair.OpenStream(1, MessageClass::kBulk);
  std::thread receiver(
      [&] { ExpectFrom(pair.side(0), *ends[0], MessageOf(100000, 1)); });
  EXPECT_TRUE(SendFrom(pair.side(1), *ends[1], MessageOf(100000, 1)).ok());
  receiver.join();
}

TEST_F(Runtime, ASessionThatHasEndedIsGivenNoLink) {
  RuntimePair pair(Progress::kEvent);
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  pair.side(0).On(
      [&] { pair.side(0).runtime().core().Fail(absl::AbortedError("why")); });
  EXPECT_EQ(pair.side(0).Prepare(0, 0, **id).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

// While another thread sets it up.
TEST_F(Runtime, ASessionThatEndsDuringASetUpWaitsForIt) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.Connect(0).ok());
  auto id = pair.Resolve();
  ASSERT_TRUE(id.ok()) << id.status();
  const auto qp = pair.side(0).Prepare(1, 0, **id);
  ASSERT_TRUE(qp.ok()) << qp.status();
  pair.side(0).On(
      [&] { pair.side(0).runtime().core().Fail(absl::AbortedError("why")); });
  // The QP has been moved to the error state, and is there.
  const auto answer = (*id)->Connect(
      **qp, {}, nullptr, Deadline::After(std::chrono::seconds(0)), nullptr);
  EXPECT_FALSE(answer.ok());
  EXPECT_FALSE(pair.side(0).ended().has_value());
  pair.side(0).Abandon(1);
  ASSERT_TRUE(UntilTrue([&] { return pair.side(0).ended().has_value(); }).ok());
  EXPECT_EQ(pair.side(0).ended()->code(), absl::StatusCode::kAborted);
}

TEST_P(RuntimeByProgress, IsDestroyedWhenItsLastLoanIsBack) {
  RuntimePair pair(GetParam());
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  ReceiveOperation small, large;
  small.set_deadline(Late());
  large.set_deadline(Late());
  pair.side(1).Receive(*ends[1], small);
  pair.side(1).Receive(*ends[1], large);
  EXPECT_TRUE(SendFrom(pair.side(0), *ends[0], MessageOf(100, 1)).ok());
  EXPECT_TRUE(SendFrom(pair.side(0), *ends[0], MessageOf(1 << 20, 2)).ok());
  small.Wait();
  large.Wait();
  pair.side(1).Close(*ends[1]);
  pair.side(1).Bury();
  // Side 0 learns of it when side 1 has let go of its links.
  ASSERT_TRUE(UntilTrue([&] { return pair.side(0).ended().has_value(); }).ok());
  pair.side(1).On([] {});
  EXPECT_FALSE(pair.side(1).destroyed());
  EXPECT_TRUE(std::ranges::equal(small.message().bytes(), MessageOf(100, 1)));
  EXPECT_TRUE(
      std::ranges::equal(large.message().bytes(), MessageOf(1 << 20, 2)));
  small.message().Drop();
  pair.side(1).On([] {});
  EXPECT_FALSE(pair.side(1).destroyed());
  large.message().Drop();
  EXPECT_TRUE(UntilTrue([&] { return pair.side(1).destroyed(); }).ok());
}

// Streams that the peer has opened and nobody took are nobody's loans.
TEST_F(Runtime, AbandonedItClosesTheStreamsThatNobodyHasAccepted) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.ConnectAll().ok());
  pair.side(0).On([&] {
    auto stream =
        pair.side(0).runtime().core().OpenStream(MessageClass::kBulk, "x");
    ASSERT_TRUE(stream.ok()) << stream.status();
  });
  ASSERT_TRUE(UntilTrue([&pair] {
                size_t streams = 0;
                pair.side(1).On(
                    [&] { streams = pair.side(1).runtime().core().streams(); });
                return streams == 1;
              }).ok());
  pair.side(1).Bury();
  EXPECT_TRUE(UntilTrue([&] { return pair.side(1).destroyed(); }).ok());
}

TEST_F(Runtime, InEventModeItSleepsAndTurnsOnlyWhenSomethingComes) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.ConnectAll().ok());
  const auto ends = pair.OpenStream(0, MessageClass::kLatency);
  const auto statistics = [&pair] {
    Engine::Statistics now;
    pair.side(1).On([&] { now = pair.side(1).engine().statistics(); });
    return now;
  };
  const uint64_t before = statistics().sleeps;
  for (uint32_t i = 0; i < 5; ++i) {
    std::thread sender(
        [&] { EXPECT_TRUE(SendFrom(pair.side(0), *ends[0], {}).ok()); });
    ExpectFrom(pair.side(1), *ends[1], {});
    sender.join();
  }
  EXPECT_GT(statistics().sleeps, before);
  // Nothing is sent: nothing is turned, however long. A busy one turns many
  // thousand times meanwhile.
  const auto idle = [&] {
    const uint64_t turns = statistics().turns;
    absl::SleepFor(absl::Milliseconds(200));
    return statistics().turns - turns;
  };
  ASSERT_TRUE(UntilTrue([&idle] { return idle() < 10; }).ok());
}

// --- accepting ---

TEST_F(RuntimeAccept, EndsAtItsDeadline) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.ConnectAll().ok());
  SubmittedAccept accept;
  accept.set_deadline(Clock::Monotonic().Now() + std::chrono::milliseconds(5));
  accept.Submit(pair.side(1));
  accept.Wait();
  EXPECT_EQ(accept.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(accept.stream(), nullptr);
  // It can be started again.
  accept.set_deadline(Late());
  accept.Submit(pair.side(1));
  pair.side(0).On([&] {
    EXPECT_TRUE(pair.side(0)
                    .runtime()
                    .core()
                    .OpenStream(MessageClass::kBulk, "x")
                    .ok());
  });
  accept.Wait();
  ASSERT_TRUE(accept.status().ok()) << accept.status();
  EXPECT_EQ(accept.stream()->name(), "x");
}

TEST_F(RuntimeAccept, EndsWithItsSession) {
  RuntimePair pair(Progress::kEvent);
  ASSERT_TRUE(pair.ConnectAll().ok());
  SubmittedAccept accept, late;
  accept.Submit(pair.side(1));
  pair.side(0).Bury();
  accept.Wait();
  EXPECT_FALSE(accept.status().ok());
  late.Submit(pair.side(1));
  late.Wait();
  EXPECT_FALSE(late.status().ok());
}

// --- nd::Reactor ---

TEST_F(ReactorInALoop, NeedsNoDevice) {
  auto reactor = Reactor::Create({.progress = Progress::kEvent});
  ASSERT_TRUE(reactor.ok()) << reactor.status();
  EXPECT_FALSE((*reactor)->Poll());
  EXPECT_TRUE((*reactor)->PrepareToSleep().has_value());
  std::thread other([&] {
    EXPECT_TRUE((*reactor)->hub().engine().Call([] {}, Late()).ok());
  });
  pollfd entry{.fd = (*reactor)->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&entry, 1, 60000), 1);
  EXPECT_TRUE((*reactor)->Poll());
  other.join();
  ASSERT_TRUE((*reactor)->Start().ok());
  EXPECT_EQ((*reactor)->Start().code(), absl::StatusCode::kFailedPrecondition);
  (*reactor)->Stop();
}

}  // namespace
}  // namespace nd::transport

// Sessions as applications have them, over gRPC and rdma_cm: on the soft
// device, and on rxe in the guest.
#include "nd/session.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "api/session_impl.h"
#include "base/environment.h"
#include "base/random.h"
#include "nd/reactor.h"
#include "nd/server.h"
#include "nd/stream.h"
#include "tcp_proxy.h"
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
               bool own_threads = true,
               const Reactor::Options& client_reactor = {}) {
    near_ = OrDie(Reactor::Create(client_reactor));
    far_ = OrDie(Reactor::Create({}));
    ASSERT_TRUE(far_->Start().ok());
    if (own_threads) {
      ASSERT_TRUE(near_->Start().ok());
    }
    server_options.address = verbs::LocalAddress(AF_INET).host() + ":0";
    server_options.allow_insecure_remote = true;
    server_ = OrDie(Server::Start({far_.get()}, server_options));
    proxy_ = std::make_unique<TcpProxy>(server_->address());
    client_ = OrDie(
        Session::Connect(*near_, proxy_->address(), client_options, kLong));
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
  std::unique_ptr<TcpProxy> proxy_;  // where the client finds it
  Session client_, serving_;
};

// A send that is over before its memory goes, also where a test has failed.
class Sending {
 public:
  Sending(Stream& stream, std::span<const SendPiece> pieces,
          std::chrono::nanoseconds time)
      : stream_(stream) {
    send_.set_pieces(pieces);
    send_.set_deadline(std::chrono::steady_clock::now() + time);
    stream_.Send(send_);
  }
  Sending(const Sending&) = delete;
  Sending& operator=(const Sending&) = delete;
  ~Sending() {
    stream_.Cancel(send_);
    (void)Await();
  }
  absl::Status Await() const { return stream_.Await(send_); }

 private:
  Stream& stream_;
  SendOperation send_;
};

void ExpectEcho(Stream& ours, Stream& theirs, size_t size, uint32_t seed) {
  const std::vector<std::byte> sent = MessageOf(size, seed);
  const SendPiece message[] = {{.bytes = sent}};
  const Sending send(ours, message, kLong);
  const absl::StatusOr<Message> there = theirs.Receive(kLong);
  ASSERT_TRUE(there.ok()) << there.status();
  const SendPiece copy[] = {{.bytes = there->bytes()}};
  const Sending answer(theirs, copy, kLong);
  std::vector<std::byte> back(size + 1);
  const absl::StatusOr<size_t> got = ours.ReceiveInto(back, kLong);
  const absl::Status answered = answer.Await();
  EXPECT_TRUE(answered.ok()) << answered;
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(*got, size);
  EXPECT_TRUE(std::equal(sent.begin(), sent.end(), back.begin()));
  EXPECT_TRUE(send.Await().ok());
}

TEST_F(SessionTest, EachSideReadsAndWritesWhatTheOtherHasPublished) {
  Connect();
  for (auto [owner, user] :
       {std::pair(&serving_, &client_), {&client_, &serving_}}) {
    std::vector<std::byte> memory = MessageOf(3'000'000, 1);
    const Region published = OrDie(
        owner->Publish("table", memory, {.read = true, .write = true}, kLong));
    EXPECT_EQ(published.name(), "table");
    const RemoteRegion region = OrDie(user->Lookup("table", kLong));
    EXPECT_EQ(region.size(), memory.size());
    for (const size_t size : {1, 8, 2048, 2049, 100'000, 2'999'000}) {
      std::vector<std::byte> back(size);
      ASSERT_TRUE(user->Read(region, 1000, back, kLong).ok());
      EXPECT_TRUE(std::equal(back.begin(), back.end(), memory.begin() + 1000));
      const std::vector<std::byte> written = MessageOf(size, 2);
      ASSERT_TRUE(user->Write(region, 1000, written, kLong).ok());
      ASSERT_TRUE(user->Read(region, 1000, back, kLong).ok());
      EXPECT_EQ(back, written) << size;
    }
  }
}

// What a client was told.
class Heard {
 public:
  std::function<void(const SessionEvent&)> on_event() {
    return [this](const SessionEvent& event) {
      const absl::MutexLock lock(&mutex_);
      events_.push_back(event);
      thread_ = std::this_thread::get_id();
    };
  }
  // The next one.
  SessionEvent Next() {
    const absl::MutexLock lock(&mutex_);
    const auto there = [this] { return read_ < events_.size(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&there),
                                 absl::FromChrono(kLong))) {
      ADD_FAILURE() << "nothing was told";
      return {};
    }
    return events_[read_++];
  }
  size_t count() {
    const absl::MutexLock lock(&mutex_);
    return events_.size();
  }
  std::thread::id thread() {  // that told the last one
    const absl::MutexLock lock(&mutex_);
    return thread_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<SessionEvent> events_;
  size_t read_ = 0;
  std::thread::id thread_;
};

std::thread::id ThreadOf(Session& session) {
  std::thread::id thread;
  EXPECT_TRUE(
      session.impl()
          .OnReactor([&](auto&) { thread = std::this_thread::get_id(); },
                     api::After(kLong))
          .ok());
  return thread;
}

TEST_F(SessionTest, AClientHearsOfTheDrainOfItsServerWhichTakesNoMoreSessions) {
  Heard heard;
  Connect({.reconnect = kLong},
          {.reconnect = kLong, .on_event = heard.on_event()});
  server_->Drain(7s);
  const SessionEvent event = heard.Next();
  EXPECT_EQ(event.kind, SessionEvent::Kind::kDraining);
  EXPECT_EQ(event.grace, 7s);
  EXPECT_EQ(heard.thread(), ThreadOf(client_));
  const absl::Status refused =
      Session::Connect(*near_, server_->address(), {}, kLong).status();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  for (const std::string& word :
       {std::string("draining"), server_->address()}) {
    EXPECT_NE(refused.message().find(word), std::string::npos) << refused;
  }
  // The one that is there goes on, and makes lost connections anew.
  LoseLinks(client_, {0, 1});
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ExpectEcho(ours, theirs, 5000, 1);
}

TEST_F(SessionTest, AClientHearsWhichRegionOfThoseItUsesIsWithdrawn) {
  Heard heard;
  Connect({}, {.on_event = heard.on_event()});
  std::vector<std::byte> memory(4096);
  const auto publish = [&](const char* name) {
    return OrDie(serving_.Publish(name, memory, {.read = true}, kLong));
  };
  Region used = publish("used"), unused = publish("unused"),
         dropped = publish("dropped");
  const RemoteRegion region = OrDie(client_.Lookup("used", kLong));
  OrDie(client_.Lookup("dropped", kLong));
  for (Region* const each : {&unused, &dropped, &used}) {
    ASSERT_TRUE(each->Withdraw(kLong).ok());
  }
  server_->Drain();
  const SessionEvent event = heard.Next();
  EXPECT_EQ(event.kind, SessionEvent::Kind::kRegionWithdrawn);
  EXPECT_EQ(event.region, "used");
  EXPECT_TRUE(region.withdrawn());
  EXPECT_EQ(heard.thread(), ThreadOf(client_));
  EXPECT_EQ(heard.Next().kind, SessionEvent::Kind::kDraining);
}

TEST_F(SessionTest, AClientIsToldMoreWhenItsControlPlaneIsBack) {
  Heard heard;
  Connect({}, {.on_event = heard.on_event()});
  std::vector<std::byte> memory(4096);
  Region gone = OrDie(serving_.Publish("gone", memory, {}, kLong));
  Region stays = OrDie(serving_.Publish("stays", memory, {}, kLong));
  const RemoteRegion withdrawn = OrDie(client_.Lookup("gone", kLong));
  const RemoteRegion other = OrDie(client_.Lookup("stays", kLong));
  server_->Drain(7s);
  EXPECT_EQ(heard.Next().kind, SessionEvent::Kind::kDraining);
  proxy_->Cut(true);
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ExpectEcho(ours, theirs, 5000, 1);
  // A region of the same name is not the same.
  ASSERT_TRUE(gone.Withdraw(kLong).ok());
  Region again = OrDie(serving_.Publish("gone", memory, {}, kLong));
  proxy_->Cut(false);
  const SessionEvent missed = heard.Next();
  EXPECT_EQ(missed.kind, SessionEvent::Kind::kRegionWithdrawn);
  EXPECT_EQ(missed.region, "gone");
  EXPECT_TRUE(withdrawn.withdrawn());
  EXPECT_FALSE(other.withdrawn());
  ASSERT_TRUE(stays.Withdraw(kLong).ok());
  EXPECT_EQ(heard.Next().region, "stays");
  // That it drains was not told again.
  EXPECT_EQ(heard.count(), 3u);
}

TEST_F(SessionTest, TheEndOfAServerEndsItsSessionsWithItsWords) {
  Connect({.reconnect = kLong}, {.reconnect = kLong});
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ReceiveOperation waiting;
  ours.Receive(waiting);
  server_.reset();
  EXPECT_FALSE(ours.Await(waiting).ok());
  for (Session* const session : {&client_, &serving_}) {
    EXPECT_TRUE(session->impl().AwaitEnd(api::After(kLong)));
    const absl::Status why = session->status();
    EXPECT_TRUE(absl::IsUnavailable(why)) << why;
    EXPECT_NE(why.message().find("the server is shutting down"),
              std::string::npos)
        << why;
  }
}

// A message whose last packet is lost waits for it.
TEST_F(SessionTest, BothEndsOfAConnectionRepeatSoonerThanRdmaCmWould) {
  Connect();
  for (Session* const session : {&client_, &serving_}) {
    uint8_t timeout = 0;
    ASSERT_TRUE(session->impl()
                    .OnReactor(
                        [&](transport::SessionRuntime& runtime) {
                          timeout = runtime.queue_pair(0)
                                        .Query(IBV_QP_TIMEOUT)
                                        .value()
                                        .timeout;
                        },
                        Instant::max())
                    .ok());
    EXPECT_EQ(timeout, 16);
  }
}

TEST_F(SessionTest, RegisteredMemoryIsSentReceivedAndRead) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kBulk);
  constexpr size_t kSize = 100'000;
  std::vector<std::byte> from = MessageOf(2 * kSize, 1), into(2 * kSize);
  Region region = OrDie(serving_.Publish("region", from, {}, kLong));
  const RegisteredMemory source =
      OrDie(client_.Register(from, MemoryUse::kLocal));
  const RegisteredMemory target =
      OrDie(serving_.Register(into, MemoryUse::kPeerWrites));
  EXPECT_EQ(target.bytes().data(), into.data());
  ReceiveOperation receive;
  receive.set_into(target.Target(kSize, kSize));
  theirs.Receive(receive);
  SendOperation send;
  send.set_piece(source.Source(kSize, kSize));
  ours.Send(send);
  EXPECT_TRUE(ours.Await(send).ok()) << send.status();
  EXPECT_TRUE(theirs.Await(receive).ok()) << receive.status();
  EXPECT_EQ(receive.size(), kSize);
  EXPECT_TRUE(
      std::equal(from.begin() + kSize, from.end(), into.begin() + kSize));
  const RemoteRegion theirs_region = OrDie(client_.Lookup("region", kLong));
  std::vector<std::byte> read(kSize);
  const RegisteredMemory sink =
      OrDie(client_.Register(read, MemoryUse::kLocal));
  AccessOperation access;
  access.set_read(theirs_region, 5, sink.Sink(0, kSize));
  client_.Access(access);
  EXPECT_TRUE(client_.Await(access).ok()) << access.status();
  EXPECT_TRUE(std::equal(read.begin(), read.end(), from.begin() + 5));
}

TEST_F(SessionTest, AnApplicationOfOneThreadHearsEventsWhileItPolls) {
  Heard heard;
  Connect({}, {.on_event = heard.on_event()}, false);
  server_->Drain();
  EXPECT_TRUE(near_->hub().engine().RunUntil(
      [&heard] { return heard.count() == 1; }, api::After(kLong)));
  EXPECT_EQ(heard.thread(), std::this_thread::get_id());
}

TEST_F(SessionTest, TheEndOfASessionWaitsForItsOnEventAndThenNothingIsTold) {
  std::promise<void> called, ends;
  std::atomic<bool> gone{false};
  std::atomic<int> calls{0};
  Connect({}, {.on_event = [&](const SessionEvent&) {
            ++calls;
            called.set_value();
            EXPECT_EQ(ends.get_future().wait_for(kLong),
                      std::future_status::ready);
            for (int i = 0; i < 10; ++i) std::this_thread::yield();
            EXPECT_FALSE(gone);
          }});
  auto [ours, theirs] = Open(StreamClass::kLatency);
  server_->Drain();
  ASSERT_EQ(called.get_future().wait_for(kLong), std::future_status::ready);
  std::thread other([&] {
    ends.set_value();
    client_ = Session();
    gone = true;
  });
  other.join();
  // A stream keeps the connections, and with them the watch.
  server_->Drain();
  ExpectEcho(ours, theirs, 100, 1);
  ours = Stream();
  near_.reset();
  EXPECT_EQ(calls, 1);
}

TEST_F(SessionTest, ASessionMayGoInItsOnEvent) {
  std::promise<void> gone;
  Connect({}, {.on_event = [&](const SessionEvent&) {
            client_ = Session();
            gone.set_value();
          }});
  server_->Drain();
  ASSERT_EQ(gone.get_future().wait_for(kLong), std::future_status::ready);
  EXPECT_TRUE(serving_.impl().AwaitEnd(api::After(kLong)));
}

TEST_F(SessionTest, ASessionMayGoWhileItsServerTells) {
  for (int round = 0; round < 10; ++round) {
    Heard heard;
    Connect({}, {.on_event = heard.on_event()});
    std::thread other([this] { server_->Drain(); });
    client_ = Session();
    const size_t told = heard.count();
    other.join();
    near_.reset();
    EXPECT_EQ(heard.count(), told);
    serving_ = Session();
    server_.reset();
  }
}

TEST_F(SessionTest, ASessionThatIsWatchedEndsWithoutItsControlPlane) {
  Heard heard;
  Connect({}, {.on_event = heard.on_event()});
  server_.reset();
  client_ = Session();
  near_.reset();
  EXPECT_EQ(heard.count(), 0u);
}

// As a thread of the control plane's does that has an event to tell of.
TEST_F(SessionTest, AReactorWaitsForWhoStillHasASessionOfIt) {
  Connect();
  std::atomic<bool> going{false};
  std::thread other([&going, session = client_.impl().shared_from_this()] {
    while (!going) std::this_thread::yield();
    session->Fail(absl::AbortedError("too late"));
  });
  client_ = Session();
  going = true;
  near_.reset();
  other.join();
}

TEST_F(SessionTest, AtomicsCountAndSwap) {
  Connect();
  alignas(8) std::array<uint64_t, 2> memory{};
  const Region published = OrDie(
      serving_.Publish("counters", std::as_writable_bytes(std::span(memory)),
                       {.read = true, .atomic = true}, kLong));
  const RemoteRegion region = OrDie(client_.Lookup("counters", kLong));
  for (uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(OrDie(client_.FetchAdd(region, 0, 3, kLong)), 3 * i);
  }
  EXPECT_EQ(OrDie(client_.CompareSwap(region, 8, 0, 7, kLong)), 0u);
  EXPECT_EQ(OrDie(client_.CompareSwap(region, 8, 0, 9, kLong)), 7u);
  std::array<uint64_t, 2> back{};
  ASSERT_TRUE(
      client_.Read(region, 0, std::as_writable_bytes(std::span(back)), kLong)
          .ok());
  EXPECT_EQ(back, (std::array<uint64_t, 2>{30, 7}));
}

TEST_F(SessionTest, ANotificationFindsItsBytesInPlace) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  std::vector<std::byte> memory(1'000'000);
  const Region published =
      OrDie(serving_.Publish("log", memory, {.write = true}, kLong));
  const RemoteRegion region = OrDie(client_.Lookup("log", kLong));
  for (const size_t size : {1, 5000, 900'000}) {
    const std::vector<std::byte> bytes = MessageOf(size, 3);
    ASSERT_TRUE(ours.WriteWithImmediate(region, 64, bytes,
                                        static_cast<uint32_t>(size), kLong)
                    .ok());
    const Message message = OrDie(theirs.Receive(kLong));
    ASSERT_TRUE(message.notification());
    EXPECT_EQ(message.notification()->region, published.id());
    EXPECT_EQ(message.notification()->offset, 64u);
    EXPECT_EQ(message.notification()->size, size);
    EXPECT_EQ(message.notification()->immediate, size);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), memory.begin() + 64));
  }
}

TEST_F(SessionTest, ARegionIsNoMoreOnceItIsWithdrawn) {
  Connect();
  std::vector<std::byte> memory(4096), back(16);
  Region published =
      OrDie(serving_.Publish("table", memory, {.read = true}, kLong));
  EXPECT_TRUE(absl::IsAlreadyExists(
      serving_.Publish("table", memory, {.read = true}, kLong).status()));
  const RemoteRegion region = OrDie(client_.Lookup("table", kLong));
  EXPECT_TRUE(absl::IsPermissionDenied(client_.Write(region, 0, back, kLong)));
  EXPECT_TRUE(absl::IsOutOfRange(client_.Read(region, 4090, back, kLong)));
  ASSERT_TRUE(published.Withdraw(kLong).ok());
  // The word of it may still be on its way: then the device refuses.
  const absl::Status read = client_.Read(region, 0, back, kLong);
  EXPECT_TRUE(absl::IsNotFound(read) || absl::IsPermissionDenied(read)) << read;
  EXPECT_TRUE(absl::IsNotFound(client_.Lookup("table", kLong).status()));
  while (!region.withdrawn()) std::this_thread::yield();
  EXPECT_TRUE(absl::IsNotFound(client_.Read(region, 0, back, kLong)));
  // The session is none the worse for it.
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ExpectEcho(ours, theirs, 5000, 1);
}

TEST_F(SessionTest, WhatTheDeviceRefusesCostsAConnectionAndNothingElse) {
  Connect({.reconnect = kLong}, {.reconnect = kLong});
  std::vector<std::byte> memory(4096), back(16);
  Region first = OrDie(serving_.Publish("first", memory, {}, kLong));
  // One that claims more than it was published for.
  const RemoteRegion region = OrDie(client_.Lookup("first", kLong));
  auto forged = std::make_shared<transport::PeerRegion>();
  forged->address = region.get()->address;
  forged->size = uint64_t{1} << 40;
  forged->rkey = region.get()->rkey;
  forged->access = {.read = true, .write = true, .atomic = true};
  EXPECT_TRUE(absl::IsPermissionDenied(
      client_.Write(RemoteRegion(forged), 0, back, kLong)));
  EXPECT_TRUE(absl::IsPermissionDenied(
      client_.Read(RemoteRegion(forged), 4096, back, kLong)));
  EXPECT_TRUE(client_.Read(region, 0, back, kLong).ok());
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ExpectEcho(ours, theirs, 5000, 1);
}

// The eager modes and the digest.
class SessionByLayoutTest : public SessionTest,
                            public testing::WithParamInterface<int> {
 protected:
  static SessionLayout Layout() {
    SessionLayout layout;
    layout.eager_mode =
        (GetParam() & 1) != 0 ? EagerMode::kRing : EagerMode::kSend;
    layout.digest = (GetParam() & 2) != 0;
    return layout;
  }
};
INSTANTIATE_TEST_SUITE_P(RingAndDigest, SessionByLayoutTest,
                         testing::Range(0, 4));

// The memory that they are sent from, and the rings, are of no size that a pool
// has.
TEST_P(SessionByLayoutTest, MessagesTravelInLargeSlotsOfManyConnections) {
  SessionLayout layout = Layout();
  layout.latency_connections = 2;
  layout.bulk_connections = 3;
  layout.slots = 8;
  layout.slot_size = 100'032;
  layout.eager_limit = 100'000;
  Connect({.reconnect = kLong}, {.layout = layout, .reconnect = kLong});
  for (const StreamClass stream_class :
       {StreamClass::kLatency, StreamClass::kBulk}) {
    auto [ours, theirs] = Open(stream_class);
    ExpectEcho(ours, theirs, 100'000, 1);
  }
}

TEST_P(SessionByLayoutTest, MessagesOfAnySizeComeBackInBothClasses) {
  Connect({.reconnect = kLong}, {.layout = Layout(), .reconnect = kLong});
  EXPECT_EQ(client_.layout().eager_mode, Layout().eager_mode);
  EXPECT_EQ(serving_.layout().digest, Layout().digest);
  for (const StreamClass each : {StreamClass::kLatency, StreamClass::kBulk}) {
    auto [ours, theirs] = Open(each);
    EXPECT_EQ(theirs.name(), "test");
    EXPECT_EQ(theirs.stream_class(), each);
    uint32_t seed = 1;
    for (const size_t size : {0, 1, 64, 8160, 8161, 100'000}) {
      ExpectEcho(ours, theirs, size, seed++);
    }
  }
}

TEST_P(SessionByLayoutTest, LongMessagesComeBackInBothClasses) {
  Connect({.reconnect = kLong}, {.layout = Layout(), .reconnect = kLong});
  for (const StreamClass each : {StreamClass::kLatency, StreamClass::kBulk}) {
    auto [ours, theirs] = Open(each);
    ExpectEcho(ours, theirs, 9'000'000, 1);
  }
}

// What /proc/meminfo has as MemAvailable.
uint64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  uint64_t kibibytes = 0;
  while (file >> word && word != "MemAvailable:") continue;
  return file >> kibibytes ? kibibytes << 10 : 0;
}

// ND_API_FOUR_GIB=1 where there is time for it. Its bytes repeat after a
// prime number of pages, so that no chunk of it is like another one.
TEST_F(SessionTest, AMessageOfFourGibibytesArrivesInBothClasses) {
  if (*Environment("ND_API_FOUR_GIB") == '\0') GTEST_SKIP();
  if (AvailableMemory() < uint64_t{8} << 30) {
    GTEST_SKIP() << "it takes 5 GiB of memory, and leaves 3";
  }
  constexpr size_t kSize = size_t{4} << 30, kPeriod = 16381 * 4096;
  const std::vector<std::byte> period = MessageOf(kPeriod, 1);
  std::vector<SendPiece> pieces;
  for (size_t at = 0; at < kSize; at += kPeriod) {
    pieces.push_back(
        {.bytes = std::span(period).first(std::min(kPeriod, kSize - at))});
  }
  std::vector<std::byte> there(kSize);
  Connect();
  for (const StreamClass each : {StreamClass::kLatency, StreamClass::kBulk}) {
    std::ranges::fill(there, std::byte{});
    auto [ours, theirs] = Open(each);
    const Sending send(ours, pieces, 5 * kLong);
    ASSERT_EQ(OrDie(theirs.ReceiveInto(there, 5 * kLong)), kSize);
    EXPECT_TRUE(send.Await().ok());
    auto from = there.begin();
    for (const SendPiece& piece : pieces) {
      ASSERT_TRUE(std::equal(piece.bytes.begin(), piece.bytes.end(), from));
      from += static_cast<ptrdiff_t>(piece.bytes.size());
    }
  }
}

TEST_F(SessionTest, ARingOutlivesItsConnections) {
  SessionLayout layout;
  layout.eager_mode = EagerMode::kRing;
  Connect({.reconnect = kLong}, {.layout = layout, .reconnect = kLong});
  auto [ours, theirs] = Open(StreamClass::kLatency);
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < 100; ++i) ExpectEcho(ours, theirs, 8 * i, i);
    LoseLinks(client_, {0, 1});
  }
  ExpectEcho(ours, theirs, 100'000, 1);
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
  Connect({.reconnect = kLong}, {.reconnect = kLong});
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
  Connect({.reconnect = kLong}, {.reconnect = kLong});
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

TEST_F(SessionTest, StatisticsAreOfTheSessionItsConnectionsAndItsStreams) {
  Connect();
  auto [ours, theirs] = Open(StreamClass::kLatency);
  ExpectEcho(ours, theirs, 100, 1);
  ExpectEcho(ours, theirs, 100'000, 2);
  for (Session* const each : {&client_, &serving_}) {
    const SessionStatistics statistics = each->statistics();
    EXPECT_EQ(statistics.latency.sent.messages, 2u);
    EXPECT_EQ(statistics.latency.sent.bytes, 100'100u);
    EXPECT_EQ(statistics.latency.received.messages, 2u);
    EXPECT_EQ(statistics.latency.received.bytes, 100'100u);
    EXPECT_EQ(statistics.latency.send_latency.count, 2u);
    EXPECT_GT(statistics.latency.send_latency.min, 0ns);
    EXPECT_EQ(statistics.bulk.sent.messages, 0u);
    EXPECT_EQ(statistics.streams, 1u);
    EXPECT_EQ(statistics.oldest_send, 0ns);
    ASSERT_EQ(statistics.connections.size(), 2u);
    for (const ConnectionStatistics& connection : statistics.connections) {
      EXPECT_TRUE(connection.up);
      EXPECT_EQ(connection.made, 1u);
      EXPECT_EQ(connection.lost, 0u);
      EXPECT_GT(connection.credits, 0u);
    }
    EXPECT_EQ(statistics.connections[0].bytes_written +
                  statistics.connections[1].bytes_written,
              100'000u);
  }
  EXPECT_EQ(ours.statistics().sent.bytes, 100'100u);
  EXPECT_EQ(theirs.statistics().received.messages, 2u);
  ReceiveOperation waiting;
  ours.Receive(waiting);
  while (ours.statistics().oldest_receive < 1ms) std::this_thread::yield();
  EXPECT_GE(client_.statistics().oldest_receive, 1ms);
  ours.Cancel(waiting);
  LoseLinks(client_, {0});
  while (client_.statistics().connections[0].made < 2) {
    ASSERT_TRUE(client_.status().ok()) << client_.status();
    std::this_thread::yield();
  }
  EXPECT_EQ(client_.statistics().connections[0].lost, 1u);
  EXPECT_NE(client_.Describe().find("latency class: sent 2 messages"),
            std::string::npos)
      << client_.Describe();
  EXPECT_TRUE(absl::IsCancelled(ours.Await(waiting)));
}

// By default an end of a session takes about 1 MiB to send from, and 1.3 MiB to
// receive into.
TEST_F(SessionTest, TheSessionsThatAReactorOpensShareItsMemory) {
  constexpr uint64_t kMuch = uint64_t{1} << 30, kOne = 3 << 19;  // 1.5 MiB
  struct {
    Reactor::Options options;
    const char* budget;
  } const cases[] = {{{.send_memory = kOne, .receive_memory = kMuch},
                      "send memory of all sessions of the reactor"},
                     {{.send_memory = kMuch, .receive_memory = kOne},
                      "receive memory of all sessions of the reactor"}};
  for (const auto& each : cases) {
    Connect({}, {}, true, each.options);
    const auto another = [this] {
      return Session::Connect(*near_, server_->address(), {}, kLong);
    };
    const absl::Status refused = another().status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_NE(refused.message().find(each.budget), std::string::npos)
        << refused;
    // A session that has gone gives its memory back, soon.
    client_ = Session();
    const Instant limit = api::After(kLong);
    absl::StatusOr<Session> next = another();
    while (!next.ok() && Clock::Monotonic().Now() < limit) next = another();
    EXPECT_TRUE(next.ok()) << next.status();
    next = Session();
    serving_ = Session();
    server_.reset();
    near_.reset();
  }
}

TEST_F(SessionTest, AMessageThatTheReactorsMemoryCannotHoldIsRefusedByItsName) {
  Connect({}, {}, true, {.receive_memory = 4 << 20});
  auto [ours, theirs] = Open(StreamClass::kBulk);
  const std::vector<std::byte> sent = MessageOf(6'000'000, 1);
  SendOperation send;
  send.set_piece({.bytes = sent});
  theirs.Send(send);
  const absl::Status refused = ours.Receive(kLong).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_NE(
      refused.message().find("receive memory of all sessions of the reactor"),
      std::string::npos)
      << refused;
  // It is still there for memory of the application's own.
  std::vector<std::byte> back(sent.size());
  EXPECT_EQ(OrDie(ours.ReceiveInto(back, kLong)), sent.size());
  EXPECT_EQ(back, sent);
  EXPECT_TRUE(theirs.Await(send).ok());
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

// Both halves of the control plane over real gRPC; the host and the listener
// are made up.
#include "control/session_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/fake_clock.h"
#include "base/until_true.h"
#include "control/certificates.h"
#include "control/fake_host.h"
#include "control/grpc_channel.h"
#include "control/grpc_server.h"
#include "control/grpc_status.h"
#include "control/session_client.h"
#include "control/session_messages.h"
#include "nd/log.h"
#include "nd/v1/control.grpc.pb.h"

namespace nd::control {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Deadline Soon() { return Deadline::After(kLongTime); }
Deadline Now() { return Deadline::After(Duration::zero()); }

LinkLayout SomeLink(uint64_t send_depth = 16) {
  return {.send_depth = send_depth,
          .receive_depth = 256,
          .max_rd_atomic = 16,
          .max_dest_rd_atomic = 16,
          .path_mtu = 1024};
}

Region SomeRegion(uint64_t size = 64) {
  return {.address = 4096, .size = size, .rkey = 9, .access = {.read = true}};
}

// What a Watch brought, as text.
class Diary {
 public:
  std::function<void(const SessionEvent&)> on_event() {
    return [this](const SessionEvent& event) {
      if (const auto* draining = std::get_if<Draining>(&event)) {
        Note(absl::StrCat("draining: ", draining->text, ", ",
                          draining->grace.count(), " ns"));
      } else if (const auto* region = std::get_if<RegionWithdrawn>(&event)) {
        Note(absl::StrCat("withdrawn ", region->name, " ", region->id));
      } else {
        Note(absl::StrCat("closed: ",
                          std::get<SessionClosed>(event).why.ToString()));
      }
    };
  }
  std::function<void(const absl::Status&)> on_end() {
    return [this](const absl::Status& why) {
      Note(absl::StrCat("end: ", why.ToString()));
    };
  }
  // Once it has so many entries.
  std::vector<std::string> Read(size_t entries) {
    // If they do not come, what came is what the test then shows.
    (void)UntilTrue([&] { return Entries().size() >= entries; });
    return Entries();
  }

 private:
  void Note(std::string entry) {
    MutexLock lock(&mutex_);
    entries_.push_back(std::move(entry));
  }
  std::vector<std::string> Entries() {
    MutexLock lock(&mutex_);
    return entries_;
  }

  absl::Mutex mutex_;
  std::vector<std::string> entries_ ABSL_GUARDED_BY(mutex_);
};

class SessionServiceTest : public ::testing::Test {
 protected:
  ~SessionServiceTest() override { Stop(); }

  void Start() {
    options_.random = &random_;
    options_.clock = &clock_;
    service_ = SessionService::Create(options_, inviter_, host_).value();
    GrpcServer::Options server;
    server.address = *verbs::SocketAddress::Parse("127.0.0.1", 0);
    server.services = {service_->service()};
    server.names = {SessionService::name()};
    server.credentials = credentials_;
    server_ = GrpcServer::Start(server).value();
    channel_ = MakeChannel(server_->address());
  }
  void Stop() {
    if (service_ != nullptr) service_->Close();
    server_.reset();
    service_.reset();
  }

  SessionClient::Options ClientOptions() {
    SessionClient::Options options;
    options.channel = channel_;
    options.server = server_->address();
    options.name = "a test";
    options.set_ups = &set_ups_;
    return options;
  }
  absl::StatusOr<std::unique_ptr<SessionClient>> Open(
      const SessionLayout& wish = {}) {
    return SessionClient::Open(ClientOptions(), wish, Soon(), nullptr);
  }
  // Opened, with both links made.
  std::unique_ptr<SessionClient> OpenAndMake() {
    auto client = Open().value();
    for (const LinkId link : client->pass().links) {
      client->ExchangeLayout(link, SomeLink(), Soon(), nullptr).value();
    }
    return client;
  }
  std::string Named(absl::string_view call) {
    return absl::StrCat(call, " at ", server_->address().ToString());
  }

  FakeClock clock_;
  SeededRandom random_{1};
  FakeInviter inviter_{clock_};
  FakeHost host_;
  SetUpLimit set_ups_{8};
  Credentials credentials_;
  SessionService::Options options_;
  std::unique_ptr<SessionService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(SessionServiceTest, SessionIsOpenedWithTheAgreedLayoutAndAPass) {
  options_.limits.at_most.slots = 128;
  Start();
  const auto client = Open();
  ASSERT_TRUE(client.ok()) << client.status();
  SessionLayout agreed;
  agreed.slots = 128;
  EXPECT_EQ((*client)->layout(), agreed);
  EXPECT_EQ((*client)->version(), 1u);
  const LinkPass& pass = (*client)->pass();
  EXPECT_EQ(pass.endpoint, inviter_.endpoint);
  EXPECT_EQ(pass.token_lifetime, seconds(30));
  EXPECT_THAT(pass.links, ElementsAre(LinkId{0, 0}, LinkId{1, 0}));
  EXPECT_EQ(inviter_.Connect(pass.token, (*client)->id(), {1, 0}), "let in");
  EXPECT_THAT(host_.told(), ElementsAre("open a test v1 with 2 links"));
}

TEST_F(SessionServiceTest, ListenerAtAnyAddressIsWhereTheServerWasReached) {
  inviter_.endpoint = *verbs::SocketAddress::Parse("::", 7471);
  Start();
  EXPECT_EQ(Open().value()->pass().endpoint.ToString(), "127.0.0.1:7471");
}

TEST_F(SessionServiceTest, WishOutOfItsRangeIsNamed) {
  Start();
  SessionLayout wish;
  wish.slot_size = 100;
  EXPECT_EQ(Open(wish).status(),
            absl::InvalidArgumentError(absl::StrCat(
                Named("OpenSession"), ": layout.slot_size: 100 is below 320")));
  EXPECT_THAT(host_.told(), ElementsAre());
  EXPECT_EQ(service_->statistics().refused, 1u);
}

TEST_F(SessionServiceTest, LongClientNameIsRefused) {
  Start();
  SessionClient::Options options = ClientOptions();
  options.name = std::string(256, 'n');
  EXPECT_THAT(
      std::string(
          SessionClient::Open(options, {}, Soon(), nullptr).status().message()),
      HasSubstr("client_name: 256 is above 255"));
}

TEST_F(SessionServiceTest, UnknownVersionsAreRefused) {
  Start();
  v1::OpenSessionRequest request;
  request.add_versions(2);
  *request.mutable_layout() = ToMessage(SessionLayout());
  v1::OpenSessionResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(FromGrpcStatus(v1::Control::NewStub(channel_)->OpenSession(
                &context, request, &response)),
            absl::InvalidArgumentError(
                "versions: 2, of which this server speaks none, only 1"));
}

TEST_F(SessionServiceTest, LimitsAreCheckedBeforeAnythingStarts) {
  options_.limits.at_most.slots = 3;
  EXPECT_TRUE(absl::IsInvalidArgument(
      SessionService::Create(options_, inviter_, host_).status()));
}

TEST_F(SessionServiceTest, HostThatRefusesIsQuotedAndHearsNoMore) {
  host_.on_open = [](const SessionHost::Opening&,
                     const FakeHost::OpenDone& done) {
    done(absl::FailedPreconditionError("no RDMA device"));
  };
  Start();
  EXPECT_EQ(Open().status(), absl::FailedPreconditionError(absl::StrCat(
                                 Named("OpenSession"), ": no RDMA device")));
  EXPECT_EQ(service_->statistics().sessions, 0u);
  EXPECT_THAT(host_.told(), ElementsAre(StartsWith("open")));
}

TEST_F(SessionServiceTest, WithoutATokenTheHostClosesTheSession) {
  FakeInviter full(clock_, 0);
  service_ = SessionService::Create(options_, full, host_).value();
  server_ = GrpcServer::Start(
                {.address = *verbs::SocketAddress::Parse("127.0.0.1", 0),
                 .services = {service_->service()},
                 .names = {},
                 .credentials = {}})
                .value();
  channel_ = MakeChannel(server_->address());
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(host_.told(),
              ElementsAre(StartsWith("open"), StartsWith("closed: RESOURCE")));
  EXPECT_EQ(service_->statistics().sessions, 0u);
  Stop();
}

TEST_F(SessionServiceTest, HostMayTakeItsTime) {
  FakeHost::OpenDone open;
  FakeHost::ExchangeDone exchange;
  absl::Mutex mutex;
  host_.on_open = [&](const SessionHost::Opening&, FakeHost::OpenDone done) {
    MutexLock lock(&mutex);
    open = std::move(done);
  };
  host_.on_exchange = [&](const LinkLayout&, FakeHost::ExchangeDone done) {
    MutexLock lock(&mutex);
    exchange = std::move(done);
  };
  Start();
  std::thread host([&] {
    EXPECT_TRUE(UntilTrue([&] {
                  MutexLock lock(&mutex);
                  return open != nullptr;
                }).ok());
    open(absl::OkStatus());
    EXPECT_TRUE(UntilTrue([&] {
                  MutexLock lock(&mutex);
                  return exchange != nullptr;
                }).ok());
    exchange(SomeLink(99));
  });
  const auto client = Open().value();
  EXPECT_EQ(client->ExchangeLayout({0, 0}, SomeLink(), Soon(), nullptr)
                .value()
                .send_depth,
            99u);
  host.join();
}

TEST_F(SessionServiceTest, EachLinkIsExchangedOnce) {
  host_.on_exchange = [](const LinkLayout& client,
                         const FakeHost::ExchangeDone& done) {
    LinkLayout own = client;
    own.send_depth += 1;
    done(own);
  };
  Start();
  const auto client = Open().value();
  const auto peer = client->ExchangeLayout({1, 0}, SomeLink(), Soon(), nullptr);
  EXPECT_EQ(peer.value(), SomeLink(17));
  const absl::Status again =
      client->ExchangeLayout({1, 0}, SomeLink(), Soon(), nullptr).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_THAT(std::string(again.message()),
              StartsWith(absl::StrCat(Named("ExchangeLayout"), " for ",
                                      SessionName(client->id()), ": link")));
}

TEST_F(SessionServiceTest, LinkLayoutIsCheckedAtBothEnds) {
  host_.on_exchange = [](const LinkLayout& client,
                         const FakeHost::ExchangeDone& done) {
    LinkLayout own = client;
    own.path_mtu = 1500;
    done(own);
  };
  Start();
  const auto client = Open().value();
  EXPECT_THAT(std::string(client->ExchangeLayout({0, 0}, {}, Soon(), nullptr)
                              .status()
                              .message()),
              HasSubstr("link_layout.send_depth: 0 is below 1"));
  const absl::Status broken =
      client->ExchangeLayout({0, 0}, SomeLink(), Soon(), nullptr).status();
  EXPECT_TRUE(absl::IsInternal(broken));
  EXPECT_THAT(std::string(broken.message()),
              HasSubstr("the server's answer: link_layout.path_mtu"));
}

TEST_F(SessionServiceTest, LostLinksGetAFreshToken) {
  Start();
  const auto client = OpenAndMake();
  const std::vector<uint32_t> lost = {1};
  const auto pass = client->Reconnect(lost, Soon(), nullptr);
  ASSERT_TRUE(pass.ok()) << pass.status();
  EXPECT_THAT(pass->links, ElementsAre(LinkId{1, 1}));
  EXPECT_FALSE(pass->token.Matches(client->pass().token));
  EXPECT_EQ(inviter_.Connect(client->pass().token, client->id(), {1, 0}),
            "a later token was given out for that link");
  EXPECT_EQ(inviter_.Connect(pass->token, client->id(), {1, 1}), "let in");
  EXPECT_TRUE(client->ExchangeLayout({1, 1}, SomeLink(), Soon(), nullptr).ok());
  EXPECT_THAT(host_.told(), Contains("reconnect 1.1"));
}

TEST_F(SessionServiceTest, HostMayRefuseAReconnect) {
  host_.reconnect = absl::FailedPreconditionError("the session is over");
  Start();
  const auto client = OpenAndMake();
  const std::vector<uint32_t> lost = {1};
  EXPECT_THAT(
      std::string(client->Reconnect(lost, Soon(), nullptr).status().message()),
      HasSubstr("the session is over"));
}

TEST_F(SessionServiceTest, RegionOfTheClientIsForItsSession) {
  Start();
  const auto client = OpenAndMake();
  const auto other = OpenAndMake();
  const auto id = client->PublishRegion("kv", SomeRegion(100), Soon(), nullptr);
  ASSERT_TRUE(id.ok()) << id.status();
  Region region = SomeRegion(100);
  region.id = *id;
  EXPECT_EQ(service_->Lookup(client->id(), "kv").value(), region);
  EXPECT_TRUE(absl::IsNotFound(service_->Lookup(other->id(), "kv").status()));
  EXPECT_TRUE(client->WithdrawRegion("kv", Soon(), nullptr).ok());
  EXPECT_TRUE(absl::IsNotFound(service_->Lookup(client->id(), "kv").status()));
  EXPECT_THAT(host_.told(), Contains("published kv of 100"));
  EXPECT_THAT(host_.told(), Contains("withdrawn kv of 100"));
}

TEST_F(SessionServiceTest, RegionThatIsWrongIsNamed) {
  Start();
  const auto client = OpenAndMake();
  Region region = SomeRegion(0);
  EXPECT_EQ(client->PublishRegion("kv", region, Soon(), nullptr).status(),
            absl::InvalidArgumentError(absl::StrCat(
                Named("PublishRegion"), " for ", SessionName(client->id()),
                ": region.size: 0 is below 1")));
  region = SomeRegion();
  region.id = 5;
  EXPECT_THAT(std::string(client->PublishRegion("kv", region, Soon(), nullptr)
                              .status()
                              .message()),
              HasSubstr("region.id: 5 is above 0"));
  EXPECT_THAT(
      std::string(client->WithdrawRegion("", Soon(), nullptr).message()),
      HasSubstr("name: 0 is below 1"));
  EXPECT_TRUE(absl::IsNotFound(client->WithdrawRegion("kv", Soon(), nullptr)));
}

TEST_F(SessionServiceTest, RegionOfTheServerIsFoundByName) {
  Start();
  const auto client = OpenAndMake();
  const auto other = OpenAndMake();
  const uint64_t every =
      service_->Publish(SessionService::kEverySession, "kv", SomeRegion(1))
          .value();
  const uint64_t own =
      service_->Publish(client->id(), "kv", SomeRegion(2)).value();
  EXPECT_NE(every, own);
  EXPECT_EQ(client->LookupRegion("kv", Soon(), nullptr)->id, own);
  EXPECT_EQ(other->LookupRegion("kv", Soon(), nullptr)->id, every);
  ASSERT_TRUE(service_->Withdraw(client->id(), "kv").ok());
  EXPECT_EQ(client->LookupRegion("kv", Soon(), nullptr)->id, every);
  const absl::Status none =
      client->LookupRegion("vk", Soon(), nullptr).status();
  EXPECT_TRUE(absl::IsNotFound(none));
  EXPECT_THAT(std::string(none.message()), HasSubstr("region \"vk\""));
}

TEST_F(SessionServiceTest, RegionsOfNoSessionAreErrors) {
  Start();
  EXPECT_TRUE(absl::IsNotFound(service_->Publish(5, "kv", {}).status()));
  EXPECT_TRUE(absl::IsNotFound(service_->Withdraw(5, "kv")));
  EXPECT_TRUE(absl::IsNotFound(service_->Lookup(5, "kv").status()));
}

TEST_F(SessionServiceTest, WatchTellsWhatHappensUntilTheSessionIsClosed) {
  Start();
  const auto client = OpenAndMake();
  const auto other = OpenAndMake();
  Diary diary;
  const auto watch =
      client->Watch(diary.on_event(), diary.on_end(), Soon(), nullptr);
  ASSERT_TRUE(watch.ok()) << watch.status();
  const auto publish = [&](uint64_t session, const char* name) {
    return service_->Publish(session, name, SomeRegion()).value();
  };
  const uint64_t every = publish(SessionService::kEverySession, "every");
  const uint64_t own = publish(client->id(), "own");
  publish(other->id(), "other's");
  ASSERT_TRUE(service_->Withdraw(SessionService::kEverySession, "every").ok());
  ASSERT_TRUE(service_->Withdraw(other->id(), "other's").ok());
  ASSERT_TRUE(service_->Withdraw(client->id(), "own").ok());
  service_->Drain("an update", Duration(7));
  ASSERT_TRUE(service_->End(client->id(), absl::AbortedError("enough")).ok());
  EXPECT_THAT(diary.Read(5),
              ElementsAre(absl::StrCat("withdrawn every ", every),
                          absl::StrCat("withdrawn own ", own),
                          "draining: an update, 7 ns",
                          "closed: ABORTED: enough", "end: OK"));
  EXPECT_THAT(host_.told(), Contains("closed: ABORTED: enough"));
}

TEST_F(SessionServiceTest, WatchThatBeginsLateHearsOfTheDrain) {
  Start();
  const auto client = OpenAndMake();
  service_->Drain("an update", Duration(7));
  Diary diary;
  const auto watch =
      client->Watch(diary.on_event(), diary.on_end(), Soon(), nullptr);
  ASSERT_TRUE(watch.ok()) << watch.status();
  EXPECT_THAT(diary.Read(1), ElementsAre("draining: an update, 7 ns"));
}

TEST_F(SessionServiceTest, LaterWatchEndsTheEarlierOne) {
  Start();
  const auto client = OpenAndMake();
  Diary first;
  Diary second;
  const auto watch =
      client->Watch(first.on_event(), first.on_end(), Soon(), nullptr);
  const auto later =
      client->Watch(second.on_event(), second.on_end(), Soon(), nullptr);
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_THAT(first.Read(1), ElementsAre("end: ABORTED: the session is watched "
                                         "by a later call"));
  service_->Drain("an update", Duration(7));
  EXPECT_THAT(second.Read(1), ElementsAre("draining: an update, 7 ns"));
}

TEST_F(SessionServiceTest, WatchThatIsDestroyedSaysNoMore) {
  Start();
  const auto client = OpenAndMake();
  Diary diary;
  auto watch = client->Watch(diary.on_event(), diary.on_end(), Soon(), nullptr);
  ASSERT_TRUE(watch.ok()) << watch.status();
  watch->reset();
  service_->Drain("an update", Duration(7));
  EXPECT_THAT(diary.Read(0), ElementsAre());
}

TEST_F(SessionServiceTest, ClientThatDoesNotReadIsEnded) {
  Start();
  v1::OpenSessionRequest request;
  request.add_versions(1);
  *request.mutable_layout() = ToMessage(SessionLayout());
  v1::OpenSessionResponse response;
  const auto stub = v1::Control::NewStub(channel_);
  grpc::ClientContext opening;
  ASSERT_TRUE(stub->OpenSession(&opening, request, &response).ok());
  v1::WatchRequest watch;
  *watch.mutable_session() = response.session();
  grpc::ClientContext watching;
  const auto reader = stub->Watch(&watching, watch);
  v1::WatchEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_started());
  // Far more than HTTP/2 and the server keep for it.
  const std::string name(255, 'n');
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(
        service_->Publish(SessionService::kEverySession, name, SomeRegion())
            .ok());
    ASSERT_TRUE(service_->Withdraw(SessionService::kEverySession, name).ok());
  }
  int read = 0;
  while (reader->Read(&event)) ++read;
  EXPECT_LT(read, 10000);
  EXPECT_EQ(FromGrpcStatus(reader->Finish()),
            absl::ResourceExhaustedError("the client reads too slowly: 1024 "
                                         "events wait for it; watch again"));
}

TEST_F(SessionServiceTest, WatchOfAnUnknownSessionIsRefused) {
  Start();
  const auto client = OpenAndMake();
  ASSERT_TRUE(service_->End(client->id(), absl::OkStatus()).ok());
  Diary diary;
  const absl::Status status =
      client->Watch(diary.on_event(), diary.on_end(), Soon(), nullptr).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), StartsWith(Named("Watch")));
  EXPECT_THAT(diary.Read(0), ElementsAre());
}

TEST_F(SessionServiceTest, WatchBreaksWhenTheServerGoes) {
  Start();
  const auto client = OpenAndMake();
  Diary diary;
  const auto watch =
      client->Watch(diary.on_event(), diary.on_end(), Soon(), nullptr);
  ASSERT_TRUE(watch.ok()) << watch.status();
  service_->Close();
  server_->Shutdown(std::chrono::seconds(20));  // it waits for the watch's end
  EXPECT_THAT(diary.Read(2),
              ElementsAre("closed: UNAVAILABLE: the server is shutting down",
                          "end: OK"));
}

TEST_F(SessionServiceTest, ClosedSessionIsNotKnownAnyMore) {
  Start();
  const auto client = OpenAndMake();
  const Token token = client->pass().token;
  ASSERT_TRUE(
      client->Close(absl::DataLossError("bad frame"), Soon(), nullptr).ok());
  EXPECT_THAT(host_.told(), Contains("closed: DATA_LOSS: bad frame"));
  EXPECT_EQ(service_->statistics().sessions, 0u);
  EXPECT_THAT(inviter_.Connect(token, client->id(), {0, 0}),
              HasSubstr("never given out"));
  const absl::Status again = client->Close(absl::OkStatus(), Soon(), nullptr);
  EXPECT_TRUE(absl::IsNotFound(again));
  EXPECT_THAT(std::string(again.message()),
              HasSubstr("is not known to the server"));
  const std::vector<uint32_t> lost = {0};
  EXPECT_TRUE(
      absl::IsNotFound(client->Reconnect(lost, Soon(), nullptr).status()));
  EXPECT_TRUE(
      absl::IsNotFound(client->LookupRegion("kv", Soon(), nullptr).status()));
}

TEST_F(SessionServiceTest, AnotherSecretOpensNothing) {
  Start();
  const auto client = OpenAndMake();
  v1::CloseSessionRequest request;
  request.mutable_session()->set_id(client->id());
  v1::CloseSessionResponse response;
  const auto stub = v1::Control::NewStub(channel_);
  const auto close = [&](const std::string& secret) {
    request.mutable_session()->set_secret(secret);
    grpc::ClientContext context;
    return FromGrpcStatus(stub->CloseSession(&context, request, &response));
  };
  EXPECT_TRUE(absl::IsNotFound(close(std::string(16, 's'))));
  EXPECT_EQ(close("short"),
            absl::InvalidArgumentError(
                "session.secret: a token has 16 bytes, this one has 5"));
  EXPECT_EQ(service_->statistics().sessions, 1u);
}

TEST_F(SessionServiceTest, DrainingServerTakesNoNewSessions) {
  Start();
  const auto client = OpenAndMake();
  service_->Drain("an update", Duration(7));
  EXPECT_EQ(Open().status(), absl::UnavailableError(absl::StrCat(
                                 Named("OpenSession"),
                                 ": the server takes no more sessions: an "
                                 "update")));
  EXPECT_TRUE(client->PublishRegion("kv", SomeRegion(), Soon(), nullptr).ok());
}

TEST_F(SessionServiceTest, ClosedServiceEndsAllAndTakesNoMore) {
  Start();
  const auto client = OpenAndMake();
  service_->Close();
  EXPECT_THAT(host_.told(),
              Contains("closed: UNAVAILABLE: the server is shutting down"));
  EXPECT_TRUE(absl::IsUnavailable(Open().status()));
  EXPECT_TRUE(absl::IsUnavailable(
      client->PublishRegion("kv", SomeRegion(), Soon(), nullptr).status()));
}

TEST_F(SessionServiceTest, SessionThatIsOpenedDuringCloseIsClosed) {
  host_.on_open = [&](const SessionHost::Opening&,
                      const FakeHost::OpenDone& done) {
    service_->Close();
    done(absl::OkStatus());
  };
  Start();
  EXPECT_TRUE(absl::IsUnavailable(Open().status()));
  EXPECT_THAT(host_.told(),
              ElementsAre(StartsWith("open"), StartsWith("closed")));
}

TEST_F(SessionServiceTest, SetUpThatTakesTooLongIsEnded) {
  Start();
  const auto late = Open().value();
  const auto done = OpenAndMake();
  clock_.Advance(seconds(29));
  service_->Reap();
  EXPECT_EQ(service_->statistics().sessions, 2u);
  clock_.Advance(seconds(1));
  service_->Reap();
  EXPECT_EQ(service_->statistics().sessions, 1u);
  EXPECT_THAT(host_.told(),
              Contains("closed: DEADLINE_EXCEEDED: the client did not make "
                       "all its links in time"));
}

TEST_F(SessionServiceTest, LateSetUpsMakeRoomWhenItIsNeeded) {
  options_.sessions.max_set_ups = 1;
  Start();
  const auto late = Open().value();
  clock_.Advance(seconds(30));
  EXPECT_TRUE(Open().ok());
}

TEST_F(SessionServiceTest, CallThatIsCancelledEnds) {
  absl::Mutex mutex;
  std::vector<FakeHost::OpenDone> opening;
  host_.on_open = [&](const SessionHost::Opening&, FakeHost::OpenDone done) {
    MutexLock lock(&mutex);
    opening.push_back(std::move(done));
  };
  Start();
  Cancellation cancel = *Cancellation::Create();
  absl::Status opened;
  std::thread client([&] {
    opened = SessionClient::Open(ClientOptions(), {}, Soon(), &cancel).status();
  });
  ASSERT_TRUE(UntilTrue([&] {
                MutexLock lock(&mutex);
                return !opening.empty();
              }).ok());
  cancel.Cancel();
  client.join();
  EXPECT_EQ(opened, absl::CancelledError(
                        absl::StrCat(Named("OpenSession"), ": given up")));
  opening[0](absl::OkStatus());
  // Whether gRPC has told the server yet or not, the session does not stay.
  clock_.Advance(seconds(30));
  service_->Reap();
  EXPECT_EQ(service_->statistics().sessions, 0u);
}

TEST_F(SessionServiceTest, DeadlineEndsACall) {
  Start();
  const auto client = OpenAndMake();
  const absl::Status status =
      client->LookupRegion("kv", Now(), nullptr).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), StartsWith(Named("LookupRegion")));
}

TEST_F(SessionServiceTest, ServerThatIsNotThereIsNamed) {
  Start();
  SessionClient::Options options = ClientOptions();
  Stop();
  const absl::Status status =
      SessionClient::Open(options, {}, Soon(), nullptr).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              StartsWith(absl::StrCat("OpenSession at ",
                                      options.server.ToString(), ": ")));
}

TEST_F(SessionServiceTest, BusyServerIsAskedAgainAfterAPause) {
  options_.sessions.max_set_ups = 1;
  Start();
  auto first = Open().value();
  SessionClient::Options options = ClientOptions();
  std::vector<Duration> pauses;
  SeededRandom random(5);
  options.random = &random;
  options.backoff = {.first = seconds(4), .longest = seconds(8)};
  options.pause = [&](Duration pause, const Cancellation*) {
    pauses.push_back(pause);
    if (pauses.size() == 3) {
      for (const LinkId link : first->pass().links) {
        first->ExchangeLayout(link, SomeLink(), Soon(), nullptr).value();
      }
    }
    return absl::OkStatus();
  };
  const auto second = SessionClient::Open(options, {}, Soon(), nullptr);
  EXPECT_TRUE(second.ok()) << second.status();
  SeededRandom same(5);
  Backoff backoff(options.backoff, same);
  const Duration first_pause = backoff.Next();
  const Duration second_pause = backoff.Next();
  EXPECT_THAT(pauses, ElementsAre(first_pause, second_pause, backoff.Next()));
}

TEST_F(SessionServiceTest, ServerThatStaysBusyIsAClearError) {
  options_.sessions.max_set_ups = 1;
  Start();
  const auto first = Open().value();
  SessionClient::Options options = ClientOptions();
  FakeClock clock;
  options.backoff = {.first = seconds(10), .longest = seconds(10)};
  options.pause = [&](Duration, const Cancellation*) {
    clock.Advance(seconds(10));
    return absl::OkStatus();
  };
  EXPECT_EQ(SessionClient::Open(options, {},
                                Deadline::After(seconds(25), clock), nullptr)
                .status(),
            absl::ResourceExhaustedError(absl::StrCat(
                Named("OpenSession"),
                ": the server sets up 1 sessions, which is its limit at a "
                "time; it was asked 3 times")));
}

TEST_F(SessionServiceTest, FullServerIsAskedOnce) {
  options_.sessions.max_sessions = 1;
  Start();
  const auto first = OpenAndMake();
  SessionClient::Options options = ClientOptions();
  options.pause = [](Duration, const Cancellation*) {
    ADD_FAILURE() << "nothing to wait for";
    return absl::OkStatus();
  };
  const absl::Status status =
      SessionClient::Open(options, {}, Soon(), nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 1 sessions"));
  EXPECT_EQ(service_->statistics().refused, 1u);
}

TEST_F(SessionServiceTest, PauseIsCancelledToo) {
  options_.sessions.max_set_ups = 1;
  Start();
  const auto first = Open().value();
  SessionClient::Options options = ClientOptions();
  options.backoff = {.first = seconds(10), .longest = seconds(10)};
  Cancellation cancel = *Cancellation::Create();
  absl::Status opened;
  std::thread client([&] {
    opened = SessionClient::Open(options, {}, Soon(), &cancel).status();
  });
  ASSERT_TRUE(
      UntilTrue([&] { return service_->statistics().refused == 1; }).ok());
  cancel.Cancel();
  client.join();
  EXPECT_TRUE(absl::IsCancelled(opened)) << opened;
}

TEST_F(SessionServiceTest, ThisSideSetsUpSoManyAtATime) {
  SetUpLimit one(1);
  Start();
  SessionClient::Options options = ClientOptions();
  options.set_ups = &one;
  auto first = SessionClient::Open(options, {}, Soon(), nullptr).value();
  const auto full = [&] {
    return SessionClient::Open(options, {}, Now(), nullptr).status().code() ==
           absl::StatusCode::kResourceExhausted;
  };
  EXPECT_TRUE(full());
  first->ExchangeLayout({0, 0}, SomeLink(), Soon(), nullptr).value();
  EXPECT_TRUE(full());
  first->ExchangeLayout({1, 0}, SomeLink(), Soon(), nullptr).value();
  auto second = SessionClient::Open(options, {}, Soon(), nullptr);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(full());
  second->reset();
  EXPECT_TRUE(SessionClient::Open(options, {}, Soon(), nullptr).ok());
}

TEST_F(SessionServiceTest, SessionsGoOverMutualTls) {
  const Authority authority("nd's authority");
  CredentialFiles files;
  credentials_ =
      files.Make(authority.certificate(), authority.Issue("127.0.0.1"));
  Start();
  EXPECT_TRUE(absl::IsUnavailable(Open().status()));
  channel_ =
      MakeChannel(server_->address(), files.Make(authority.certificate(),
                                                 authority.Issue("a client")))
          .value();
  EXPECT_TRUE(Open().ok());
}

class LogKeeper final : public LogSink {
 public:
  void Write(const LogRecord& record) override {
    MutexLock lock(&mutex_);
    absl::StrAppend(&text_, std::string(record.message), "\n");
  }
  std::string text() {
    MutexLock lock(&mutex_);
    return text_;
  }

 private:
  absl::Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(SessionServiceTest, TokensAndSecretsAreNotLogged) {
  const auto keeper = std::make_shared<LogKeeper>();
  const LogLevel level = GetLogLevel();
  SetLogSink(keeper);
  SetLogLevel(LogLevel::kDebug);
  Start();
  const auto client = OpenAndMake();
  ASSERT_TRUE(client->Close(absl::OkStatus(), Soon(), nullptr).ok());
  SetLogSink(nullptr);
  SetLogLevel(level);
  EXPECT_THAT(keeper->text(), HasSubstr(SessionName(client->id())));
  // The service's first draws are the secret and the session's id.
  SeededRandom same(1);
  const std::string secret = Token::Generate(same).bytes();
  ASSERT_EQ(same.Next(), client->id());
  for (const std::string& bytes : {client->pass().token.bytes(), secret}) {
    EXPECT_THAT(keeper->text(), Not(HasSubstr(bytes)));
    EXPECT_THAT(keeper->text(), Not(HasSubstr(absl::BytesToHexString(bytes))));
  }
}

}  // namespace
}  // namespace nd::control

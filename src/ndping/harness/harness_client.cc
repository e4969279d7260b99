#include "ndping/harness/harness_client.h"

#include <atomic>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/grpc_channel.h"
#include "control/grpc_status.h"
#include "nd/v1/harness.grpc.pb.h"
#include "ndping/harness/client_call.h"
#include "ndping/harness/harness_internal.h"
#include "ndping/text/version.h"

namespace nd::ndping {
namespace {

absl::StatusOr<v1::ServerInfo> AskServerInfo(v1::Harness::Stub& stub,
                                             const verbs::SocketAddress& server,
                                             Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  v1::ServerInfo info;
  const grpc::Status status = stub.GetServerInfo(&context, {}, &info);
  if (status.ok()) return info;
  const std::string name = absl::StrCat("server ", server.ToString());
  absl::Status error = Annotate(control::FromGrpcStatus(status), name);
  if (!absl::IsUnavailable(error)) return error;
  return absl::UnavailableError(absl::StrCat(
      error.message(), "; does `ndping server` run there, at this port?"));
}

// What the threads of a test's client share, and the way through the test.
class ClientTest {
 public:
  struct Options {
    v1::Harness::Stub* stub = nullptr;
    verbs::SocketAddress server;
    std::optional<verbs::SocketAddress> from;
    v1::Limits limits;
    Dialer* dialer = nullptr;
    const Cancellation* interrupt = nullptr;
    TestObserver* observer = nullptr;
  };
  ClientTest(const Options& options, const v1::TestSpec& spec,
             TestSession& session)
      : options_(options),
        spec_(spec),
        session_(session),
        call_(*options.stub, session) {}

  absl::Status RunPhases(TestResult& result) { return Ended(Phases(result)); }
  absl::Status RunConnections(ConnectResult& result) {
    return Ended(Connections(result));
  }

 private:
  using OpenConnections = std::deque<std::unique_ptr<BareConnection>>;

  absl::StatusOr<Dialer::Target> Open(std::string* server_version);
  absl::Status Connect(const Dialer::Target& target);
  absl::Status Phases(TestResult& result);
  absl::StatusOr<PhaseResult> RunPhase(uint32_t index);
  absl::Status Connections(ConnectResult& result);
  absl::Status ConnectAll(const Dialer::Target& target, ConnectResult& result);
  absl::Status Release(OpenConnections open);
  absl::Status Ended(const absl::Status& status);
  absl::Status CheckInterrupt(absl::string_view doing) const;

  const Options options_;
  const v1::TestSpec& spec_;
  TestSession& session_;
  std::unique_ptr<TestSide> side_;  // outlives the call, which is told first
  ClientCall call_;
  std::unique_ptr<ConnectionWatch> watch_;
  std::atomic<uint64_t> connected_{0};
};

absl::Status ClientTest::Ended(const absl::Status& status) {
  if (status.ok()) return status;
  return call_.Conclude(status, side_ != nullptr);
}

absl::Status ClientTest::CheckInterrupt(absl::string_view doing) const {
  if (!options_.interrupt->cancelled()) return absl::OkStatus();
  return absl::CancelledError(absl::StrCat("interrupted while ", doing));
}

absl::StatusOr<Dialer::Target> ClientTest::Open(std::string* server_version) {
  v1::Open open;
  open.set_client_version(kVersion);
  *open.mutable_spec() = spec_;
  ND_RETURN_IF_ERROR(call_.Send(std::move(open)));
  ND_ASSIGN_OR_RETURN(v1::Opened opened,
                      session_.Receive<v1::Opened>(session_.timing().message));
  if (server_version != nullptr) *server_version = opened.server_version();
  ND_ASSIGN_OR_RETURN(const control::Token token,
                      control::Token::FromBytes(opened.token()));
  if (spec_.has_session() && opened.session_port() == 0) {
    return absl::UnimplementedError(absl::StrCat(
        "server ", options_.server.ToString(), " of version ",
        opened.server_version(), " has no sessions: it knows verbs only"));
  }
  verbs::SocketAddress address = options_.server;
  const auto port = static_cast<uint16_t>(opened.port());
  if (!opened.address().empty()) {
    ND_ASSIGN_OR_RETURN(address,
                        verbs::SocketAddress::Parse(opened.address(), port));
  }
  address.set_port(port);
  return Dialer::Target{
      .server = address,
      .from = options_.from,
      .token = token,
      .session_port = static_cast<uint16_t>(opened.session_port())};
}

absl::Status ClientTest::Connect(const Dialer::Target& target) {
  const Duration limit =
      ConnectLimit(spec_, options_.limits, session_.timing());
  ND_RETURN_IF_ERROR(session_.Perform(
      {.doing = "connecting",
       // The job's own deadline passes first and says who did not answer.
       .limit = limit + session_.timing().message,
       .check = [this] { return CheckInterrupt("connecting"); }},
      [&]() -> absl::Status {
        ND_ASSIGN_OR_RETURN(
            side_,
            options_.dialer->Connect(
                {.spec = spec_,
                 .client = true,
                 .max_memory = options_.limits.max_memory()},
                target, Deadline::After(limit), session_.cancellation()));
        return absl::OkStatus();
      }));
  ND_ASSIGN_OR_RETURN(watch_, ConnectionWatch::Start(*side_, session_));
  ND_RETURN_IF_ERROR(call_.Send(side_->layout()));
  // The server may still be busy with the last connections.
  ND_ASSIGN_OR_RETURN(
      const v1::Layout layout,
      session_.Receive<v1::Layout>(limit + session_.timing().message));
  return side_->SetPeerLayout(layout);
}

absl::Status ClientTest::Phases(TestResult& result) {
  ND_ASSIGN_OR_RETURN(const Dialer::Target target,
                      Open(&result.server_version));
  ND_RETURN_IF_ERROR(Connect(target));
  for (int i = 0; i < spec_.sizes_size(); ++i) {
    if (options_.interrupt->cancelled()) break;
    ND_ASSIGN_OR_RETURN(PhaseResult phase, RunPhase(static_cast<uint32_t>(i)));
    options_.observer->OnPhaseEnd(phase);
    result.phases.push_back(std::move(phase));
    if (result.phases.back().interrupted) break;
  }
  // From here on lost connections are what is wanted.
  watch_.reset();
  call_.CloseWrites();
  side_->Disconnect();
  ND_RETURN_IF_ERROR(session_.AwaitClose(session_.timing().message));
  if (!result.phases.empty()) return absl::OkStatus();
  return CheckInterrupt("preparing");
}

absl::StatusOr<PhaseResult> ClientTest::RunPhase(uint32_t index) {
  const Timing& timing = session_.timing();
  PhaseResult result;
  result.size = spec_.sizes(static_cast<int>(index));
  options_.observer->OnPhaseStart(spec_, index);
  // Before the server is told to start: it may send at once.
  ND_RETURN_IF_ERROR(session_.Perform({.doing = "preparing the buffers",
                                       .limit = timing.prepare,
                                       .check = nullptr},
                                      [&] { return side_->Prepare(index); }));
  session_.ArmPhase();
  v1::StartPhase start;
  start.set_index(index);
  ND_RETURN_IF_ERROR(call_.Send(std::move(start)));
  ND_RETURN_IF_ERROR(
      session_.Receive<v1::PhaseReady>(timing.prepare + timing.message));
  const PhaseLimits limits =
      LimitsOfPhase(spec_, result.size, options_.limits, timing);
  const auto on_tick = [&](uint64_t messages, Duration elapsed) {
    options_.observer->OnProgress(index, messages, elapsed);
  };
  const auto on_message = [&,
                           number = uint64_t{0}](uint64_t latency_ns) mutable {
    options_.observer->OnMessage(number++, WireDuration(latency_ns));
  };
  ND_ASSIGN_OR_RETURN(TestSession::PhaseOutcome outcome,
                      session_.RunPhase(*side_,
                                        {.link = &call_,
                                         .index = index,
                                         .size = result.size,
                                         .initiates = true,
                                         .silence = limits.silence,
                                         .longest = limits.longest,
                                         .interrupt = options_.interrupt,
                                         .on_tick = on_tick,
                                         .on_message = on_message},
                                        &result.latencies));
  result.client = std::move(outcome.report);
  result.interrupted = outcome.interrupted;
  ND_ASSIGN_OR_RETURN(result.server, session_.Receive<v1::PhaseReport>(
                                         limits.silence + timing.message));
  return result;
}

absl::Status ClientTest::Connections(ConnectResult& result) {
  ND_ASSIGN_OR_RETURN(const Dialer::Target target, Open(nullptr));
  options_.observer->OnPhaseStart(spec_, 0);
  const Instant start = Clock::Monotonic().Now();
  ND_RETURN_IF_ERROR(session_.Perform(
      {.doing = "connecting",
       .limit = ConnectLimit(spec_, options_.limits, session_.timing()),
       .check =
           [&] {
             options_.observer->OnProgress(0, connected_,
                                           Clock::Monotonic().Now() - start);
             return absl::OkStatus();
           }},
      [&] { return ConnectAll(target, result); }));
  result.connections = connected_;
  result.interrupted = options_.interrupt->cancelled() &&
                       result.connections < spec_.connections();
  call_.CloseWrites();
  return session_.AwaitClose(session_.timing().message);
}

// On the data thread. Each connection is let go before the next is made, or all
// are held until the last is there.
absl::Status ClientTest::ConnectAll(const Dialer::Target& target,
                                    ConnectResult& result) {
  const Clock& clock = Clock::Monotonic();
  const Cancellation* const cancel = session_.cancellation();
  const Duration silence = session_.timing().silence;
  OpenConnections open;
  const Instant begin = clock.Now();
  for (uint32_t i = 0; i < spec_.connections(); ++i) {
    if (options_.interrupt->cancelled()) break;
    const Instant start = clock.Now();
    absl::StatusOr<std::unique_ptr<BareConnection>> connection =
        options_.dialer->ConnectBare(spec_, target, i, Deadline::After(silence),
                                     cancel);
    if (!connection.ok()) {
      return Annotate(connection.status(), absl::StrCat("connection ", i));
    }
    result.latencies.Record(
        static_cast<uint64_t>((clock.Now() - start).count()));
    ++connected_;
    open.push_back(*std::move(connection));
    if (spec_.hold()) continue;
    ND_RETURN_IF_ERROR(
        open.front()->Disconnect(Deadline::After(silence), cancel));
    open.clear();
  }
  result.elapsed_ns = static_cast<uint64_t>((clock.Now() - begin).count());
  return Release(std::move(open));
}

// Holds what was connected for as long as the test says, then lets it go.
absl::Status ClientTest::Release(OpenConnections open) {
  const Cancellation* const cancel = session_.cancellation();
  if (spec_.hold() && spec_.duration_ns() > 0) {
    // Either way the holding ends here.
    (void)WaitReadable(options_.interrupt->fd(),
                       Deadline::After(WireDuration(spec_.duration_ns())),
                       cancel);
  }
  for (; !open.empty(); open.pop_front()) {
    ND_RETURN_IF_ERROR(open.front()->Disconnect(
        Deadline::After(session_.timing().silence), cancel));
  }
  return absl::OkStatus();
}

class HarnessClientImpl final : public HarnessClient {
 public:
  struct Parts {
    Options options;
    Timing timing;
    verbs::SocketAddress server;
    std::optional<verbs::SocketAddress> from;
    std::unique_ptr<v1::Harness::Stub> stub;
    v1::Limits limits;
    std::unique_ptr<Dialer> dialer;
  };
  explicit HarnessClientImpl(Parts parts) : parts_(std::move(parts)) {}

  absl::StatusOr<v1::ServerInfo> GetServerInfo() override {
    return AskServerInfo(*parts_.stub, parts_.server,
                         parts_.options.connect_timeout);
  }

  absl::StatusOr<TestResult> Run(const v1::TestSpec& spec,
                                 const Cancellation& interrupt,
                                 TestObserver& observer) override {
    TestResult result;
    result.spec = spec;
    result.server = parts_.server.ToString();
    ND_RETURN_IF_ERROR(RunTest(spec, interrupt, observer, [&](ClientTest& t) {
      return t.RunPhases(result);
    }));
    return result;
  }

  absl::StatusOr<ConnectResult> RunConnect(const v1::TestSpec& spec,
                                           const Cancellation& interrupt,
                                           TestObserver& observer) override {
    ConnectResult result;
    result.spec = spec;
    result.server = parts_.server.ToString();
    ND_RETURN_IF_ERROR(RunTest(spec, interrupt, observer, [&](ClientTest& t) {
      return t.RunConnections(result);
    }));
    return result;
  }

 private:
  template <typename Way>
  absl::Status RunTest(const v1::TestSpec& spec, const Cancellation& interrupt,
                       TestObserver& observer, Way way) {
    ND_RETURN_IF_ERROR(CheckSpec(spec, parts_.limits));
    ND_ASSIGN_OR_RETURN(
        const std::unique_ptr<TestSession> session,
        TestSession::Create(absl::StrCat("server ", parts_.server.ToString()),
                            parts_.timing));
    ClientTest test({.stub = parts_.stub.get(),
                     .server = parts_.server,
                     .from = parts_.from,
                     .limits = parts_.limits,
                     .dialer = parts_.dialer.get(),
                     .interrupt = &interrupt,
                     .observer = &observer},
                    spec, *session);
    return way(test);
  }

  const Parts parts_;
};

// Finds the first address of the host where a server answers; the error is that
// of the last one.
absl::Status Reach(HarnessClientImpl::Parts& parts) {
  const HarnessClient::Options& options = parts.options;
  const Deadline deadline = Deadline::After(options.connect_timeout);
  ND_ASSIGN_OR_RETURN(
      const std::vector<verbs::SocketAddress> addresses,
      verbs::ResolveHost(options.host, options.port, deadline, nullptr));
  absl::Status error =
      absl::NotFoundError(absl::StrCat("no address of ", options.host));
  for (size_t i = 0; i < addresses.size(); ++i) {
    parts.server = addresses[i];
    parts.stub = v1::Harness::NewStub(control::MakeChannel(parts.server));
    const auto share =
        deadline.Remaining() / static_cast<Duration::rep>(addresses.size() - i);
    const absl::StatusOr<v1::ServerInfo> info =
        AskServerInfo(*parts.stub, parts.server, share);
    if (info.ok()) {
      parts.limits = info->limits();
      return absl::OkStatus();
    }
    error = info.status();
  }
  return error;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HarnessClient>> HarnessClient::Create(
    const Options& options) {
  return CreateHarnessClient(options, Dialer::Create(), Timing());
}

absl::StatusOr<std::unique_ptr<HarnessClient>> CreateHarnessClient(
    const HarnessClient::Options& options, std::unique_ptr<Dialer> dialer,
    const Timing& timing) {
  HarnessClientImpl::Parts parts;
  parts.options = options;
  parts.timing = timing;
  parts.dialer = std::move(dialer);
  if (!options.from.empty()) {
    ND_ASSIGN_OR_RETURN(parts.from,
                        verbs::SocketAddress::Parse(options.from, 0));
  }
  ND_RETURN_IF_ERROR(Reach(parts));
  return std::make_unique<HarnessClientImpl>(std::move(parts));
}

}  // namespace nd::ndping

#include "ndping/message/session_side.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/random.h"
#include "base/status.h"
#include "nd/server.h"
#include "nd/session.h"
#include "nd/stream.h"
#include "ndping/engine/plan.h"
#include "ndping/message/phases.h"
#include "ndping/message/progress.h"
#include "ndping/message/session_plan.h"

namespace nd::ndping {
namespace {

constexpr Duration kDisconnectLimit = std::chrono::seconds(2);
// A wait that cannot be cancelled.
constexpr Duration kSlice = std::chrono::milliseconds(100);
constexpr Duration kConnectLimit = std::chrono::seconds(15);
// A client that has a session shows its token at once.
constexpr Duration kTokenLimit = std::chrono::seconds(5);
// Longer than a queue pair takes to give back what it has.
constexpr Duration kQuietLimit = std::chrono::seconds(10);
constexpr Duration kStatusGlance = std::chrono::milliseconds(250);
// Strangers may take some.
constexpr size_t kMaxSessions = 8;

constexpr char kTokenStream[] = "token";
constexpr char kLoadStream[] = "load";

absl::Status Look(const Deadline& deadline, const Cancellation* cancel) {
  if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("");
  if (deadline.Passed()) return absl::DeadlineExceededError("");
  return absl::OkStatus();
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

class SessionSide final : public TestSide {
 public:
  static absl::StatusOr<std::unique_ptr<SessionSide>> Create(
      const Options& options, std::unique_ptr<Progress> progress) {
    ND_ASSIGN_OR_RETURN(TestPlan plan,
                        TestPlan::Make(options.spec, options.max_memory));
    ND_ASSIGN_OR_RETURN(SessionPlan session_plan,
                        SessionPlan::Make(options.spec, options.max_memory));
    ND_ASSIGN_OR_RETURN(Cancellation never, Cancellation::Create());
    return absl::WrapUnique(new SessionSide(
        options, plan, session_plan, std::move(never), std::move(progress)));
  }

  ~SessionSide() override {
    // What a phase that failed has under way ends with the session.
    streams_.clear();
    load_ = {};
    token_ = {};
    session_ = {};
    server_.reset();
    if (phase_ == nullptr) return;
    progress_->Take();
    const Deadline deadline = Deadline::After(kQuietLimit);
    while (!phase_->Quiet() && !deadline.Passed()) {
      progress_->Turn(kSlice, nullptr).IgnoreError();
    }
  }

  absl::Status Connect(const verbs::SocketAddress& server,
                       const std::optional<verbs::SocketAddress>& from,
                       const control::Token& token, const Deadline& deadline);
  absl::Status Accept(std::unique_ptr<Server> server,
                      const control::Token& token, const Deadline& deadline,
                      const Cancellation* cancel);

  // What the session needs to know of the peer it has found out.
  v1::Layout layout() const override { return {}; }
  absl::Status SetPeerLayout(const v1::Layout& layout) override {
    if (layout.queues().empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "the peer's layout is of QPs, the test goes over a session");
  }
  absl::Status Prepare(uint32_t index) override { return CheckIndex(index); }
  absl::StatusOr<v1::PhaseReport> Run(uint32_t index, PhaseControl& control,
                                      Histogram* latencies) override;
  absl::Status WatchConnections(const Deadline& deadline,
                                const Cancellation* cancel) override;
  void Disconnect() override {
    // Best effort: the peer may have gone.
    session_.Close(kDisconnectLimit).IgnoreError();
  }

 private:
  SessionSide(const Options& options, const TestPlan& plan,
              const SessionPlan& session_plan, Cancellation never,
              std::unique_ptr<Progress> progress)
      : options_(options),
        plan_(plan),
        session_plan_(session_plan),
        never_(std::move(never)),
        memory_(plan.HasLocal(options.client) ? plan.area_bytes() * plan.qps
                                              : 0),
        load_memory_(options.client
                         ? session_plan.load_slots * session_plan.load_stride
                         : 0),
        progress_(std::move(progress)) {}

  absl::Status CheckIndex(uint32_t index) const;
  absl::Status RegisterMemory();
  absl::Status ShowsToken(Session& session, const control::Token& token,
                          const Deadline& deadline);
  absl::Status AcceptStreams(const Deadline& deadline,
                             const Cancellation* cancel);
  absl::Status CheckStream(const Stream& stream, absl::string_view name,
                           v1::StreamClass stream_class) const;

  const Options options_;
  const TestPlan plan_;
  const SessionPlan session_plan_;
  const Cancellation never_;  // to sleep on
  // In the order in which they are needed: the last goes first.
  std::vector<std::byte> memory_, load_memory_;
  RegisteredMemory registered_, registered_load_;
  std::unique_ptr<StreamPhase> phase_;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<Server> server_;
  Session session_;
  Stream token_, load_;
  std::vector<Stream> streams_;
};

absl::Status SessionSide::CheckIndex(uint32_t index) const {
  if (index < static_cast<uint32_t>(options_.spec.sizes_size())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "phase ", index, " of a test with ", options_.spec.sizes_size()));
}

absl::Status SessionSide::RegisterMemory() {
  if (!memory_.empty()) {
    ND_ASSIGN_OR_RETURN(registered_,
                        session_.Register(memory_, MemoryUse::kLocal));
  }
  if (!load_memory_.empty()) {
    ND_ASSIGN_OR_RETURN(registered_load_,
                        session_.Register(load_memory_, MemoryUse::kLocal));
  }
  return absl::OkStatus();
}

absl::Status SessionSide::Connect(
    const verbs::SocketAddress& server,
    const std::optional<verbs::SocketAddress>& from,
    const control::Token& token, const Deadline& deadline) {
  ND_RETURN_IF_ERROR(progress_->Release());
  ND_ASSIGN_OR_RETURN(
      session_,
      Session::Connect(progress_->reactor(), server.ToString(),
                       {.layout = session_plan_.layout,
                        .name = "ndping",
                        .from = from.has_value() ? from->host() : ""},
                       std::min(deadline.Remaining(), kConnectLimit)));
  ND_RETURN_IF_ERROR(RegisterMemory());
  ND_ASSIGN_OR_RETURN(token_, session_.Open(StreamClass::kLatency, kTokenStream,
                                            deadline.Remaining()));
  const std::string shown = token.bytes();
  ND_RETURN_IF_ERROR(token_.Send(BytesOf(shown), deadline.Remaining()));
  ND_RETURN_IF_ERROR(token_.Receive(deadline.Remaining()).status());
  const v1::SessionOptions& options = options_.spec.session();
  for (uint32_t i = 0; i < plan_.qps; ++i) {
    ND_ASSIGN_OR_RETURN(Stream stream,
                        session_.Open(ClassOf(options.stream_class()),
                                      absl::StrCat(i), deadline.Remaining()));
    streams_.push_back(std::move(stream));
  }
  if (session_plan_.has_load) {
    ND_ASSIGN_OR_RETURN(load_,
                        session_.Open(ClassOf(options.load().stream_class()),
                                      kLoadStream, deadline.Remaining()));
  }
  return absl::OkStatus();
}

absl::Status SessionSide::Accept(std::unique_ptr<Server> server,
                                 const control::Token& token,
                                 const Deadline& deadline,
                                 const Cancellation* cancel) {
  ND_RETURN_IF_ERROR(progress_->Release());
  server_ = std::move(server);
  for (;;) {
    ND_RETURN_IF_ERROR(Look(deadline, cancel));
    absl::StatusOr<Session> session = server_->Accept(kSlice);
    if (absl::IsDeadlineExceeded(session.status())) continue;
    ND_RETURN_IF_ERROR(session.status());
    const absl::Status shown = ShowsToken(*session, token, deadline);
    if (shown.ok()) {
      session_ = *std::move(session);
      ND_RETURN_IF_ERROR(RegisterMemory());
      return AcceptStreams(deadline, cancel);
    }
    ND_LOG(kWarning, session->name(), " is not of this test: ",
           shown.ToString(absl::StatusToStringMode::kWithNoExtraData));
  }
}

absl::Status SessionSide::ShowsToken(Session& session,
                                     const control::Token& token,
                                     const Deadline& deadline) {
  const Duration limit = std::min(kTokenLimit, deadline.Remaining());
  ND_ASSIGN_OR_RETURN(Stream stream, session.Accept(limit));
  ND_ASSIGN_OR_RETURN(const Message message, stream.Receive(limit));
  ND_ASSIGN_OR_RETURN(const control::Token shown,
                      control::Token::FromBytes(absl::string_view(
                          reinterpret_cast<const char*>(message.bytes().data()),
                          message.size())));
  if (!token.Matches(shown)) {
    return absl::PermissionDeniedError("it shows another token");
  }
  token_ = std::move(stream);
  // Bids the client welcome, who opens the others then.
  return token_.Send({}, limit);
}

absl::Status SessionSide::CheckStream(const Stream& stream,
                                      absl::string_view name,
                                      v1::StreamClass stream_class) const {
  if (stream.name() == name && stream.stream_class() == ClassOf(stream_class)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the client has opened a stream '", stream.name(),
                   "' where '", name, "' of the test's class was expected"));
}

// The classes have their connections: what was opened first need not come
// first.
absl::Status SessionSide::AcceptStreams(const Deadline& deadline,
                                        const Cancellation* cancel) {
  const v1::SessionOptions& options = options_.spec.session();
  std::optional<Stream> load;
  while (streams_.size() < plan_.qps ||
         (session_plan_.has_load && !load.has_value())) {
    ND_RETURN_IF_ERROR(Look(deadline, cancel));
    absl::StatusOr<Stream> stream = session_.Accept(kSlice);
    if (absl::IsDeadlineExceeded(stream.status())) continue;
    ND_RETURN_IF_ERROR(stream.status());
    if (session_plan_.has_load && stream->name() == kLoadStream) {
      ND_RETURN_IF_ERROR(
          CheckStream(*stream, kLoadStream, options.load().stream_class()));
      load = *std::move(stream);
      continue;
    }
    ND_RETURN_IF_ERROR(CheckStream(*stream, absl::StrCat(streams_.size()),
                                   options.stream_class()));
    streams_.push_back(*std::move(stream));
  }
  if (load.has_value()) load_ = *std::move(load);
  return absl::OkStatus();
}

absl::StatusOr<v1::PhaseReport> SessionSide::Run(uint32_t index,
                                                 PhaseControl& control,
                                                 Histogram* latencies) {
  ND_RETURN_IF_ERROR(CheckIndex(index));
  progress_->Take();
  phase_ =
      StreamPhase::Create({.spec = options_.spec,
                           .plan = plan_,
                           .client = options_.client,
                           .index = index,
                           .size = options_.spec.sizes(static_cast<int>(index)),
                           .control = control},
                          {.progress = *progress_,
                           .plan = session_plan_,
                           .streams = streams_,
                           .load = session_plan_.has_load ? &load_ : nullptr,
                           .memory = registered_,
                           .load_memory = registered_load_});
  absl::StatusOr<v1::PhaseReport> report = phase_->Run(latencies);
  ND_RETURN_IF_ERROR(progress_->Release());
  return report;
}

absl::Status SessionSide::WatchConnections(const Deadline& deadline,
                                           const Cancellation* cancel) {
  for (;;) {
    const absl::Status status = session_.status();
    // The peer's goodbye is no cancellation of this wait's.
    if (absl::IsCancelled(status)) {
      return absl::UnavailableError(status.message());
    }
    ND_RETURN_IF_ERROR(status);
    const Duration glance = std::min(kStatusGlance, deadline.Remaining());
    absl::Status waited =
        WaitReadable(never_.fd(), Deadline::After(glance), cancel);
    if (!absl::IsDeadlineExceeded(waited) || deadline.Passed()) return waited;
  }
}

class SessionInvitationImpl final : public SessionInvitation {
 public:
  SessionInvitationImpl(const control::Token& token,
                        std::unique_ptr<Progress> progress,
                        std::unique_ptr<Server> server, uint16_t port)
      : token_(token),
        progress_(std::move(progress)),
        server_(std::move(server)),
        port_(port) {}

  const control::Token& token() const override { return token_; }
  uint16_t port() const override { return port_; }

  absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options& options, const Deadline& deadline,
      const Cancellation* cancel) override {
    ND_ASSIGN_OR_RETURN(std::unique_ptr<SessionSide> side,
                        SessionSide::Create(options, std::move(progress_)));
    const absl::Status accepted =
        side->Accept(std::move(server_), token_, deadline, cancel);
    if (absl::IsDeadlineExceeded(accepted) && accepted.message().empty()) {
      return absl::DeadlineExceededError(
          "the client did not open its session in time");
    }
    ND_RETURN_IF_ERROR(Annotate(accepted, "accepting the session"));
    return side;
  }

 private:
  const control::Token token_;
  std::unique_ptr<Progress> progress_;  // outlives the server
  std::unique_ptr<Server> server_;
  const uint16_t port_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TestSide>> ConnectSession(
    const TestSide::Options& options, const verbs::SocketAddress& server,
    const std::optional<verbs::SocketAddress>& from,
    const control::Token& token, const Deadline& deadline,
    const Cancellation* cancel) {
  ND_ASSIGN_OR_RETURN(std::unique_ptr<Progress> progress,
                      Progress::Create(options.spec.cq_mode()));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<SessionSide> side,
                      SessionSide::Create(options, std::move(progress)));
  ND_RETURN_IF_ERROR(side->Connect(server, from, token, deadline));
  if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("");
  return side;
}

absl::StatusOr<std::unique_ptr<SessionInvitation>> SessionInvitation::Create(
    const Options& options) {
  SystemRandom random;
  ND_ASSIGN_OR_RETURN(std::unique_ptr<Progress> progress,
                      Progress::Create(options.spec.cq_mode()));
  ND_RETURN_IF_ERROR(progress->Release());
  ND_ASSIGN_OR_RETURN(verbs::SocketAddress address,
                      verbs::SocketAddress::Parse(options.host, 0));
  ND_ASSIGN_OR_RETURN(
      std::unique_ptr<Server> server,
      Server::Start({&progress->reactor()},
                    {.address = address.ToString(),
                     // As the harness itself: whoever shows the token may.
                     .allow_insecure_remote = true,
                     .max_sessions = kMaxSessions,
                     .send_memory = options.max_memory,
                     .receive_memory = options.max_memory}));
  const std::string listens = server->address();
  uint32_t port = 0;
  if (!absl::SimpleAtoi(listens.substr(listens.rfind(':') + 1), &port)) {
    return absl::InternalError(absl::StrCat("no port in ", listens));
  }
  return std::make_unique<SessionInvitationImpl>(
      control::Token::Generate(random), std::move(progress), std::move(server),
      static_cast<uint16_t>(port));
}

}  // namespace nd::ndping

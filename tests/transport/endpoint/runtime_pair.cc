#include "transport/endpoint/runtime_pair.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>
#include <utility>

#include "base/status.h"
#include "verbs/rdma_env.h"

namespace nd::transport {
namespace {

Deadline Soon() { return Deadline::After(std::chrono::seconds(30)); }

template <typename T>
T& OperationOf(Submission& submission) {
  return static_cast<T&>(OperationAccess::Submitted(submission));
}

}  // namespace

Side::Side(Reactor::Progress progress, const SessionLayout& layout, bool client)
    : layout_(layout), client_(client), qps_(layout.links()) {
  auto engine = Engine::Create({.progress = progress});
  EXPECT_TRUE(engine.ok()) << engine.status();
  hub_ = std::make_unique<Hub>(*std::move(engine));
  EXPECT_TRUE(this->engine().Start().ok());
}

Side::~Side() {
  Bury();
  hub_.reset();
}

void Side::On(const std::function<void()>& work) {
  const absl::Status done = engine().Call(work, Late());
  EXPECT_TRUE(done.ok()) << done;
}

absl::Status Side::Begin(const verbs::CmId& id) {
  if (runtime_ != nullptr) return absl::OkStatus();
  ND_ASSIGN_OR_RETURN(std::shared_ptr<HubDevice> device,
                      hub_->Device(id.device_name(), Late()));
  const auto budget = std::make_shared<Budget>("a test", size_t{256} << 20);
  alive_ = budget;
  SessionRuntime::Options options;
  options.layout = layout_;
  options.client = client_;
  options.receive_memory = budget;
  options.registrations = registrations_;
  options.name = client_ ? "the client" : "the server";
  ND_ASSIGN_OR_RETURN(runtime_,
                      SessionRuntime::Create(*hub_, std::move(device),
                                             std::move(options), *this));
  On([this] { hub_->Attach(*runtime_); });
  return absl::OkStatus();
}

absl::StatusOr<verbs::QueuePair*> Side::Prepare(uint32_t link,
                                                uint32_t incarnation,
                                                verbs::CmId& id) {
  absl::StatusOr<verbs::QueuePair*> qp = nullptr;
  On([&] {
    qp = runtime_->PrepareLink(link, incarnation, id);
    if (qp.ok()) qps_[link] = *qp;
  });
  return qp;
}

void Side::Open(uint32_t link, std::unique_ptr<verbs::CmId> id) {
  On([&] { runtime_->OpenLink(link, std::move(id), {}); });
}

void Side::Abandon(uint32_t link) {
  On([&] {
    runtime_->AbandonLink(link, absl::UnavailableError("the test gives it up"));
  });
}

void Side::Send(Stream& stream, SendOperation& operation) {
  engine().Submit(
      OperationAccess::Submit(operation, &stream, [](Submission& self) {
        auto& its = OperationOf<SendOperation>(self);
        OperationAccess::stream(its)->Send(its);
      }));
}

void Side::Receive(Stream& stream, ReceiveOperation& operation) {
  engine().Submit(
      OperationAccess::Submit(operation, &stream, [](Submission& self) {
        auto& its = OperationOf<ReceiveOperation>(self);
        OperationAccess::stream(its)->Receive(its);
      }));
}

void SubmittedAccept::Submit(Side& side) {
  runtime = &side.runtime();
  side.engine().Submit(
      OperationAccess::Submit(*this, nullptr, [](transport::Submission& self) {
        auto& its = OperationOf<SubmittedAccept>(self);
        its.runtime->core().Accept(its);
      }));
}

void Side::Close(Stream& stream) {
  On([&stream] { stream.Close(); });
}

void Side::Break(uint32_t link) {
  On([&] { EXPECT_TRUE(qps_[link]->ToError().ok()); });
}

void Side::Bury() {
  if (runtime_ == nullptr) return;
  On([this] { hub_->Bury(std::move(runtime_)); });
}

std::optional<absl::Status> Side::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

void Side::OnEnded(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  ended_ = why;
}

RuntimePair::RuntimePair(Reactor::Progress progress,
                         const SessionLayout& layout)
    : layout_(layout) {
  for (size_t i = 0; i < 2; ++i) {
    sides_[i] = std::make_unique<Side>(progress, layout, i == 0);
  }
  auto listener =
      verbs::Listener::Create({.address = verbs::PeerAddress(AF_INET)});
  EXPECT_TRUE(listener.ok()) << listener.status();
  listener_ = *std::move(listener);
}

absl::StatusOr<std::unique_ptr<verbs::CmId>> RuntimePair::Resolve() {
  ND_ASSIGN_OR_RETURN(std::shared_ptr<verbs::CmEventChannel> channel,
                      side(0).hub().CmChannel(Late()));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::CmId> id,
                      verbs::CmId::Create(std::move(channel)));
  ND_RETURN_IF_ERROR(id->Resolve(
      listener_->address(), verbs::LocalAddress(AF_INET), Soon(), nullptr));
  ND_RETURN_IF_ERROR(side(0).Begin(*id));
  return id;
}

absl::Status RuntimePair::ConnectClient(uint32_t link, uint32_t incarnation) {
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::CmId> id, Resolve());
  ND_ASSIGN_OR_RETURN(verbs::QueuePair* const qp,
                      side(0).Prepare(link, incarnation, *id));
  const auto answer = id->Connect(*qp, {}, nullptr, Soon(), nullptr);
  if (!answer.ok()) {
    side(0).Abandon(link);
    return answer.status();
  }
  side(0).Open(link, std::move(id));
  return absl::OkStatus();
}

absl::Status RuntimePair::AcceptServer(uint32_t link, uint32_t incarnation) {
  ND_ASSIGN_OR_RETURN(verbs::CmEvent event, listener_->Next(Soon(), nullptr));
  std::unique_ptr<verbs::CmId> id = std::move(event.request);
  ND_RETURN_IF_ERROR(side(1).Begin(*id));
  ND_ASSIGN_OR_RETURN(std::shared_ptr<verbs::CmEventChannel> channel,
                      side(1).hub().CmChannel(Late()));
  ND_ASSIGN_OR_RETURN(verbs::QueuePair* const qp,
                      side(1).Prepare(link, incarnation, *id));
  absl::Status done = id->Accept(*qp, {}, nullptr, Soon(), nullptr);
  if (done.ok()) done = id->Migrate(std::move(channel));
  if (!done.ok()) {
    side(1).Abandon(link);
    return done;
  }
  side(1).Open(link, std::move(id));
  return absl::OkStatus();
}

absl::Status RuntimePair::Connect(uint32_t link, uint32_t incarnation) {
  absl::Status accepted;
  std::thread server([&] { accepted = AcceptServer(link, incarnation); });
  const absl::Status connected = ConnectClient(link, incarnation);
  server.join();
  return connected.ok() ? accepted : connected;
}

absl::Status RuntimePair::ConnectAll() {
  for (uint32_t link = 0; link < layout_.links(); ++link) {
    ND_RETURN_IF_ERROR(Connect(link));
  }
  return absl::OkStatus();
}

std::array<Stream*, 2> RuntimePair::OpenStream(size_t from,
                                               MessageClass message_class) {
  SubmittedAccept accept;
  accept.set_deadline(Late());
  accept.Submit(side(1 - from));
  Stream* opened = nullptr;
  side(from).On([&] {
    auto stream = side(from).runtime().core().OpenStream(message_class, "test");
    EXPECT_TRUE(stream.ok()) << stream.status();
    opened = *stream;
  });
  accept.Wait();
  EXPECT_TRUE(accept.status().ok()) << accept.status();
  std::array<Stream*, 2> both{};
  both[from] = opened;
  both[1 - from] = accept.stream();
  return both;
}

}  // namespace nd::transport

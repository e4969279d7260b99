#include "ndping/harness/harness_server.h"

#include <atomic>
#include <list>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/grpc_channel.h"
#include "control/grpc_server.h"
#include "control/grpc_status.h"
#include "nd/v1/harness.grpc.pb.h"
#include "ndping/harness/harness_internal.h"
#include "ndping/harness/server_call.h"
#include "ndping/text/version.h"

namespace nd::ndping {
namespace {

// How often tests that have ended are cleared away when no new ones come.
constexpr Duration kReapInterval = std::chrono::seconds(1);
constexpr Duration kShutdownGrace = std::chrono::seconds(1);

// Says no, and nothing else.
class RefusedCall final
    : public grpc::ServerBidiReactor<v1::RunRequest, v1::RunResponse> {
 public:
  explicit RefusedCall(const absl::Status& status) {
    Finish(control::ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

std::string ClientName(const std::string& grpc_peer) {
  const absl::StatusOr<verbs::SocketAddress> address =
      control::ParsePeer(grpc_peer);
  return address.ok() ? address->ToString() : grpc_peer;
}

// The service: counts tests, keeps them within the limit, and clears them away.
// Thread-safe.
class HarnessService final : public v1::Harness::CallbackService {
 public:
  HarnessService(const v1::Limits& limits, const Timing& timing,
                 std::unique_ptr<Reception> reception)
      : limits_(limits), timing_(timing), reception_(std::move(reception)) {}
  ~HarnessService() override { Close(); }

  const Reception& reception() const { return *reception_; }

  // Ends all tests and takes no more; returns when their threads have ended.
  void Close();
  // Forgets tests that have ended.
  void Reap();

 private:
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest*,
                                          v1::ServerInfo* info) override;
  grpc::ServerBidiReactor<v1::RunRequest, v1::RunResponse>* Run(
      grpc::CallbackServerContext* context) override;
  absl::StatusOr<ServerCall*> Admit(grpc::CallbackServerContext* context);
  void ReapLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const v1::Limits limits_;
  const Timing timing_;
  const std::unique_ptr<Reception> reception_;
  std::atomic<uint32_t> running_{0};

  absl::Mutex mutex_;
  std::list<std::unique_ptr<ServerCall>> tests_ ABSL_GUARDED_BY(mutex_);
  uint64_t tests_total_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

grpc::ServerUnaryReactor* HarnessService::GetServerInfo(
    grpc::CallbackServerContext* context, const v1::GetServerInfoRequest*,
    v1::ServerInfo* info) {
  info->set_version(kVersion);
  info->set_rdma_endpoint(reception_->address().ToString());
  *info->mutable_limits() = limits_;
  info->set_tests_running(running_);
  info->set_requests_accepted(reception_->accepted());
  info->set_requests_rejected(reception_->rejected());
  {
    MutexLock lock(&mutex_);
    info->set_tests_total(tests_total_);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

absl::StatusOr<ServerCall*> HarnessService::Admit(
    grpc::CallbackServerContext* context) {
  MutexLock lock(&mutex_);
  ReapLocked();
  if (closed_) return absl::UnavailableError("the server is shutting down");
  if (running_ >= limits_.max_tests()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the server runs ", running_.load(),
                     " tests already, which is its limit; try again later"));
  }
  ServerCall::Options options{.id = tests_total_ + 1,
                              .client = ClientName(context->peer()),
                              .limits = limits_,
                              .timing = timing_,
                              .reception = reception_.get(),
                              .on_freed = [this] { --running_; }};
  ND_ASSIGN_OR_RETURN(std::unique_ptr<ServerCall> test,
                      ServerCall::Create(context, std::move(options)));
  ++running_;
  ++tests_total_;
  tests_.push_back(std::move(test));
  tests_.back()->Start();
  return tests_.back().get();
}

grpc::ServerBidiReactor<v1::RunRequest, v1::RunResponse>* HarnessService::Run(
    grpc::CallbackServerContext* context) {
  const absl::StatusOr<ServerCall*> test = Admit(context);
  if (test.ok()) return *test;
  ND_LOG(kWarning, "client ", ClientName(context->peer()),
         " refused: ", test.status().ToString());
  return new RefusedCall(test.status());
}

void HarnessService::ReapLocked() {
  tests_.remove_if([](const auto& test) { return test->finished(); });
}

void HarnessService::Reap() {
  MutexLock lock(&mutex_);
  ReapLocked();
}

void HarnessService::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  for (const auto& test : tests_) {
    test->Stop(absl::UnavailableError("the server is shutting down"));
  }
  for (const auto& test : tests_) test->Join();
}

class HarnessServerImpl final : public HarnessServer {
 public:
  HarnessServerImpl(std::unique_ptr<HarnessService> service,
                    std::unique_ptr<control::GrpcServer> server)
      : service_(std::move(service)), server_(std::move(server)) {}
  ~HarnessServerImpl() override { Shutdown(); }

  std::string grpc_endpoint() const override {
    return server_->address().ToString();
  }
  std::string rdma_endpoint() const override {
    return service_->reception().address().ToString();
  }

  absl::Status Serve(const Cancellation& stop) override {
    for (;;) {
      absl::Status waited =
          WaitReadable(stop.fd(), Deadline::After(kReapInterval), nullptr);
      service_->Reap();
      if (absl::IsDeadlineExceeded(waited)) continue;
      Shutdown();
      return waited;
    }
  }

 private:
  void Shutdown() {
    service_->Close();
    server_->Shutdown(kShutdownGrace);
  }

  const std::unique_ptr<HarnessService> service_;
  const std::unique_ptr<control::GrpcServer> server_;  // ends first
};

}  // namespace

absl::StatusOr<std::unique_ptr<HarnessServer>> HarnessServer::Start(
    const Options& options) {
  ND_ASSIGN_OR_RETURN(
      const verbs::SocketAddress address,
      verbs::SocketAddress::Parse(options.address, options.rdma_port));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<Reception> reception,
                      Reception::Open(address));
  return StartHarnessServer(options, std::move(reception), Timing());
}

absl::StatusOr<std::unique_ptr<HarnessServer>> StartHarnessServer(
    const HarnessServer::Options& options, std::unique_ptr<Reception> reception,
    const Timing& timing) {
  ND_ASSIGN_OR_RETURN(
      const verbs::SocketAddress address,
      verbs::SocketAddress::Parse(options.address, options.port));
  auto service = std::make_unique<HarnessService>(options.limits, timing,
                                                  std::move(reception));
  control::GrpcServer::Options server_options;
  server_options.address = address;
  server_options.services = {service.get()};
  server_options.names = {v1::Harness::service_full_name()};
  // Its tests are for whoever reaches it, within the limits that it was given.
  server_options.allow_insecure_remote = true;
  ND_ASSIGN_OR_RETURN(std::unique_ptr<control::GrpcServer> server,
                      control::GrpcServer::Start(server_options));
  return std::make_unique<HarnessServerImpl>(std::move(service),
                                             std::move(server));
}

}  // namespace nd::ndping

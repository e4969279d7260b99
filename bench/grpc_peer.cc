// gRPC's latency: an empty call and its answer, to and fro.
//
// usage: grpc_peer serve ADDRESS
//        grpc_peer ping ADDRESS CALLS     ns of half a round trip, the median
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr const char* kMethod = "/nd.bench.Echo/Call";

class Echo final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext*) override {
    return new Call;
  }

 private:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    Call() { StartRead(&bytes_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      StartWriteAndFinish(&bytes_, grpc::WriteOptions(), grpc::Status::OK);
    }
    void OnDone() override { delete this; }

   private:
    grpc::ByteBuffer bytes_;
  };
};

int Serve(const std::string& address) {
  Echo echo;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterCallbackGenericService(&echo);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::puts("ready");
  std::fflush(stdout);
  server->Wait();
  return 0;
}

int Ping(const std::string& address, size_t calls) {
  grpc::GenericStub stub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  const grpc::Slice slice(std::string(64, 'x'));
  const grpc::ByteBuffer request(&slice, 1);
  std::vector<double> halves;
  for (size_t i = 0; i < calls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(&context, kMethod, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.error_message().c_str());
      return 1;
    }
    const std::chrono::duration<double, std::nano> taken =
        std::chrono::steady_clock::now() - start;
    halves.push_back(taken.count() / 2);
  }
  const auto median = halves.begin() + static_cast<ptrdiff_t>(calls / 2);
  std::nth_element(halves.begin(), median, halves.end());
  std::printf("%.1f\n", *median);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "serve" && argc == 3) return Serve(argv[2]);
  if (what == "ping" && argc == 4) {
    return Ping(argv[2], std::strtoull(argv[3], nullptr, 10));
  }
  std::fprintf(stderr, "usage: grpc_peer serve ADDRESS | ping ADDRESS CALLS\n");
  return 2;
}

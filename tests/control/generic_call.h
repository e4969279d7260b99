// Calls a method by its name with bytes made by hand: for services whose
// generated code Debian does not ship (health checking, reflection).
#ifndef ND_TESTS_CONTROL_GENERIC_CALL_H_
#define ND_TESTS_CONTROL_GENERIC_CALL_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "control/grpc_status.h"

namespace nd::control {

// Sends one request and returns the first response.
inline absl::StatusOr<std::string> GenericCall(
    const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
    const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(20));
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto wait = [&] { queue.Next(&tag, &ok); };

  call->StartCall(nullptr);
  wait();
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  wait();
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  wait();
  const bool answered = ok;
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  if (!status.ok()) return FromGrpcStatus(status);
  if (!answered) return absl::NotFoundError("no response");
  std::vector<grpc::Slice> slices;
  response.Dump(&slices).ok();
  std::string bytes;
  for (const grpc::Slice& part : slices) {
    bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return bytes;
}

// grpc.health.v1: 1 is SERVING.
inline absl::StatusOr<std::string> CheckHealth(
    const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  const std::string request =
      service.empty()
          ? ""
          : std::string("\x0a") + static_cast<char>(service.size()) + service;
  return GenericCall(channel, "/grpc.health.v1.Health/Check", request);
}
inline const std::string kServing = "\x08\x01";

// The answer, not parsed, to ServerReflectionRequest{list_services: ""}.
inline absl::StatusOr<std::string> ListServices(
    const std::shared_ptr<grpc::Channel>& channel) {
  return GenericCall(
      channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      std::string("\x3a\x00", 2));
}

}  // namespace nd::control

#endif  // ND_TESTS_CONTROL_GENERIC_CALL_H_

#include "nd/stream.h"

#include <utility>

#include "api/stream_impl.h"
#include "base/status.h"

namespace nd {
namespace {

using transport::OperationAccess;
using transport::Submission;

void StartSend(Submission& submission) {
  auto& operation =
      static_cast<SendOperation&>(OperationAccess::Submitted(submission));
  OperationAccess::stream(operation)->Send(operation);
}

void StartReceive(Submission& submission) {
  auto& operation =
      static_cast<ReceiveOperation&>(OperationAccess::Submitted(submission));
  OperationAccess::stream(operation)->Receive(operation);
}

void StartWriteWithImmediate(Submission& submission) {
  auto& operation =
      static_cast<AccessOperation&>(OperationAccess::Submitted(submission));
  OperationAccess::stream(operation)->WriteWithImmediate(operation);
}

}  // namespace

Stream::Stream(std::unique_ptr<api::StreamImpl> impl) : impl_(impl.release()) {}

Stream::~Stream() = default;
Stream& Stream::operator=(Stream&& other) noexcept = default;

void Stream::Close::operator()(api::StreamImpl* impl) const {
  impl->engine().Submit(*impl);
}

const std::string& Stream::name() const { return impl_->name(); }
StreamClass Stream::stream_class() const { return impl_->stream_class(); }

void Stream::Send(SendOperation& operation) {
  api::Start(impl_->engine(), operation, &impl_->stream(), &StartSend);
}

void Stream::Receive(ReceiveOperation& operation) {
  api::Start(impl_->engine(), operation, &impl_->stream(), &StartReceive);
}

void Stream::WriteWithImmediate(AccessOperation& operation) {
  api::Start(impl_->engine(), operation, &impl_->stream(),
             &StartWriteWithImmediate);
}

void Stream::Cancel(Operation& operation) {
  // It is given up by none: the reactor outlives the stream.
  const absl::Status called = impl_->engine().Call(
      [this, &operation] {
        if (OperationAccess::started(operation)) {
          impl_->stream().Cancel(operation);
        }
      },
      Instant::max());
  (void)called;
}

absl::Status Stream::Await(const Operation& operation) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  api::Await(impl_->engine(), operation);
  return Annotate(operation.status(), name());
}

absl::Status Stream::Send(std::span<const std::byte> message,
                          std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  SendOperation operation;
  operation.set_piece({.bytes = message});
  operation.set_deadline(api::After(timeout));
  Send(operation);
  return Await(operation);
}

absl::StatusOr<Message> Stream::Receive(std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  ReceiveOperation operation;
  operation.set_deadline(api::After(timeout));
  Receive(operation);
  ND_RETURN_IF_ERROR(Await(operation));
  return std::move(operation.message());
}

absl::StatusOr<size_t> Stream::ReceiveInto(std::span<std::byte> memory,
                                           std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  ReceiveOperation operation;
  operation.set_into({.bytes = memory});
  operation.set_deadline(api::After(timeout));
  Receive(operation);
  ND_RETURN_IF_ERROR(Await(operation));
  return static_cast<size_t>(operation.size());
}

absl::Status Stream::WriteWithImmediate(const RemoteRegion& region,
                                        uint64_t offset,
                                        std::span<const std::byte> from,
                                        uint32_t immediate,
                                        std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  AccessOperation operation;
  operation.set_write(region, offset, {.bytes = from});
  operation.set_immediate(immediate);
  operation.set_deadline(api::After(timeout));
  WriteWithImmediate(operation);
  return Await(operation);
}

void Stream::Finish() {
  const absl::Status called = impl_->engine().Call(
      [this] { impl_->stream().Finish(); }, Instant::max());
  (void)called;
}

StreamStatistics Stream::statistics() const {
  StreamStatistics result;
  const absl::Status called = impl_->engine().Call(
      [&] { result = impl_->stream().Statistics(impl_->engine().Now()); },
      Instant::max());
  (void)called;
  return result;
}

}  // namespace nd

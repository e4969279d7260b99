#include "ndping/rping/rping_link.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

constexpr size_t kPage = 4096;

// How often a wait looks whether the connection still stands: a disconnect is a
// CM event and wakes nobody who sleeps on a completion channel.
constexpr Duration kLookInterval = std::chrono::milliseconds(50);
constexpr Duration kDisconnectTimeout = std::chrono::seconds(1);

absl::Status Disconnected() {
  return absl::UnavailableError("the peer disconnected");
}
absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

}  // namespace

absl::StatusOr<std::unique_ptr<RpingBuffer>> RpingBuffer::Create(
    std::shared_ptr<verbs::ProtectionDomain> pd, uint32_t size) {
  std::unique_ptr<RpingBuffer> buffer(new RpingBuffer);
  const size_t whole_pages = (size_t{size} + kPage - 1) / kPage * kPage;
  buffer->memory_.reset(
      static_cast<std::byte*>(std::aligned_alloc(kPage, whole_pages)));
  if (buffer->memory_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a buffer of ", size, " bytes"));
  }
  buffer->bytes_ = {buffer->memory_.get(), size};
  std::ranges::fill(buffer->bytes_, std::byte{0});
  ND_ASSIGN_OR_RETURN(
      buffer->mr_, verbs::MemoryRegion::Register(std::move(pd), buffer->bytes_,
                                                 IBV_ACCESS_LOCAL_WRITE |
                                                     IBV_ACCESS_REMOTE_READ |
                                                     IBV_ACCESS_REMOTE_WRITE));
  return buffer;
}

RpingAdvert RpingBuffer::advert() const {
  return {.address = mr_->address(),
          .rkey = mr_->rkey(),
          .size = static_cast<uint32_t>(bytes_.size())};
}

RpingLink::RpingLink(std::unique_ptr<verbs::CmId> id, const Options& options)
    : options_(options), name_(id->ToString()), id_(std::move(id)) {}

RpingLink::~RpingLink() { Disconnect(); }

absl::StatusOr<std::unique_ptr<RpingLink>> RpingLink::Connect(
    const Target& target, const Options& options, const Deadline& deadline) {
  ND_ASSIGN_OR_RETURN(auto id, verbs::CmId::Create());
  if (target.tos != 0) ND_RETURN_IF_ERROR(id->SetTypeOfService(target.tos));
  ND_RETURN_IF_ERROR(
      id->Resolve(target.address, target.from, deadline, options.interrupt));
  std::unique_ptr<RpingLink> link(new RpingLink(std::move(id), options));
  ND_RETURN_IF_ERROR(link->Prepare());
  ND_RETURN_IF_ERROR(
      link->id_->Connect(*link->qp_, {}, nullptr, deadline, options.interrupt));
  link->established_ = true;
  return link;
}

absl::StatusOr<std::unique_ptr<RpingLink>> RpingLink::Accept(
    std::unique_ptr<verbs::CmId> request, const Options& options,
    const Deadline& deadline) {
  std::unique_ptr<RpingLink> link(new RpingLink(std::move(request), options));
  ND_RETURN_IF_ERROR(link->Prepare());
  ND_RETURN_IF_ERROR(
      link->id_->Accept(*link->qp_, {}, nullptr, deadline, options.interrupt));
  link->established_ = true;
  return link;
}

absl::Status RpingLink::Prepare() {
  ND_ASSIGN_OR_RETURN(auto context, verbs::Context::Open(id_->device_name()));
  ND_ASSIGN_OR_RETURN(pd_, verbs::ProtectionDomain::Create(context));
  ND_ASSIGN_OR_RETURN(
      messages_,
      RpingBuffer::Create(pd_, kReceives * kReceiveSize +
                                   kSends * uint32_t{RpingAdvert::kSize}));
  std::shared_ptr<verbs::CompletionChannel> channel;
  if (options_.wait != verbs::WaitMode::kBusy) {
    ND_ASSIGN_OR_RETURN(channel, verbs::CompletionChannel::Create(context));
  }
  const uint32_t sends = kSends + options_.rdma_depth;
  ND_ASSIGN_OR_RETURN(
      auto cq, verbs::CompletionQueue::Create(
                   context, static_cast<int>(sends + kReceives), channel));
  ND_ASSIGN_OR_RETURN(
      waiter_, verbs::CompletionWaiter::Create(cq, {.mode = options_.wait}));
  ND_ASSIGN_OR_RETURN(
      qp_, verbs::QueuePair::Create(pd_, {.send_cq = cq,
                                          .max_send_wr = sends,
                                          .max_recv_wr = kReceives}));
  qp_->set_peer(id_->peer().ToString());
  // Before the peer can know of the connection, and so before it can send.
  ND_RETURN_IF_ERROR(id_->PrepareQp(*qp_));
  for (uint64_t slot = 0; slot < kReceives; ++slot) {
    ND_RETURN_IF_ERROR(PostReceive(slot));
  }
  return absl::OkStatus();
}

absl::Status RpingLink::PostReceive(uint64_t slot) {
  const ibv_sge sge = messages_->Sge(slot * kReceiveSize, kReceiveSize);
  return qp_->PostReceive(slot, {&sge, 1});
}

absl::Status RpingLink::SendAdvert(const RpingAdvert& advert,
                                   const Step& step) {
  ND_RETURN_IF_ERROR(WaitUntil(
      [&] { return sends_posted_ - sends_completed_ < kSends; }, step));
  const size_t offset =
      kReceives * kReceiveSize + sends_posted_ % kSends * RpingAdvert::kSize;
  std::ranges::copy(advert.Encode(), messages_->bytes().subspan(offset).data());
  const ibv_sge sge = messages_->Sge(offset, RpingAdvert::kSize);
  ND_RETURN_IF_ERROR(qp_->Post(
      {.opcode = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .sges = {&sge, 1}}));
  ++sends_posted_;
  return absl::OkStatus();
}

absl::StatusOr<RpingAdvert> RpingLink::ReceiveAdvert(const Step& step) {
  ND_RETURN_IF_ERROR(WaitUntil([&] { return !inbox_.empty(); }, step));
  const Received received = inbox_.front();
  inbox_.pop_front();
  // Only now, so that a peer that talks out of turn waits in its own queue.
  ND_RETURN_IF_ERROR(PostReceive(received.slot));
  return received.advert;
}

absl::Status RpingLink::Transfer(ibv_wr_opcode opcode,
                                 const RpingBuffer& buffer, uint32_t length,
                                 const RpingAdvert& remote, const Step& step) {
  for (uint32_t offset = 0; offset < length; offset += kPiece) {
    ND_RETURN_IF_ERROR(
        Post(opcode, buffer,
             {.offset = offset, .length = std::min(kPiece, length - offset)},
             remote));
    ND_RETURN_IF_ERROR(
        WaitUntil([&] { return rdma_completed_ == rdma_posted_; }, step));
  }
  return absl::OkStatus();
}

absl::Status RpingLink::Post(ibv_wr_opcode opcode, const RpingBuffer& buffer,
                             const Piece& piece, const RpingAdvert& remote) {
  const ibv_sge sge = buffer.Sge(piece.offset, piece.length);
  ND_RETURN_IF_ERROR(qp_->Post({.opcode = opcode,
                                .flags = IBV_SEND_SIGNALED,
                                .sges = {&sge, 1},
                                .remote_addr = remote.address + piece.offset,
                                .rkey = remote.rkey}));
  ++rdma_posted_;
  return absl::OkStatus();
}

absl::Status RpingLink::WaitUntil(absl::FunctionRef<bool()> done,
                                  const Step& step) {
  const Deadline deadline = Deadline::After(step.timeout);
  while (!done()) {
    // A peer that always has something to say would keep WaitOnce from looking.
    if (interrupted()) ND_RETURN_IF_ERROR(Look(deadline, step));
    ND_RETURN_IF_ERROR(WaitOnce(deadline, step));
  }
  return absl::OkStatus();
}

absl::Status RpingLink::WaitOnce(const Deadline& deadline, const Step& step) {
  std::array<verbs::Completion, 8> completions;
  // Once disconnected, what had come before that still counts.
  const Duration wait = disconnected_ ? Duration::zero() : kLookInterval;
  const auto count = waiter_->Wait(
      completions, Deadline::After(std::min(wait, deadline.Remaining())),
      nullptr);
  if (count.ok()) {
    for (size_t i = 0; i < *count; ++i) {
      const absl::Status handled = Handle(completions[i]);
      if (handled.ok()) continue;
      return Explain(Blame(handled), step);
    }
    return absl::OkStatus();
  }
  if (!absl::IsDeadlineExceeded(count.status())) {
    return Explain(count.status(), step);
  }
  return Look(deadline, step);
}

absl::Status RpingLink::Look(const Deadline& deadline, const Step& step) {
  if (disconnected_) return Explain(Disconnected(), step);
  ND_RETURN_IF_ERROR(Explain(ReadCmEvents(), step));
  // Not before the completions that came meanwhile are taken.
  if (disconnected_) return absl::OkStatus();
  if (interrupted()) {
    if (!grace_end_) grace_end_ = Deadline::After(step.grace);
    if (grace_end_->Passed() || step.grace == Duration::zero()) {
      return Explain(Interrupted(), step);
    }
  }
  if (!deadline.Passed()) return absl::OkStatus();
  return Explain(absl::DeadlineExceededError("the peer is silent"), step);
}

absl::Status RpingLink::PollCompletions() {
  std::array<verbs::Completion, 8> completions;
  ND_ASSIGN_OR_RETURN(const size_t count, waiter_->Poll(completions));
  for (size_t i = 0; i < count; ++i) {
    const absl::Status handled = Handle(completions[i]);
    if (!handled.ok()) return Annotate(Blame(handled), name_);
  }
  return absl::OkStatus();
}

absl::Status RpingLink::Handle(const verbs::Completion& completion) {
  if (!completion.ok()) return completion.ToStatus();
  if (completion.is_receive()) {
    if (completion.byte_len != RpingAdvert::kSize) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the peer sent ", completion.byte_len, " bytes where an advert has ",
          RpingAdvert::kSize, "; it speaks another protocol"));
    }
    const auto bytes = messages_->bytes().subspan(
        completion.wr_id * kReceiveSize, RpingAdvert::kSize);
    inbox_.push_back({completion.wr_id, *RpingAdvert::Parse(bytes)});
  } else if (completion.opcode == IBV_WC_SEND) {
    ++sends_completed_;
  } else {
    ++rdma_completed_;
  }
  return absl::OkStatus();
}

absl::Status RpingLink::Blame(const absl::Status& failure) {
  // A bad message is the peer's doing, whatever it did next.
  if (absl::IsInvalidArgument(failure)) return failure;
  ND_RETURN_IF_ERROR(ReadCmEvents());
  return disconnected_ ? Disconnected() : failure;
}

absl::Status RpingLink::ReadCmEvents() {
  for (;;) {
    ND_ASSIGN_OR_RETURN(const auto event, id_->PollEvent());
    if (!event) return absl::OkStatus();
    if (event->type == RDMA_CM_EVENT_DISCONNECTED) {
      disconnected_ = true;
    } else if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
      return event->ToStatus("the connection is lost");
    }
  }
}

absl::Status RpingLink::Explain(const absl::Status& status,
                                const Step& step) const {
  return Annotate(status, absl::StrCat(name_, ": waiting for ", step.what));
}

absl::Status RpingLink::Pause(const Deadline& until) {
  const Step step{.what = "the time of the next ping", .timeout = {}};
  if (disconnected_) return Explain(Disconnected(), step);
  for (;;) {
    const absl::Status woken =
        WaitReadable(id_->fd(), until, options_.interrupt);
    if (absl::IsDeadlineExceeded(woken)) return absl::OkStatus();
    if (absl::IsCancelled(woken)) return Explain(Interrupted(), step);
    ND_RETURN_IF_ERROR(Explain(woken, step));
    ND_RETURN_IF_ERROR(Explain(ReadCmEvents(), step));
    if (disconnected_) return Explain(Disconnected(), step);
  }
}

void RpingLink::Disconnect() {
  if (!std::exchange(established_, false)) return;
  // Fails only when there is no connection any more, which is what is wanted.
  id_->Disconnect().IgnoreError();
  const Deadline deadline = Deadline::After(kDisconnectTimeout);
  while (!disconnected_ && !deadline.Passed()) {
    const auto event = id_->NextEvent(deadline, nullptr);
    if (!event.ok() || event->type == RDMA_CM_EVENT_DEVICE_REMOVAL) return;
    disconnected_ = event->type == RDMA_CM_EVENT_DISCONNECTED;
  }
}

}  // namespace nd::ndping

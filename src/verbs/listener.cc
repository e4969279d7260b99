#include "verbs/listener.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "verbs/cm_inbox.h"

namespace nd::verbs {
namespace {

constexpr Duration kFirstBackoff = std::chrono::milliseconds(50);
constexpr Duration kLongestBackoff = std::chrono::seconds(2);

absl::Status ListenError(absl::string_view call, const SocketAddress& address,
                         int error) {
  const std::string what = absl::StrCat(call, " ", address.ToString());
  switch (error) {
    case EADDRINUSE:
    case EBUSY:
      return absl::AlreadyExistsError(
          absl::StrCat(what, ": another server listens there"));
    case EADDRNOTAVAIL:
      // So, too, Linux calls a port where one of the two listens at all
      // addresses or at a loopback address (cma_check_port).
      if (address.is_wildcard() || address.is_loopback()) {
        return absl::AlreadyExistsError(
            absl::StrCat(what, ": another server listens there"));
      }
      return absl::FailedPreconditionError(
          absl::StrCat(what,
                       ": no RDMA device of this host has that address, or "
                       "another server listens at that port of all addresses"));
    case ENODEV:
      return absl::FailedPreconditionError(
          absl::StrCat(what, ": no RDMA device of this host has that address"));
    default:
      return ErrnoStatus(error, what);
  }
}

}  // namespace

Listener::Listener(Options options, std::shared_ptr<CmEventChannel> channel)
    : options_(std::move(options)),
      channel_(std::move(channel)),
      address_(options_.address),
      retry_at_(Deadline::After(Duration::zero())) {}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(Options options) {
  if (options.backlog < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a backlog of ", options.backlog));
  }
  if (options.busy_private_data.size() > kMaxRejectData) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.busy_private_data.size(), " bytes of private data: at most ",
        kMaxRejectData, " fit"));
  }
  ND_ASSIGN_OR_RETURN(auto channel, CmEventChannel::Create());
  auto listener =
      absl::WrapUnique(new Listener(std::move(options), std::move(channel)));
  ND_RETURN_IF_ERROR(listener->Open());
  return listener;
}

absl::Status Listener::Open() {
  ND_ASSIGN_OR_RETURN(auto id, CmId::Create(channel_));
  id->inbox_->max_requests = options_.backlog;
  id->inbox_->refusal = options_.busy_private_data;
  id->inbox_->refused = &refused_;
  if (address_.family() == AF_INET6 && address_.is_wildcard()) {
    int ipv6_only = 0;
    ND_RETURN_IF_ERROR(id->SetOption(RDMA_OPTION_ID_AFONLY, &ipv6_only,
                                     sizeof(ipv6_only), "AFONLY"));
  }
  if (rdma_bind_addr(id->get(), address_.get()) != 0) {
    return ListenError("rdma_bind_addr", address_, errno);
  }
  // The kernel's own bound is its largest: it could not say why it rejects.
  if (rdma_listen(id->get(), 0) != 0) {
    return ListenError("rdma_listen", address_, errno);
  }
  address_.set_port(ntohs(rdma_get_src_port(id->get())));
  id_ = std::move(id);
  return absl::OkStatus();
}

absl::Status Listener::Reopen(const Deadline& deadline,
                              const Cancellation* cancel) {
  absl::Status last = absl::UnavailableError("its device went away");
  while (id_ == nullptr) {
    // Nothing makes this readable while no id listens: it is a sleep that can
    // be cancelled.
    const bool ours = deadline.at() < retry_at_.at();
    const absl::Status slept =
        WaitReadable(channel_->fd(), ours ? deadline : retry_at_, cancel);
    if (absl::IsCancelled(slept) || (ours && !slept.ok())) {
      return Annotate(
          slept, absl::StrCat("not listening at ", address_.ToString(), ": ",
                              last.message()));
    }
    last = Open();
    backoff_ = std::min(2 * backoff_, kLongestBackoff);
    retry_at_ = Deadline::After(backoff_);
  }
  return absl::OkStatus();
}

absl::StatusOr<CmEvent> Listener::Next(const Deadline& deadline,
                                       const Cancellation* cancel) {
  for (;;) {
    if (id_ == nullptr) ND_RETURN_IF_ERROR(Reopen(deadline, cancel));
    // Even if a request waits already: those beyond the backlog want an answer.
    ND_RETURN_IF_ERROR(channel_->Dispatch());
    ND_ASSIGN_OR_RETURN(CmEvent event, id_->NextEvent(deadline, cancel));
    if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
      id_.reset();
      backoff_ = kFirstBackoff;
      retry_at_ = Deadline::After(backoff_);
    }
    if (event.type != RDMA_CM_EVENT_CONNECT_REQUEST) continue;
    auto channel = CmEventChannel::Create();
    if (!channel.ok()) {
      return Annotate(channel.status(), "a request had to be rejected");
    }
    // Fails when the request has lost its device: then there is none.
    if (event.request->Migrate(*std::move(channel)).ok()) return event;
  }
}

}  // namespace nd::verbs

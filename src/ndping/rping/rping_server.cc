// The server of rping.h.

#include <atomic>
#include <list>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/counters.h"
#include "base/log.h"
#include "base/status.h"
#include "ndping/rping/rping.h"
#include "ndping/rping/rping_link.h"
#include "verbs/listener.h"

namespace nd::ndping {
namespace {

constexpr size_t kTextLimit = 64;
// What most clients send; the buffer grows for the others.
constexpr uint32_t kFirstBufferSize = 64 * 1024;
// How often the listener's device is looked for while it is away.
constexpr Duration kListenSlice = std::chrono::seconds(1);

using Counters = RpingServer::Counters;

// One client's connection, from its request to its end.
class Connection {
 public:
  Connection(const RpingServer::Options& options, const Cancellation& stop,
             RpingObserver* observer, Counter& pings)
      : options_(options), stop_(stop), observer_(observer), pings_(pings) {}

  // OK when the client disconnected between two pings, or the server stops.
  absl::Status Serve(std::unique_ptr<verbs::CmId> request) {
    ND_ASSIGN_OR_RETURN(
        link_, RpingLink::Accept(std::move(request),
                                 {.wait = options_.wait, .interrupt = &stop_},
                                 Deadline::After(options_.accept_timeout)));
    if (observer_ != nullptr) observer_->OnConnected(link_->name());
    for (uint64_t sequence = 0; !stop_.cancelled(); ++sequence) {
      const auto source =
          link_->ReceiveAdvert({.what = absl::StrCat("ping ", sequence),
                                .timeout = options_.idle_timeout});
      const bool left =
          absl::IsUnavailable(source.status()) && link_->disconnected();
      if (left || absl::IsCancelled(source.status())) return absl::OkStatus();
      ND_RETURN_IF_ERROR(source);
      ND_RETURN_IF_ERROR(ServePing(*source, sequence));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ServePing(const RpingAdvert& source, uint64_t sequence) {
    ND_RETURN_IF_ERROR(MakeRoom(source, sequence));
    ND_RETURN_IF_ERROR(link_->Transfer(IBV_WR_RDMA_READ, *buffer_, source.size,
                                       source, Step("the READ", sequence)));
    Tell(source.size, sequence);
    ND_RETURN_IF_ERROR(
        link_->SendAdvert({}, Step("room for the go-ahead", sequence)));
    ND_ASSIGN_OR_RETURN(
        const RpingAdvert sink,
        link_->ReceiveAdvert(Step("the advert of the sink", sequence)));
    if (sink.size < source.size) {
      return BadAdvert(sink, sequence,
                       absl::StrCat("the sink has less room than the source's ",
                                    source.size, " bytes"));
    }
    // All that was read, where rping writes as far as the first zero byte:
    // the same for its own data, which has but one, at the end.
    ND_RETURN_IF_ERROR(link_->Transfer(IBV_WR_RDMA_WRITE, *buffer_, source.size,
                                       sink, Step("the WRITE", sequence)));
    ND_RETURN_IF_ERROR(
        link_->SendAdvert({}, Step("room for the go-ahead", sequence)));
    pings_.Add();
    return absl::OkStatus();
  }

  absl::Status MakeRoom(const RpingAdvert& source, uint64_t sequence) {
    if (source.size == 0) {
      return BadAdvert(source, sequence, "a ping has at least one byte");
    }
    if (source.size > options_.max_size) {
      return BadAdvert(
          source, sequence,
          absl::StrCat("this server takes up to ", options_.max_size));
    }
    if (buffer_ != nullptr && buffer_->bytes().size() >= source.size) {
      return absl::OkStatus();
    }
    const uint32_t size =
        std::max(source.size, std::min(kFirstBufferSize, options_.max_size));
    buffer_.reset();
    ND_ASSIGN_OR_RETURN(buffer_, RpingBuffer::Create(link_->pd(), size));
    return absl::OkStatus();
  }

  absl::Status BadAdvert(const RpingAdvert& advert, uint64_t sequence,
                         absl::string_view why) const {
    return absl::InvalidArgumentError(
        absl::StrCat(link_->name(), ": ping ", sequence, ": the client offers ",
                     advert.size, " bytes: ", why));
  }

  RpingLink::Step Step(absl::string_view what, uint64_t sequence) const {
    return {.what = absl::StrCat(what, " of ping ", sequence),
            .timeout = options_.step_timeout,
            .grace = options_.stop_grace};
  }

  void Tell(uint32_t size, uint64_t sequence) {
    if (observer_ == nullptr) return;
    RpingPing ping{
        .sequence = sequence, .bytes = size, .round_trip_ns = 0, .text = {}};
    if (options_.want_text) {
      ping.text = RpingText(buffer_->bytes().first(size), kTextLimit);
    }
    observer_->OnPing(ping);
  }

  const RpingServer::Options& options_;
  const Cancellation& stop_;
  RpingObserver* const observer_;
  Counter& pings_;
  std::unique_ptr<RpingBuffer> buffer_;  // outlives the link
  std::unique_ptr<RpingLink> link_;
};

class Server final : public RpingServer {
 public:
  Server(const Options& options, std::unique_ptr<verbs::Listener> listener)
      : options_(options), listener_(std::move(listener)) {}

  const verbs::SocketAddress& address() const override {
    return listener_->address();
  }

  Counters counters() const override {
    return {.clients = clients_.value(),
            .rejected = rejected_.value(),
            .failed = failed_.value(),
            .pings = pings_.value()};
  }

  absl::Status Serve(const Cancellation& stop,
                     RpingObserver* observer) override {
    // Joins every thread when it goes: clients are served to their end even if
    // the listener fails.
    std::list<Client> running;
    uint64_t served = 0;
    while (options_.serve == 0 || served < options_.serve) {
      auto event = listener_->Next(Deadline::After(kListenSlice), &stop);
      running.remove_if(
          [](const Client& client) { return client.done.load(); });
      if (absl::IsCancelled(event.status())) return absl::OkStatus();
      if (absl::IsDeadlineExceeded(event.status())) continue;
      if (absl::IsResourceExhausted(event.status())) {
        ND_LOG(kWarning, "rping server: ", event.status().ToString());
        continue;
      }
      ND_RETURN_IF_ERROR(event);
      clients_.Add();
      if (running.size() >= options_.max_clients) {
        Refuse(*event->request);
        continue;
      }
      ++served;
      Start(running.emplace_back(), std::move(event->request), stop, observer);
    }
    absl::Status last;
    for (Client& client : running) {
      client.thread.join();
      last.Update(client.status);
    }
    return options_.serve == 1 ? last : absl::OkStatus();
  }

 private:
  struct Client {
    std::atomic<bool> done = false;
    absl::Status status;  // once `done`
    std::jthread thread;
  };

  void Refuse(verbs::CmId& request) {
    rejected_.Add();
    ND_LOG(kWarning, "rping server: ", request.ToString(),
           " rejected: ", options_.max_clients, " clients are being served");
    constexpr std::string_view kReason = "busy";
    // The client may have gone meanwhile, which is as good.
    request.Reject(std::as_bytes(std::span(kReason))).IgnoreError();
  }

  void Start(Client& client, std::unique_ptr<verbs::CmId> request,
             const Cancellation& stop, RpingObserver* observer) {
    client.thread = std::jthread([this, &client, &stop, observer,
                                  request = std::move(request)]() mutable {
      client.status = Connection(options_, stop, observer, pings_)
                          .Serve(std::move(request));
      if (!client.status.ok()) {
        failed_.Add();
        ND_LOG(kWarning, "rping server: a client's connection ended: ",
               client.status.ToString());
      }
      client.done = true;
    });
  }

  const Options options_;
  const std::unique_ptr<verbs::Listener> listener_;
  Counter clients_, rejected_, failed_, pings_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpingServer>> RpingServer::Create(
    const Options& options) {
  ND_ASSIGN_OR_RETURN(auto listener,
                      verbs::Listener::Create({.address = options.address}));
  return std::make_unique<Server>(options, std::move(listener));
}

}  // namespace nd::ndping

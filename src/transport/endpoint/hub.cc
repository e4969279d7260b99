#include "transport/endpoint/hub.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "transport/endpoint/session_runtime.h"

namespace nd::transport {
namespace {

// Longer than a link takes to end.
constexpr Duration kEndTime = std::chrono::seconds(10);

// As sysfs says; -1 for a device that belongs to no node.
int NumaNodeOf(absl::string_view device) {
  std::ifstream file(
      absl::StrCat("/sys/class/infiniband/", device, "/device/numa_node"));
  int node = -1;
  return file >> node ? node : -1;
}

}  // namespace

Hub::Hub(std::unique_ptr<Engine> engine, ClientMemory memory)
    : client_memory_(std::move(memory)), engine_(std::move(engine)) {}

Hub::~Hub() {
  engine_->Stop();
  engine_->Adopt();
  const auto held = [this] {
    const absl::MutexLock lock(&mutex_);
    return held_ > 0;
  };
  const auto parted = [](const auto& session) { return session->parted(); };
  engine_->RunUntil(
      [&] {
        return !engine_->submitted() && std::ranges::all_of(buried_, parted) &&
               !held();
      },
      engine_->Now() + kEndTime);
  // What is left waits for loans that do not come back.
  for (const auto& session : buried_) Detach(*session);
  buried_.clear();
}

std::shared_ptr<void> Hub::Hold() {
  const absl::MutexLock lock(&mutex_);
  ++held_;
  return {this, [](Hub* hub) {
            // The hub may be gone as soon as this is unlocked.
            const absl::MutexLock held(&hub->mutex_);
            --hub->held_;
            hub->engine_->Nudge();
          }};
}

absl::StatusOr<std::shared_ptr<verbs::CmEventChannel>> Hub::CmChannel(
    Instant deadline) {
  std::shared_ptr<verbs::CmEventChannel> channel;
  {
    const absl::MutexLock lock(&mutex_);
    if (cm_channel_ == nullptr) {
      ND_ASSIGN_OR_RETURN(cm_channel_, verbs::CmEventChannel::Create());
    }
    channel = cm_channel_;
  }
  if (cm_watched_) return channel;
  absl::Status watched;
  ND_RETURN_IF_ERROR(engine_->Call(
      [this, channel, &watched] {
        if (cm_watched_) return;
        cm_events_ = channel;
        watched = WatchCm();
        cm_watched_ = watched.ok();
      },
      deadline));
  ND_RETURN_IF_ERROR(watched);
  return channel;
}

absl::Status Hub::WatchCm() {
  cm_news_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!cm_news_.valid()) return ErrnoStatus(errno, "eventfd");
  ND_RETURN_IF_ERROR(engine_->Watch(cm_news_.get(), [this] { OnCmNews(); }));
  absl::Status watched =
      engine_->Watch(cm_events_->fd(), [this] { DispatchCm(); });
  if (!watched.ok()) engine_->Unwatch(cm_news_.get());
  return watched;
}

absl::StatusOr<std::shared_ptr<HubDevice>> Hub::Device(absl::string_view name,
                                                       Instant deadline) {
  std::shared_ptr<HubDevice> device;
  {
    const absl::MutexLock lock(&mutex_);
    if (const auto found = devices_.find(name); found != devices_.end()) {
      device = found->second;
    } else {
      device = std::make_shared<HubDevice>();
      ND_ASSIGN_OR_RETURN(device->context, verbs::Context::Open(name));
      ND_ASSIGN_OR_RETURN(device->channel,
                          verbs::CompletionChannel::Create(device->context));
      device->numa_node = NumaNodeOf(name);
      devices_.emplace(std::string(name), device);
    }
  }
  if (device->watched) return device;
  absl::Status watched;
  ND_RETURN_IF_ERROR(engine_->Call(
      [this, device, &watched] {
        if (device->watched) return;
        watched = engine_->Watch(device->channel->fd(), [this, device] {
          OnCompletionEvents(*device);
        });
        device->watched = watched.ok();
      },
      deadline));
  ND_RETURN_IF_ERROR(watched);
  return device;
}

void Hub::Attach(SessionRuntime& session) {
  sessions_.push_back(&session);
  by_queue_[&session.queue()] = &session;
  engine_->Add(session);
}

void Hub::Detach(SessionRuntime& session) {
  std::erase(sessions_, &session);
  by_queue_.erase(&session.queue());
  engine_->Remove(session);
}

void Hub::Bury(std::unique_ptr<SessionRuntime> session) {
  session->Abandon([this] { DestroyBuried(); });
  buried_.push_back(std::move(session));
  engine_->Wake(*buried_.back());
}

// From a turn of one of them.
void Hub::DestroyBuried() {
  std::erase_if(buried_, [this](const std::unique_ptr<SessionRuntime>& each) {
    if (!each->idle()) return false;
    Detach(*each);
    return true;
  });
}

void Hub::OnCompletionEvents(HubDevice& device) {
  for (;;) {
    const absl::StatusOr<verbs::CompletionQueue*> queue =
        device.channel->TakeEvent();
    if (!queue.ok()) {
      ND_LOG(kError, queue.status().ToString());
      engine_->Unwatch(device.channel->fd());
      return;
    }
    if (*queue == nullptr) return;
    const auto found = by_queue_.find(*queue);
    if (found == by_queue_.end()) continue;
    found->second->OnCompletionEvent();
    engine_->Wake(*found->second);
  }
}

// Others dispatch, too: what is filed is told by cm_news_.
void Hub::DispatchCm() {
  if (absl::Status read = cm_events_->Dispatch(); !read.ok()) {
    ND_LOG(kError, read.ToString());
    engine_->Unwatch(cm_events_->fd());
  }
}

void Hub::OnCmNews() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got =
      read(cm_news_.get(), &count, sizeof(count));
  for (SessionRuntime* const session : sessions_) {
    if (session->TakeCmEvents()) engine_->Wake(*session);
  }
}

void ForeignReleases::Push(Stream& stream, uint64_t number) {
  const Release release{&stream, number};
  if (!ring_.TryPush(release)) {
    const std::lock_guard lock(more_mutex_);
    more_.push_back(release);
  }
  if (!submitted_.exchange(true)) engine_.Submit(*this);
}

void ForeignReleases::Run(Submission& self) {
  auto& releases = static_cast<ForeignReleases&>(self);
  releases.submitted_.store(false);
  while (const auto release = releases.ring_.TryPop()) {
    release->stream->Release(release->number);
  }
  std::vector<Release> more;
  {
    const std::lock_guard lock(releases.more_mutex_);
    more.swap(releases.more_);
  }
  for (const Release& each : more) each.stream->Release(each.number);
}

}  // namespace nd::transport

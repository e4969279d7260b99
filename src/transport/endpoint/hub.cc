#include "transport/endpoint/hub.h"

#include <algorithm>
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

Hub::Hub(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

Hub::~Hub() {
  engine_->Stop();
  const auto parted = [](const auto& session) { return session->parted(); };
  engine_->RunUntil(
      [&] {
        return !engine_->submitted() && std::ranges::all_of(buried_, parted);
      },
      engine_->Now() + kEndTime);
  // What is left waits for loans that do not come back.
  for (const auto& session : buried_) Detach(*session);
  buried_.clear();
}

absl::StatusOr<std::shared_ptr<verbs::CmEventChannel>> Hub::CmChannel(
    Instant deadline) {
  std::shared_ptr<verbs::CmEventChannel> channel;
  {
    const absl::MutexLock lock(&mutex_);
    if (cm_channel_ != nullptr) return cm_channel_;
    ND_ASSIGN_OR_RETURN(cm_channel_, verbs::CmEventChannel::Create());
    channel = cm_channel_;
  }
  absl::Status watched;
  ND_RETURN_IF_ERROR(engine_->Call(
      [this, channel, &watched] {
        cm_events_ = channel.get();
        watched = engine_->Watch(channel->fd(), [this] { OnCmEvents(); });
      },
      deadline));
  ND_RETURN_IF_ERROR(watched);
  return channel;
}

absl::StatusOr<std::shared_ptr<HubDevice>> Hub::Device(absl::string_view name,
                                                       Instant deadline) {
  std::shared_ptr<HubDevice> device;
  {
    const absl::MutexLock lock(&mutex_);
    if (const auto found = devices_.find(name); found != devices_.end()) {
      return found->second;
    }
    device = std::make_shared<HubDevice>();
    ND_ASSIGN_OR_RETURN(device->context, verbs::Context::Open(name));
    ND_ASSIGN_OR_RETURN(device->channel,
                        verbs::CompletionChannel::Create(device->context));
    device->numa_node = NumaNodeOf(name);
    devices_.emplace(std::string(name), device);
  }
  absl::Status watched;
  ND_RETURN_IF_ERROR(engine_->Call(
      [this, device, &watched] {
        watched = engine_->Watch(device->channel->fd(), [this, device] {
          OnCompletionEvents(*device);
        });
      },
      deadline));
  ND_RETURN_IF_ERROR(watched);
  return device;
}

void Hub::Attach(SessionRuntime& session) {
  sessions_.push_back(&session);
  for (const verbs::CompletionQueue* const queue : session.queues()) {
    by_queue_[queue] = &session;
  }
  engine_->Add(session);
}

void Hub::Detach(SessionRuntime& session) {
  std::erase(sessions_, &session);
  for (const verbs::CompletionQueue* const queue : session.queues()) {
    by_queue_.erase(queue);
  }
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
    found->second->OnCompletionEvent(**queue);
    engine_->Wake(*found->second);
  }
}

void Hub::OnCmEvents() {
  if (absl::Status read = cm_events_->Dispatch(); !read.ok()) {
    ND_LOG(kError, read.ToString());
    engine_->Unwatch(cm_events_->fd());
    return;
  }
  for (SessionRuntime* const session : sessions_) {
    if (session->TakeCmEvents()) engine_->Wake(*session);
  }
}

}  // namespace nd::transport

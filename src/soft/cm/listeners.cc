#include "soft/cm/listeners.h"

#include <algorithm>

namespace nd::soft {
namespace {

uint64_t ServiceOf(const CmListenOptions& options) {
  return ServiceId(options.space, options.local.port);
}

// 0.0.0.0 takes IPv4, :: both unless told otherwise.
bool Takes(const CmListenOptions& options, const Gid& destination) {
  const Gid& local = options.local.ip;
  if (!IsWildcard(local)) return local == destination;
  if (IsIpv4(local)) return IsIpv4(destination);
  return !options.ipv6_only || !IsIpv4(destination);
}

}  // namespace

void Listeners::Add(CmHandle handle, const CmListenOptions& options) {
  const bool fits = options.backlog > 0 && options.backlog <= kMaxBacklog;
  listeners_[handle] = {.options = options,
                        .room = fits ? options.backlog : kMaxBacklog};
  by_service_[ServiceOf(options)].push_back(handle);
}

std::vector<CmHandle> Listeners::Remove(CmHandle handle) {
  const auto found = listeners_.find(handle);
  if (found == listeners_.end()) return {};
  const uint64_t service_id = ServiceOf(found->second.options);
  listeners_.erase(found);
  std::vector<CmHandle>& same = by_service_[service_id];
  std::erase(same, handle);
  if (same.empty()) by_service_.erase(service_id);

  std::vector<CmHandle> requests;
  for (const auto& [request, listener] : queued_) {
    if (listener == handle) requests.push_back(request);
  }
  std::ranges::sort(requests);
  for (const CmHandle request : requests) queued_.erase(request);
  return requests;
}

std::optional<CmHandle> Listeners::Match(uint64_t service_id,
                                         const Gid& destination,
                                         CmTransport transport) const {
  const auto found = by_service_.find(service_id);
  if (found == by_service_.end()) return std::nullopt;
  std::optional<CmHandle> wildcard;
  for (const CmHandle handle : found->second) {
    const CmListenOptions& options = listeners_.at(handle).options;
    if (options.transport != transport || !Takes(options, destination)) {
      continue;
    }
    if (!IsWildcard(options.local.ip)) return handle;
    wildcard = handle;
  }
  return wildcard;
}

bool Listeners::HasRoom(CmHandle listener) const {
  return listeners_.at(listener).room > 0;
}

void Listeners::Queue(CmHandle listener, CmHandle request) {
  --listeners_.at(listener).room;
  queued_.emplace(request, listener);
}

void Listeners::Unqueue(CmHandle request) {
  const auto found = queued_.find(request);
  if (found == queued_.end()) return;
  ++listeners_.at(found->second).room;
  queued_.erase(found);
}

}  // namespace nd::soft

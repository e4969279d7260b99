#include "soft/abi/ucma.h"

#include <algorithm>
#include <cstring>

namespace nd::soft {
namespace {

// Added to the uAPI after the headers that this is built with.
constexpr uint32_t kResolveIbService = 23;
constexpr uint32_t kWriteCmEvent = 24;

std::optional<rdma_ucm_cmd_hdr> ReadHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(rdma_ucm_cmd_hdr)) return std::nullopt;
  rdma_ucm_cmd_hdr header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

}  // namespace

// Files.

UcmaFile Ucma::Open() {
  const UcmaFile file{++last_file_};
  files_[file];
  return file;
}

void Ucma::Close(UcmaFile file) {
  std::vector<uint32_t> numbers;
  for (const auto& [number, id] : ids_) {
    // Requests go with their listeners.
    if (id->file == file && id->fetched) numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  CmOutput output;
  for (const uint32_t number : numbers) Release(*ids_.at(number), output);
  files_.erase(file);
  Deliver(output);
}

// Commands.

int64_t Ucma::Command(UcmaFile file, std::span<const std::byte> bytes) {
  if (!files_.contains(file)) return -EBADF;
  const auto header = ReadHeader(bytes);
  if (!header) return -EINVAL;
  const auto behind = bytes.subspan(sizeof(*header));
  if (header->in > behind.size()) return -EINVAL;
  const int error =
      Run(file, header->cmd,
          {.body = behind.first(header->in), .room = header->out});
  return error == 0 ? static_cast<int64_t>(bytes.size()) : error;
}

bool Ucma::IsGetEvent(std::span<const std::byte> bytes) {
  const auto header = ReadHeader(bytes);
  return header && header->cmd == RDMA_USER_CM_CMD_GET_EVENT;
}

int Ucma::Run(UcmaFile file, uint32_t command, const UcmaRequest& request) {
  switch (command) {
    case RDMA_USER_CM_CMD_CREATE_ID:
      return OnFile(file, request, &Ucma::CreateId);
    case RDMA_USER_CM_CMD_DESTROY_ID:
      return OnId(file, request, &Ucma::DestroyId);
    case RDMA_USER_CM_CMD_BIND_IP:
      return OnId(file, request, &Ucma::BindIp);
    case RDMA_USER_CM_CMD_RESOLVE_IP:
      return OnId(file, request, &Ucma::ResolveIp);
    case RDMA_USER_CM_CMD_RESOLVE_ROUTE:
      return OnId(file, request, &Ucma::ResolveRoute);
    case RDMA_USER_CM_CMD_QUERY_ROUTE:
      return OnId(file, request, &Ucma::QueryRoute);
    case RDMA_USER_CM_CMD_CONNECT:
      return OnId(file, request, &Ucma::Connect);
    case RDMA_USER_CM_CMD_LISTEN:
      return OnId(file, request, &Ucma::Listen);
    case RDMA_USER_CM_CMD_ACCEPT:
      return OnId(file, request, &Ucma::Accept);
    case RDMA_USER_CM_CMD_REJECT:
      return OnId(file, request, &Ucma::Reject);
    case RDMA_USER_CM_CMD_DISCONNECT:
      return OnId(file, request, &Ucma::Disconnect);
    case RDMA_USER_CM_CMD_INIT_QP_ATTR:
      return OnId(file, request, &Ucma::InitQpAttr);
    case RDMA_USER_CM_CMD_GET_EVENT:
      return OnFile(file, request, &Ucma::GetEvent);
    case RDMA_USER_CM_CMD_SET_OPTION:
      return OnId(file, request, &Ucma::SetOption);
    case RDMA_USER_CM_CMD_NOTIFY:
      return OnId(file, request, &Ucma::Notify);
    case RDMA_USER_CM_CMD_MIGRATE_ID:
      return OnFile(file, request, &Ucma::MigrateId);
    case RDMA_USER_CM_CMD_QUERY:
      return Query(file, request);
    case RDMA_USER_CM_CMD_BIND:
      return OnId(file, request, &Ucma::Bind);
    case RDMA_USER_CM_CMD_RESOLVE_ADDR:
      return OnId(file, request, &Ucma::ResolveAddr);
    case RDMA_USER_CM_CMD_JOIN_IP_MCAST:
      return OnId(file, request, &Ucma::JoinIpMcast);
    case RDMA_USER_CM_CMD_LEAVE_MCAST:
      return OnFile(file, request, &Ucma::LeaveMcast);
    case RDMA_USER_CM_CMD_JOIN_MCAST:
      return OnId(file, request, &Ucma::JoinMcast);
    case RDMA_USER_CM_CMD_GET_OPTION:
    case kResolveIbService:
    case kWriteCmEvent:
    default:
      return -ENOSYS;
  }
}

template <typename In>
int Ucma::OnId(UcmaFile file, const UcmaRequest& request,
               int (Ucma::*run)(UcmaId&, const In&)) {
  const auto command = request.Read<In>();
  if (!command) return -EINVAL;
  UcmaId* const id = FindFetched(command->id);
  if (id == nullptr) return -ENOENT;
  if (id->file != file) return -EINVAL;
  return (this->*run)(*id, *command);
}

template <typename In, typename Out>
int Ucma::OnId(UcmaFile file, const UcmaRequest& request,
               int (Ucma::*run)(UcmaId&, const In&, Out&)) {
  if (const int error = request.CheckRoom<Out>()) return error;
  const auto command = request.Read<In>();
  if (!command) return -EINVAL;
  UcmaId* const id = FindFetched(command->id);
  if (id == nullptr) return -ENOENT;
  if (id->file != file) return -EINVAL;
  if (command->response == 0) return -EFAULT;
  Out answer{};
  if (const int error = (this->*run)(*id, *command, answer)) return error;
  request.Write(command->response, answer);
  return 0;
}

template <typename In, typename Out>
int Ucma::OnFile(UcmaFile file, const UcmaRequest& request,
                 int (Ucma::*run)(UcmaFile, const In&, Out&)) {
  if (const int error = request.CheckRoom<Out>()) return error;
  const auto command = request.Read<In>();
  if (!command) return -EINVAL;
  if (command->response == 0) return -EFAULT;
  Out answer{};
  if (const int error = (this->*run)(file, *command, answer)) return error;
  request.Write(command->response, answer);
  return 0;
}

int Ucma::Query(UcmaFile file, const UcmaRequest& request) {
  const auto command = request.Read<rdma_ucm_query>();
  if (!command) return -EINVAL;
  switch (command->option) {
    case RDMA_USER_CM_QUERY_ADDR:
      return OnId(file, request, &Ucma::QueryAddr);
    case RDMA_USER_CM_QUERY_GID:
      return OnId(file, request, &Ucma::QueryGid);
    case RDMA_USER_CM_QUERY_PATH:
      return OnId(file, request, &Ucma::QueryPath);
    default:
      return -ENOSYS;
  }
}

// Ids.

UcmaId* Ucma::FindFetched(uint32_t number) {
  const auto found = ids_.find(number);
  if (found == ids_.end() || !found->second->fetched) return nullptr;
  return found->second.get();
}

UcmaId* Ucma::AddId(UcmaFile file) {
  if (ids_.size() == kMaxIds) return nullptr;
  uint32_t number = last_id_ + 1;
  if (free_ids_.empty()) {
    last_id_ = number;
  } else {
    number = free_ids_.back();
    free_ids_.pop_back();
  }
  auto& id = ids_[number];
  id = std::make_unique<UcmaId>();
  id->number = number;
  id->file = file;
  return id.get();
}

void Ucma::Release(UcmaId& id, CmOutput& output) {
  for (const Event& event : TakeEvents(id)) {
    if (event.request != 0) Release(*ids_.at(event.request), output);
  }
  if (id.handle != CmHandle{}) {
    handles_.erase(id.handle);
    host_.manager().Destroy(id.handle, host_.Now(), output).IgnoreError();
  }
  if (id.claim) host_.ReleasePort(*id.claim);
  for (const uint32_t join : id.joins) joins_.erase(join);
  free_ids_.push_back(id.number);
  ids_.erase(id.number);
}

void Ucma::SetHandle(UcmaId& id, CmHandle handle) {
  id.handle = handle;
  handles_[handle] = id.number;
}

// Events.

void Ucma::OnEvent(const CmEvent& event) {
  const bool request = event.type == CmEventType::kConnectRequest;
  const auto found = handles_.find(request ? event.listener : event.handle);
  if (found == handles_.end()) return;  // destroyed by now
  UcmaId& id = *ids_.at(found->second);
  if (request) {
    AddRequest(id, event);
    return;
  }
  // The application has no name for it yet, and will learn of it when it
  // accepts.
  if (id.uid == 0) return;
  const int gid_index = id.source ? host_.GidIndex(*id.source) : 0;
  Push(id.file,
       {.owner = id.number, .answer = DescribeEvent(id, event, gid_index)});
}

void Ucma::AddRequest(UcmaId& listener, const CmEvent& event) {
  UcmaId* const id = Full(listener.file) ? nullptr : AddId(listener.file);
  if (id == nullptr) {
    CmOutput output;
    host_.manager().Destroy(event.handle, host_.Now(), output).IgnoreError();
    Deliver(output);
    return;
  }
  id->space = listener.space;
  id->type = listener.type;
  id->state = UcmaId::State::kConnected;
  id->fetched = false;
  id->local = UcmaSockaddr::Of(event.endpoints.remote);
  id->remote = UcmaSockaddr::Of(event.endpoints.local);
  id->source = event.endpoints.remote.ip;
  id->destination = event.endpoints.local.ip;
  if (!id->datagram()) id->path = PathOf(*id);
  SetHandle(*id, event.handle);
  if (const auto params =
          host_.manager().QpParams(event.handle, QpStage::kInit);
      params.ok()) {
    id->path->flow_label = params->flow_label;
    id->path->traffic_class = params->traffic_class;
    id->path->hop_limit = params->hop_limit;
    id->path->mtu = params->path_mtu;
    // The QP's timeout is that of the way there and back.
    id->path->packet_life_time =
        params->ack_timeout - (params->ack_timeout > 0 ? 1 : 0);
  }
  Event entry{.owner = listener.number,
              .request = id->number,
              .answer = DescribeEvent(listener, event, 0)};
  entry.answer.id = id->number;
  Push(listener.file, entry);
}

bool Ucma::Full(UcmaFile file) const {
  return files_.at(file).events.size() >= kMaxEvents;
}

void Ucma::OnDeviceRemoval() {
  for (const auto& [number, id] : ids_) {
    if (id->on_device()) Push(*id, UcmaEventType::kDeviceRemoval);
  }
}

void Ucma::Push(const UcmaId& id, UcmaEventType type, int status) {
  if (id.uid == 0) return;
  Push(id.file,
       {.owner = id.number, .answer = DescribeEvent(id, type, status)});
}

void Ucma::Push(UcmaFile file, const Event& event) {
  files_.at(file).events.push_back(event);
  ++ids_.at(event.owner)->events_waiting;
  host_.EventsChanged(file, 1);
}

std::vector<Ucma::Event> Ucma::TakeEvents(UcmaId& id, uint32_t join) {
  if (id.events_waiting == 0) return {};
  std::deque<Event>& events = files_.at(id.file).events;
  const auto first = std::stable_partition(
      events.begin(), events.end(), [&id, join](const Event& event) {
        return event.owner != id.number || (join != 0 && event.join != join);
      });
  std::vector<Event> taken(first, events.end());
  events.erase(first, events.end());
  host_.EventsChanged(id.file, -static_cast<int>(taken.size()));
  id.events_waiting -= static_cast<uint32_t>(taken.size());
  return taken;
}

int Ucma::GetEvent(UcmaFile file, const rdma_ucm_get_event&,
                   rdma_ucm_event_resp& answer) {
  std::deque<Event>& events = files_.at(file).events;
  if (events.empty()) return -EAGAIN;
  const Event event = events.front();
  events.pop_front();
  host_.EventsChanged(file, -1);
  UcmaId& owner = *ids_.at(event.owner);
  --owner.events_waiting;
  ++owner.events_reported;
  if (event.join != 0) ++joins_.at(event.join).events_reported;
  if (event.request != 0) {
    UcmaId& request = *ids_.at(event.request);
    request.fetched = true;
    host_.manager().RequestFetched(request.handle);
  }
  answer = event.answer;
  return 0;
}

int Ucma::MigrateId(UcmaFile file, const rdma_ucm_migrate_id& command,
                    rdma_ucm_migrate_resp& answer) {
  // The file that the id comes from needs no telling: ids are the process's.
  UcmaId* const id = FindFetched(command.id);
  if (id == nullptr) return -ENOENT;
  answer.events_reported = id->events_reported;
  if (id->file == file) return 0;
  const std::vector<Event> events = TakeEvents(*id);
  id->file = file;
  for (const Event& event : events) {
    if (event.request != 0) ids_.at(event.request)->file = file;
    Push(file, event);
  }
  return 0;
}

void Ucma::Deliver(const CmOutput& output) {
  if (output.datagrams.empty() && output.events.empty()) return;
  host_.Deliver(output);
}

UcmaDevice Ucma::Device() const {
  return {.node_guid = host_.node_guid(), .index = host_.device_index()};
}

}  // namespace nd::soft

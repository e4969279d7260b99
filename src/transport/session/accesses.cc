// Reads, writes and atomics of memory that the peer has published.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

constexpr size_t kAtomicSize = 8;

absl::Status Withdrawn() {
  return absl::NotFoundError("the peer has withdrawn the region");
}

bool Allows(const RegionAccess& access, const AccessOperation& operation) {
  switch (operation.kind()) {
    case AccessOperation::Kind::kRead:
      return access.read;
    case AccessOperation::Kind::kWrite:
      return access.write;
    case AccessOperation::Kind::kFetchAdd:
    case AccessOperation::Kind::kCompareSwap:
      return access.atomic;
  }
  return false;
}

absl::Status CheckAccess(const AccessOperation& operation) {
  const PeerRegion* const region = operation.region().get();
  if (region == nullptr) return absl::InvalidArgumentError("no region is set");
  if (operation.region().withdrawn()) return Withdrawn();
  if (operation.offset() > region->size ||
      operation.size() > region->size - operation.offset()) {
    return absl::OutOfRangeError(
        absl::StrCat(operation.size(), " bytes at ", operation.offset(),
                     " are not in a region of ", region->size));
  }
  if (!Allows(region->access, operation)) {
    return absl::PermissionDeniedError(
        "the region was not published for that access");
  }
  if (operation.is_atomic() &&
      (region->address + operation.offset()) % kAtomicSize != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an atomic at ", operation.offset(),
                     ", which is no multiple of 8 in the peer's memory"));
  }
  return absl::OkStatus();
}

}  // namespace

void SessionCore::StartAccess(AccessOperation& operation) {
  OperationAccess::Start(operation, nullptr);
  events_.OnCall();
  if (state_ == State::kEnded) return Done(operation, EndReason());
  if (leaving_) {
    return Done(operation, absl::FailedPreconditionError(
                               "an access behind the end of the session"));
  }
  if (absl::Status checked = CheckAccess(operation); !checked.ok()) {
    return Done(operation, std::move(checked));
  }
  if (operation.size() == 0) return Done(operation, absl::OkStatus());
  timed_.Add(operation);
  to_access_.Add(operation);
}

absl::Status SessionCore::CheckNotified(const AccessOperation& operation) {
  if (operation.kind() != AccessOperation::Kind::kWrite) {
    return absl::InvalidArgumentError("only a write has an immediate");
  }
  return CheckAccess(operation);
}

void SessionCore::CancelAccess(AccessOperation& operation, absl::Status why) {
  if (OperationQueue::QueueOf(operation) == &to_access_) {
    OperationQueue::Remove(operation);
    return Done(operation, std::move(why));
  }
  if (Access* const access = FindAccess(operation)) {
    GiveUp(*access, std::move(why));
  }
}

SessionCore::Access* SessionCore::FindAccess(const Operation& operation) {
  const auto found = std::ranges::find_if(accesses_, [&](const Access& each) {
    return each.used && each.operation == &operation;
  });
  return found == accesses_.end() ? nullptr : &*found;
}

bool SessionCore::Copies(const AccessOperation& operation) {
  return !OperationAccess::memory(operation).registered &&
         operation.size() > 0 && operation.size() <= kAccessPlace;
}

// The operation's memory, with a key: its own, a copy, or registered for it.
absl::Status SessionCore::PrepareMemory(Access& access) {
  const AccessOperation& operation = *access.operation;
  const AccessOperation::Memory& memory = OperationAccess::memory(operation);
  access.local = {memory.bytes.data(), memory.bytes.size(), memory.lkey};
  if (memory.registered || access.size == 0) return absl::OkStatus();
  if (Copies(operation)) {
    const auto place = static_cast<size_t>(&access - accesses_.data());
    access.local = {places_.local.data + place * kAccessPlace,
                    static_cast<size_t>(access.size), places_.local.lkey};
    access.copied = true;
    if (operation.kind() == AccessOperation::Kind::kWrite) {
      std::memcpy(access.local.data, memory.bytes.data(), memory.bytes.size());
    }
    return absl::OkStatus();
  }
  absl::StatusOr<Registered> registered =
      operation.kind() == AccessOperation::Kind::kWrite
          ? memory_.RegisterSource(memory.bytes)
          : memory_.RegisterSink(memory.bytes);
  if (!registered.ok()) return registered.status();
  access.registered = *registered;
  access.local = registered->local;
  return absl::OkStatus();
}

// Where short ranges are copied to. RESOURCE_EXHAUSTED: not now.
absl::Status SessionCore::MakePlaces() {
  if (places_.local.data != nullptr) return absl::OkStatus();
  const absl::StatusOr<Registered> places =
      memory_.Allocate(accesses_.size() * kAccessPlace);
  if (places.ok()) places_ = *places;
  return places.status();
}

// A place among those under way; null where none is free. An operation that
// cannot begin is done.
SessionCore::Access* SessionCore::BeginAccess(AccessOperation& operation,
                                              Stream* stream) {
  const auto free = std::ranges::find_if(
      accesses_, [](const Access& each) { return !each.used; });
  if (free == accesses_.end()) return nullptr;
  absl::Status ready;
  if (Copies(operation)) ready = MakePlaces();
  if (MayComeBack(ready)) return nullptr;
  if (stream == nullptr) OperationQueue::Remove(operation);
  Access& access = *free;
  access.used = true;
  access.operation = &operation;
  access.stream = stream;
  access.kind = operation.kind();
  access.region = operation.region();
  access.offset = operation.offset();
  access.size = operation.size();
  if (stream != nullptr) ++stream->references_;
  if (access.region.withdrawn()) ready = Withdrawn();
  if (ready.ok()) ready = PrepareMemory(access);
  if (!ready.ok()) GiveUp(access, std::move(ready));
  return &access;
}

void SessionCore::PostAccesses() {
  while (auto* const operation =
             static_cast<AccessOperation*>(to_access_.first())) {
    Access* const access = BeginAccess(*operation, nullptr);
    if (access == nullptr) break;
    QueueAccess(*access);
  }
  for (Fifo<Access*>& queue : accessing_) {
    while (!queue.empty()) {
      Access& access = *queue.front();
      const bool goes_on =
          access.operation != nullptr && access.end.ok() && !access.lost;
      if (goes_on) {
        Link* const link = LinkForAccess(access);
        if (link == nullptr && access.end.ok()) break;
        if (link != nullptr) PostChunk(access, *link);
      }
      queue.PopFront();
      access.queued = false;
      if (goes_on && access.end.ok() && access.posted < access.size) {
        QueueAccess(access);
      } else {
        GoOn(access);
      }
    }
  }
}

void SessionCore::QueueAccess(Access& access) {
  if (access.queued || !access.used) return;
  access.queued = true;
  const bool is_short = access.size <= layout_.eager_limit;
  accessing_[is_short ? 0 : 1].Push(&access);
}

// Short ones go where the latency class goes, others by all of the bulk class.
// Null: none has room now, or the access has ended, for none ever will.
Link* SessionCore::LinkForAccess(Access& access) {
  const bool reads = access.reads();
  Link* link = nullptr;
  if (access.size > layout_.eager_limit) {
    link = LinkForWrite(false, reads);
  } else if (Link* const latency = CarrierFor(MessageClass::kLatency)) {
    link = latency->MayPost(reads) ? latency : nullptr;
  }
  if (link != nullptr || !reads) return link;
  const auto is_up = [](const Link& each) {
    return each.state == Link::State::kUp;
  };
  const auto reads_none = [&](const Link& each) {
    return !is_up(each) || each.carrier->read_depth() == 0;
  };
  if (std::ranges::any_of(links_, is_up) &&
      std::ranges::all_of(links_, reads_none)) {
    GiveUp(access, absl::FailedPreconditionError(
                       "the connections carry no READs and no atomics: this "
                       "device, or the peer's, has none at a time"));
  }
  return nullptr;
}

void SessionCore::PostChunk(Access& access, Link& link) {
  const uint64_t length = std::min(
      {kMaxChunk, access.size - access.posted, link.carrier->max_write()});
  const LocalPiece local{access.local.data + access.posted,
                         static_cast<size_t>(length), access.local.lkey};
  const PeerRegion& region = *access.region.get();
  const RemotePlace remote{region.address + access.offset + access.posted,
                           region.rkey};
  const uint64_t serial = link.works.end();
  switch (access.kind) {
    case AccessOperation::Kind::kRead:
      link.carrier->Read(serial, local, remote);
      break;
    case AccessOperation::Kind::kWrite:
      link.carrier->Write(serial, local, remote, std::nullopt, true);
      break;
    case AccessOperation::Kind::kFetchAdd:
    case AccessOperation::Kind::kCompareSwap:
      link.carrier->Atomic(
          serial, local, remote,
          {.compare = access.kind == AccessOperation::Kind::kCompareSwap,
           .compare_add = OperationAccess::operand(*access.operation),
           .swap = OperationAccess::swap(*access.operation)});
      break;
  }
  link.works.Push(
      {.kind = LinkWork::Kind::kAccess,
       .takes_receive = false,
       .transfer = static_cast<uint32_t>(&access - accesses_.data()),
       .reads = access.reads()});
  link.unsignaled = 0;
  if (access.reads()) ++link.reads;
  access.posted += length;
  ++access.in_flight;
}

// Posts what is left of a write whose notification is about to go by this link.
// Whether all of it is posted there, so that what is sent now comes behind it.
bool SessionCore::PostNotified(Access& access, Link& link) {
  if (access.link != link.index || access.incarnation != link.incarnation) {
    // What an old connection carried may still come, until it is settled.
    if (access.in_flight > 0) return false;
    access.link = link.index;
    access.incarnation = link.incarnation;
    access.posted = 0;
    access.lost = false;
  }
  while (access.posted < access.size && link.MayPost(false)) {
    PostChunk(access, link);
  }
  return access.posted == access.size;
}

// Whether the write at the head of a stream stands before its notification. The
// stream comes again where it does not.
bool SessionCore::BeginNotified(Stream& stream, AccessOperation& operation) {
  Access* access = FindAccess(operation);
  if (access == nullptr) access = BeginAccess(operation, &stream);
  if (access != nullptr && access->operation == nullptr) access = nullptr;
  Link* const link = LaneOf(stream.message_class()).carrier;
  if (access != nullptr && link != nullptr && link->state == Link::State::kUp &&
      PostNotified(*access, *link)) {
    return true;
  }
  TryAgain(stream);
  return false;
}

// In the next turn of Pump.
void SessionCore::TryAgain(Stream& stream) {
  if (stream.access_wanted_) return;
  stream.access_wanted_ = true;
  want_access_.push_back(&stream);
}

void SessionCore::QueueNotify(Stream& stream, AccessOperation& operation) {
  Access& access = *FindAccess(operation);
  access.notified = true;
  Queue(stream, FrameType::kNotify,
        Notify{.region = access.region.get()->id,
               .offset = access.offset,
               .size = access.size,
               .immediate = OperationAccess::immediate(operation)});
  Lane& lane = LaneOf(stream.message_class());
  lane.entries[lane.entries.end() - 1].access = &access;
}

void SessionCore::RetryNotified() {
  std::swap(want_access_, wanted_access_);
  for (Stream* const stream : wanted_access_) {
    stream->access_wanted_ = false;
    MakeReady(*stream);
    MaybeForget(*stream);
  }
  wanted_access_.clear();
}

void SessionCore::GoOn(Access& access) {
  if (!access.used || access.in_flight > 0) return;
  const bool over = access.operation == nullptr || !access.end.ok();
  if (access.stream != nullptr) {
    // Its notification ends it, or puts it on another link.
    if (over && !access.notified) EndAccess(access, access.end);
    return;
  }
  if (over) return EndAccess(access, access.end);
  if (access.lost) {
    access.lost = false;
    if (access.is_atomic()) {
      return EndAccess(
          access,
          absl::UnknownError("the connection was lost: whether the peer's "
                             "memory was changed is not known"));
    }
    access.posted = 0;
  }
  if (access.posted < access.size) return QueueAccess(access);
  EndAccess(access, absl::OkStatus());
}

// The operation ends as soon as no device touches its memory.
void SessionCore::GiveUp(Access& access, absl::Status why) {
  if (!access.end.ok() || access.operation == nullptr || access.notified) {
    return;
  }
  access.end = std::move(why);
  if (access.stream != nullptr) {
    OperationQueue::Remove(*access.operation);
    TryAgain(*access.stream);  // what is behind it
  }
  if (access.copied || access.in_flight == 0) {
    Done(*std::exchange(access.operation, nullptr), access.end);
  }
  if (!access.queued) GoOn(access);
}

void SessionCore::EndAccess(Access& access, absl::Status status) {
  if (AccessOperation* const operation =
          std::exchange(access.operation, nullptr)) {
    OperationQueue::Remove(*operation);  // its stream's, if at all
    const auto& memory = OperationAccess::memory(*operation);
    if (status.ok() && access.is_atomic()) {
      uint64_t value = 0;
      std::memcpy(&value, access.local.data, sizeof(value));
      OperationAccess::SetValue(*operation, value);
    } else if (status.ok() && access.copied &&
               access.kind == AccessOperation::Kind::kRead) {
      std::memcpy(memory.bytes.data(), access.local.data, memory.bytes.size());
    }
    if (status.ok()) {
      ++accessed_.messages;
      accessed_.bytes += access.size;
    }
    Done(*operation, std::move(status));
  }
  if (access.registered.local.data != nullptr) {
    memory_.Unregister(access.registered);
  }
  Stream* const stream = access.stream;
  access = Access();
  if (stream != nullptr) Unreference(*stream);
}

void SessionCore::AccessDone(Link& link, const LinkWork& work) {
  if (work.reads) --link.reads;
  Access& access = accesses_[work.transfer];
  --access.in_flight;
  if (!access.queued) GoOn(access);
}

void SessionCore::AccessLost(const LinkWork& work) {
  Access& access = accesses_[work.transfer];
  --access.in_flight;
  access.lost = true;
  if (!access.queued) GoOn(access);
}

void SessionCore::OnRefused(uint32_t index, uint64_t serial,
                            const absl::Status& why) {
  Link& link = links_[index];
  if (!link.works.Has(serial)) return;
  const LinkWork& work = link.works[serial];
  if (work.kind != LinkWork::Kind::kAccess) return;
  Access& access = accesses_[work.transfer];
  if (access.end.ok()) access.end = absl::PermissionDeniedError(why.message());
}

}  // namespace nd::transport

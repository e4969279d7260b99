#include "transport/endpoint/session_runtime.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"

namespace nd::transport {
namespace {

// How often a link that ends is looked at when nothing comes.
constexpr Duration kEndingTick = std::chrono::milliseconds(100);
// Packets of up to so many bytes go with their request: a device need not fetch
// them. What perftest asks for in its latency tests.
constexpr uint32_t kMaxInline = 220;
// What is taken from the receive budget at a time.
constexpr size_t kLoanRegion = size_t{8} << 20;

// Receive slots beyond those that are posted, for messages that are on loan.
uint32_t SpareSlots(const SessionLayout& layout) {
  return std::max(8u, layout.links() * layout.slots / 4);
}

size_t WholePages(size_t bytes) {
  const size_t page = MappedMemory::PageSize();
  return (bytes + page - 1) / page * page;
}

// Of a pool, for so many buffers of one size: it rounds each up to a class, by
// less than a 32nd, and what it maps at a time to huge pages.
size_t PoolBytes(size_t bytes, size_t count) {
  const size_t all = WholePages(bytes + bytes / 32) * count;
  constexpr size_t kHuge = MappedMemory::kHugePage;
  return all < kHuge ? all : (all + kHuge - 1) / kHuge * kHuge;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionRuntime>> SessionRuntime::Create(
    Hub& hub, std::shared_ptr<HubDevice> device, Options options,
    SessionOwner& owner) {
  std::unique_ptr<SessionRuntime> runtime(
      new SessionRuntime(hub, std::move(device), std::move(options), owner));
  if (absl::Status made = runtime->Init(); !made.ok()) {
    return Annotate(made, runtime->name());
  }
  return runtime;
}

SessionRuntime::SessionRuntime(Hub& hub, std::shared_ptr<HubDevice> device,
                               Options options, SessionOwner& owner)
    : hub_(hub),
      device_(std::move(device)),
      options_(std::move(options)),
      owner_(&owner),
      links_(options_.layout.links()) {}

SessionRuntime::~SessionRuntime() {
  core_.reset();
  links_.clear();
}

absl::Status SessionRuntime::Init() {
  const SessionLayout& layout = options_.layout;
  const std::shared_ptr<verbs::Context>& context = device_->context;
  ND_ASSIGN_OR_RETURN(pd_, verbs::ProtectionDomain::Create(context));
  max_pieces_ =
      static_cast<uint32_t>(std::clamp(context->limits().max_sge, 1, 2));
  // A queue pair takes one more, the marker of its end.
  send_depth_ = static_cast<uint32_t>(std::clamp(
      context->limits().max_qp_wr - 1, 1, static_cast<int>(kSendDepth)));
  const uint32_t entries = layout.links() * (layout.slots + send_depth_ + 1);
  ND_ASSIGN_OR_RETURN(
      cq_, verbs::CompletionQueue::Create(context, static_cast<int>(entries),
                                          device_->channel));

  registrar_ = std::make_shared<VerbsRegistrar>(pd_);
  const uint32_t slots = layout.links() * layout.slots + SpareSlots(layout);
  const size_t slot_bytes = WholePages(size_t{slots} * layout.slot_size);
  const size_t send_bytes =
      PoolBytes(size_t{send_depth_} * layout.slot_size, layout.links());
  constexpr size_t kStageBytes =
      SessionMemory::kStages * SessionMemory::kStageBytes;
  send_budget_ = std::make_shared<Budget>(
      absl::StrCat("send memory of ", name()),
      send_bytes + PoolBytes(kStageBytes, 1), options_.send_memory);
  const size_t ring_bytes =
      layout.ring
          ? PoolBytes(size_t{layout.slots} * layout.slot_size, layout.links())
          : 0;
  receive_budget_ = std::make_shared<Budget>(
      absl::StrCat("receive memory of ", name()),
      slot_bytes + ring_bytes + WholePages(options_.receive_budget),
      options_.receive_memory);
  const MappedMemory::Options pages{.numa_node = device_->numa_node};
  send_pool_ = std::make_unique<RegisteredPool>(
      registrar_, send_budget_,
      RegisteredPool::Options{
          .access = 0, .region_bytes = send_bytes, .memory = pages});
  stage_pool_ = std::make_unique<RegisteredPool>(
      registrar_, send_budget_,
      RegisteredPool::Options{.access = 0,
                              .region_bytes = PoolBytes(kStageBytes, 1),
                              .memory = pages});
  slot_pool_ = std::make_unique<RegisteredPool>(
      registrar_, receive_budget_,
      RegisteredPool::Options{.access = IBV_ACCESS_LOCAL_WRITE,
                              .region_bytes = slot_bytes,
                              .memory = pages});
  loan_pool_ = std::make_unique<RegisteredPool>(
      registrar_, receive_budget_,
      RegisteredPool::Options{
          .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
          .region_bytes =
              std::min(kLoanRegion, WholePages(options_.receive_budget)),
          .memory = pages});
  if (layout.ring) {
    ring_pool_ = std::make_unique<RegisteredPool>(
        registrar_, receive_budget_,
        RegisteredPool::Options{
            .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
            .region_bytes = ring_bytes,
            .memory = pages});
  }
  cache_ =
      std::make_unique<RegistrationCache>(registrar_, options_.registrations);
  memory_ = std::make_unique<PoolMemory>(*loan_pool_, *cache_,
                                         options_.receive_budget, *stage_pool_);
  ND_ASSIGN_OR_RETURN(slot_bytes_,
                      slot_pool_->Allocate(size_t{slots} * layout.slot_size));
  slots_.resize(slots);
  for (uint32_t i = 0; i < slots; ++i) {
    slots_[i].memory = {
        .data = slot_bytes_.data() + size_t{i} * layout.slot_size,
        .length = layout.slot_size,
        .lkey = slot_bytes_.lkey()};
  }
  SessionEvents& events = *this;
  core_ = std::make_unique<SessionCore>(
      SessionCore::Options{.layout = layout,
                           .client = options_.client,
                           .receive_slots = slots_,
                           .ahead_bytes = options_.receive_budget / 4,
                           .reconnect = options_.reconnect},
      *memory_, events);
  return absl::OkStatus();
}

// What goes inline is a wish: a device that cannot gets smaller ones.
absl::StatusOr<std::unique_ptr<verbs::QueuePair>> SessionRuntime::CreateQp() {
  for (uint32_t max_inline = kMaxInline;; max_inline /= 2) {
    absl::StatusOr<std::unique_ptr<verbs::QueuePair>> qp =
        verbs::QueuePair::Create(pd_, {.send_cq = cq_,
                                       .max_send_wr = send_depth_,
                                       .max_recv_wr = options_.layout.slots,
                                       .max_send_sge = max_pieces_,
                                       .max_recv_sge = 1,
                                       .max_inline = max_inline,
                                       .max_unsignaled = send_depth_});
    if (qp.ok() || max_inline == 0) return qp;
  }
}

absl::StatusOr<verbs::QueuePair*> SessionRuntime::PrepareLink(
    uint32_t index, uint32_t incarnation, verbs::CmId& id) {
  LinkSlot& link = links_[index];
  if (link.carrier != nullptr || !core_->open()) {
    return absl::FailedPreconditionError(
        !core_->open()
            ? absl::StrCat(name(), " has ended")
            : absl::StrCat(name(), ": link ", index, " has a connection"));
  }
  ND_ASSIGN_OR_RETURN(const verbs::Port port,
                      device_->context->QueryPort(id.port_number()));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::QueuePair> qp, CreateQp());
  qp->set_peer(id.peer().ToString());
  ND_RETURN_IF_ERROR(id.PrepareQp(*qp));
  ND_ASSIGN_OR_RETURN(
      Buffer send_slots,
      send_pool_->Allocate(size_t{send_depth_} * options_.layout.slot_size));
  Buffer ring;
  const SessionLayout& layout = options_.layout;
  if (layout.ring) {
    ND_ASSIGN_OR_RETURN(
        ring, ring_pool_->Allocate(size_t{layout.slots} * layout.slot_size));
  }
  link.carrier = std::make_unique<VerbsCarrier>(
      VerbsCarrier::Options{.link = index,
                            .slot_size = layout.slot_size,
                            .depth = send_depth_,
                            .max_pieces = max_pieces_,
                            .max_write = port.attr.max_msg_sz,
                            .ring_places = layout.ring ? layout.slots : 0},
      std::move(qp), std::move(send_slots), std::move(ring), *core_);
  link.sets_up = true;
  core_->AddLink(index, incarnation, *link.carrier);
  OnCall();
  return &link.carrier->queue_pair();
}

SessionRuntime::Ring SessionRuntime::RingOf(uint32_t index) const {
  const Buffer& ring = links_[index].carrier->ring();
  return {.begin = {.address = reinterpret_cast<uintptr_t>(ring.data()),
                    .rkey = ring.size() == 0 ? 0 : ring.rkey()},
          .size = ring.size()};
}

void SessionRuntime::OpenLink(uint32_t index, std::unique_ptr<verbs::CmId> id,
                              const RemotePlace& peer_ring) {
  LinkSlot& link = links_[index];
  assert(link.sets_up);
  link.sets_up = false;
  link.carrier->set_peer_ring(peer_ring);
  link.id = std::move(id);
  // As rdma_cm has agreed on it with the peer.
  const absl::StatusOr<ibv_qp_attr> qp =
      link.carrier->queue_pair().Query(IBV_QP_MAX_QP_RD_ATOMIC);
  if (qp.ok()) link.carrier->set_read_depth(qp->max_rd_atomic);
  core_->OpenLink(index, hub_.engine().Now());
  // What another thread has filed meanwhile, and what will be.
  link.id->NotifyBy(hub_.cm_news());
  // The kernel's Migrate wakes nobody for the events that it moves: read here,
  // they are filed.
  if (absl::Status read = link.id->DispatchChannel(); !read.ok()) {
    core_->LoseLink(index, read);
  }
  TakeCmEvents();
  OnCall();
}

void SessionRuntime::AbandonLink(uint32_t index, absl::Status why) {
  LinkSlot& link = links_[index];
  assert(link.sets_up);
  link.sets_up = false;
  core_->LoseLink(index, std::move(why));
  OnCall();
}

void SessionRuntime::Abandon(std::function<void()> on_idle) {
  owner_ = nullptr;
  on_idle_ = std::move(on_idle);
  core_->Fail(absl::CancelledError("the session was closed"));
  stream_opened_ = true;
  OnCall();
}

bool SessionRuntime::idle() const { return parted() && core_->streams() == 0; }

bool SessionRuntime::parted() const {
  const auto is_free = [](const LinkSlot& link) {
    return link.carrier == nullptr && !link.sets_up;
  };
  return core_->ended() && std::ranges::all_of(links_, is_free);
}

ABSL_ATTRIBUTE_HOT void SessionRuntime::OnCall() {
  called_ = true;
  if (!in_turn_) hub_.engine().Wake(*this);
}

bool SessionRuntime::TakeRelease(Stream& stream, uint64_t number) {
  if (hub_.engine().OnThread()) return false;
  hub_.releases().Push(stream, number);  // the session may be gone after that
  return true;
}

bool SessionRuntime::TakeCmEvents() {
  bool any = false;
  for (uint32_t i = 0; i < links_.size(); ++i) {
    LinkSlot& link = links_[i];
    while (link.id != nullptr) {
      const std::optional<verbs::CmEvent> event = link.id->TakeEvent();
      if (!event) break;
      if (event->type == RDMA_CM_EVENT_TIMEWAIT_EXIT) continue;
      any = true;
      core_->LoseLink(i, event->ToStatus(link.id->ToString()));
    }
  }
  if (any) OnCall();
  return any;
}

ABSL_ATTRIBUTE_HOT bool SessionRuntime::TakeCompletions(Instant& now) {
  if (queue_failed_) [[unlikely]]
    return false;
  assert(put_off_ == 0);
  const absl::StatusOr<size_t> count = cq_->Poll(completions_);
  if (!count.ok()) [[unlikely]] {
    FailQueue(count.status());
    return true;
  }
  if (*count == 0) return false;
  // What this turn has sent may have arrived in it.
  if (std::exchange(sent_, false)) now = hub_.engine().Now();
  const std::span<const verbs::Completion> all(completions_.data(), *count);
  const auto arrived = [](const verbs::Completion& each) {
    return each.is_receive();
  };
  // That something was sent may be learnt behind the answer to what arrived
  // with that news. Where something has failed, the order is kept.
  const bool puts_off = std::ranges::any_of(all, arrived) &&
                        std::ranges::all_of(all, &verbs::Completion::ok);
  for (const verbs::Completion& each : all) {
    if (puts_off && !arrived(each)) {
      completions_[put_off_++] = each;
    } else {
      HandOn(each, now);
    }
  }
  return true;
}

ABSL_ATTRIBUTE_HOT void SessionRuntime::HandOn(
    const verbs::Completion& completion, Instant now) {
  for (const LinkSlot& link : links_) {
    if (link.carrier != nullptr && link.carrier->qp() == completion.qp) {
      return link.carrier->OnCompletion(completion, now);
    }
  }
}

bool SessionRuntime::TakePutOff(Instant now) {
  const size_t count = std::exchange(put_off_, 0);
  for (size_t i = 0; i < count; ++i) HandOn(completions_[i], now);
  return count > 0;
}

// Nothing will complete: links end by their time.
void SessionRuntime::FailQueue(absl::Status why) {
  queue_failed_ = true;
  core_->Fail(std::move(why));
}

// Of links that break, and end.
bool SessionRuntime::AdvanceLinks(Instant now) {
  bool any = false;
  for (LinkSlot& link : links_) {
    if (link.carrier == nullptr || link.sets_up) continue;
    any |= link.carrier->Advance(now);
    if (!link.carrier->finished()) [[likely]]
      continue;
    link.carrier.reset();
    link.id.reset();
    any = true;
  }
  return any;
}

ABSL_ATTRIBUTE_HOT bool SessionRuntime::PumpAll(Instant now) {
  const bool took = TakePutOff(now);  // before the carriers that it is of go
  do {
    core_->Pump(now);
    called_ = false;  // Pump has seen to what its callbacks have called
    TellOwner();
  } while (AdvanceLinks(now) || called_);
  pump_due_ = false;
  pump_at_ = NextDeadline();
  return took;
}

ABSL_ATTRIBUTE_HOT void SessionRuntime::Hasten() {
  if (called_) core_->SendFirst();
}

ABSL_ATTRIBUTE_HOT bool SessionRuntime::Turn(Instant now) {
  in_turn_ = true;
  if (memory_->copying()) [[unlikely]] {
    memory_->TakeCopied([this](uint32_t stage) {
      core_->OnCopied(stage);
      called_ = true;
    });
  }
  // What the application wants to send does not wait for a look at the queue,
  // which is mostly empty then: it is what its next completion answers.
  // Links that end by their time are known to NextDeadline.
  sent_ = called_;
  bool took = false;
  if (called_ || pump_due_ || now >= pump_at_) took = PumpAll(now);
  const bool came = TakeCompletions(now);
  // Who has waited for it goes on first: the rest is for the next turn, which
  // comes at once, unless there is an answer already.
  if (came) {
    pump_due_ = true;
    core_->Deliver(now);
    Hasten();
    if (called_) took |= PumpAll(now);
  }
  in_turn_ = false;
  // The last call: it may be destroyed by it.
  if (on_idle_ && idle()) [[unlikely]] {
    const std::function<void()> on_idle = on_idle_;
    on_idle();
  }
  // Who waits for the end of what was put off hears of it as of what comes.
  return came || took;
}

void SessionRuntime::TellOwner() {
  if (std::exchange(stream_opened_, false)) [[unlikely]] {
    if (owner_ != nullptr) {
      owner_->OnStreamOpened();
    } else {
      while (Stream* const stream = core_->AcceptStream()) stream->Close();
    }
  }
  if (free_links_ != 0) [[unlikely]] {
    for (uint32_t free = std::exchange(free_links_, 0); free != 0;
         free &= free - 1) {
      if (owner_ != nullptr) {
        owner_->OnLinkFree(static_cast<uint32_t>(std::countr_zero(free)));
      }
    }
  }
  if (ended_) [[unlikely]] {
    const absl::Status why = *std::exchange(ended_, std::nullopt);
    if (owner_ != nullptr) owner_->OnEnded(why);
  }
}

ABSL_ATTRIBUTE_HOT Instant SessionRuntime::NextDeadline() const {
  Instant next = core_->NextDeadline();
  for (const LinkSlot& link : links_) {
    if (link.carrier != nullptr && link.carrier->ending()) {
      next = std::min(next, hub_.engine().Now() + kEndingTick);
    }
  }
  return next;
}

bool SessionRuntime::Arm() {
  if (memory_->copying()) return false;
  if (!armed_ && !queue_failed_) {
    if (absl::Status armed = cq_->Arm(); !armed.ok()) {
      FailQueue(armed);
      return false;
    }
    armed_ = true;
  }
  return !Turn(hub_.engine().Now());
}

}  // namespace nd::transport

#include "transport/link/session_pair.h"

#include <algorithm>

namespace nd::transport {
namespace {

constexpr uint32_t kDepth = 32;
constexpr uint32_t kSpareSlots = 16;
constexpr size_t kBudget = size_t{96} << 20;
constexpr uint32_t kPsn = 0xfffffe;  // wraps within a test

using verbs::OrDie;

}  // namespace

SessionPair::Side::Side(size_t which, const SessionLayout& its) : layout(its) {
  context = OrDie(verbs::Context::Open(verbs::HandPair::DeviceName(which)));
  pd = OrDie(verbs::ProtectionDomain::Create(context));
  const int entries =
      static_cast<int>(layout.links() * (layout.slots + kDepth + 1));
  cq = OrDie(verbs::CompletionQueue::Create(context, entries, nullptr));
  for (const verbs::GidEntry& entry : OrDie(context->QueryPort(1)).gids) {
    if (entry.type == IBV_GID_TYPE_ROCE_V2 &&
        entry.Address().find(':') == std::string::npos) {
      gid = entry;
    }
  }
  registrar = std::make_shared<VerbsRegistrar>(pd);
  budget = std::make_shared<Budget>("a test's memory", kBudget);
  slot_pool = std::make_unique<RegisteredPool>(
      registrar, budget,
      RegisteredPool::Options{.access = IBV_ACCESS_LOCAL_WRITE});
  loan_pool = std::make_unique<RegisteredPool>(
      registrar, budget,
      RegisteredPool::Options{.access = IBV_ACCESS_LOCAL_WRITE |
                                        IBV_ACCESS_REMOTE_WRITE});
  cache = std::make_unique<RegistrationCache>(registrar,
                                              RegistrationCache::Options{});
  memory =
      std::make_unique<PoolMemory>(*loan_pool, *cache, kBudget / 2, *slot_pool);
  const uint32_t count = layout.links() * layout.slots + kSpareSlots;
  slot_bytes = OrDie(slot_pool->Allocate(size_t{count} * layout.slot_size));
  for (uint32_t i = 0; i < count; ++i) {
    slots.push_back(
        {.memory = {.data = slot_bytes.data() + size_t{i} * layout.slot_size,
                    .length = layout.slot_size,
                    .lkey = slot_bytes.lkey()}});
  }
  core = std::make_unique<SessionCore>(
      SessionCore::Options{.layout = layout,
                           .client = which == 0,
                           .receive_slots = slots,
                           .ahead_bytes = kBudget / 4},
      *memory, *this);
  carriers.resize(layout.links());
}

SessionPair::Side::~Side() {
  core.reset();
  carriers.clear();
}

std::unique_ptr<verbs::QueuePair> SessionPair::Side::NewQp() const {
  const uint32_t pieces =
      std::clamp(static_cast<uint32_t>(context->limits().max_sge), 1u, 2u);
  return OrDie(verbs::QueuePair::Create(pd, {.send_cq = cq,
                                             .max_send_wr = kDepth,
                                             .max_recv_wr = layout.slots,
                                             .max_send_sge = pieces,
                                             .max_recv_sge = 1,
                                             .max_unsignaled = kDepth}));
}

void SessionPair::Side::Turn() {
  const Instant now = Clock::Monotonic().Now();
  std::array<verbs::Completion, 16> completions;
  const size_t count = OrDie(cq->Poll(completions));
  for (const verbs::Completion& each : std::span(completions).first(count)) {
    for (const auto& carrier : carriers) {
      if (carrier->qp() == each.qp) carrier->OnCompletion(each, now);
    }
  }
  for (const auto& carrier : carriers) carrier->Advance(now);
  core->Pump(now);
}

SessionPair::SessionPair(const SessionLayout& layout) {
  for (size_t i = 0; i < 2; ++i) {
    sides_[i] = std::make_unique<Side>(i, layout);
  }
  for (uint32_t link = 0; link < layout.links(); ++link) Connect(link);
}

SessionPair::~SessionPair() {
  for (size_t i = 0; i < 2; ++i) core(i).Fail(absl::CancelledError("done"));
  Run([this] { return core(0).ended() && core(1).ended(); });
}

void SessionPair::Connect(uint32_t link) {
  std::array<std::unique_ptr<verbs::QueuePair>, 2> qps = {sides_[0]->NewQp(),
                                                          sides_[1]->NewQp()};
  const std::array<uint32_t, 2> qpns = {qps[0]->qpn(), qps[1]->qpn()};
  for (size_t i = 0; i < 2; ++i) {
    Side& side = *sides_[i];
    const verbs::QueuePair::Path path{.gid_index = side.gid.index,
                                      .remote_gid = sides_[1 - i]->gid.gid,
                                      .remote_qpn = qpns[1 - i],
                                      .local_psn = kPsn,
                                      .remote_psn = kPsn,
                                      .access = IBV_ACCESS_REMOTE_WRITE};
    verbs::QueuePair& qp = *qps[i];
    ASSERT_TRUE(qp.ToInit(path).ok());
    side.carriers[link] = std::make_unique<VerbsCarrier>(
        VerbsCarrier::Options{
            .link = link,
            .slot_size = side.layout.slot_size,
            .depth = kDepth,
            .max_pieces = std::clamp(
                static_cast<uint32_t>(side.context->limits().max_sge), 1u, 2u),
            .max_write = OrDie(side.context->QueryPort(1)).attr.max_msg_sz,
            .ring_places = side.layout.ring ? side.layout.slots : 0},
        std::move(qps[i]),
        OrDie(side.slot_pool->Allocate(size_t{kDepth} * side.layout.slot_size)),
        side.layout.ring
            ? OrDie(side.loan_pool->Allocate(size_t{side.layout.slots} *
                                             side.layout.slot_size))
            : Buffer(),
        *side.core);
    side.core->AddLink(link, 0, *side.carriers[link]);
    ASSERT_TRUE(qp.ToRtr(path).ok());
    ASSERT_TRUE(qp.ToRts(path).ok());
  }
  const Instant now = Clock::Monotonic().Now();
  for (size_t i = 0; i < 2; ++i) {
    const Buffer& ring = sides_[1 - i]->carriers[link]->ring();
    if (ring.size() != 0) {
      sides_[i]->carriers[link]->set_peer_ring(
          {.address = reinterpret_cast<uintptr_t>(ring.data()),
           .rkey = ring.rkey()});
    }
    sides_[i]->core->OpenLink(link, now);
  }
}

void SessionPair::Break(size_t side, uint32_t link) {
  EXPECT_TRUE(sides_[side]->carriers[link]->queue_pair().ToError().ok());
}

bool SessionPair::Run(const std::function<bool()>& done) {
  const Deadline deadline = Deadline::After(std::chrono::seconds(20));
  while (!done()) {
    if (deadline.Passed()) return false;
    for (const auto& side : sides_) side->Turn();
  }
  return true;
}

}  // namespace nd::transport

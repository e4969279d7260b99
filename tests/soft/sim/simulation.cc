#include "soft/sim/simulation.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "soft/wire/burst.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr size_t kMostEvents = 1'000'000;
constexpr uint32_t kFirstQpn = 17;
constexpr uint32_t kKeysPerStream = 1000;
constexpr uint32_t kFirstKey = 0x10000;
constexpr uint8_t kLeastTimeout = 8;  // 1 ms
constexpr Duration kWorkTime = milliseconds(3);

Weather DrawWeather(Random& random) {
  switch (random.Below(12)) {
    case 0:
    case 1:
      return Weather::kDefective;
    case 2:
      return Weather::kFoul;
    case 3:
      return Weather::kCut;
    case 4:
      return Weather::kAborted;
    default:
      return Weather::kFair;
  }
}

// The receives of a SRQ are long enough for all.
Defect DrawDefect(Random& random, bool answered, bool shared_receives) {
  const auto defect = static_cast<Defect>(1 + random.Below(6));
  const bool impossible = (defect == Defect::kMisaligned && !answered) ||
                          (defect == Defect::kLongSend && shared_receives);
  return impossible ? Defect::kWrongKey : defect;
}

}  // namespace

// A queue pair with what its device has for it.
struct Simulation::Endpoint final : CompletionSink {
  Endpoint(const QpOptions& options, SimReceives* srq)
      : own_receives(false),
        receives(srq != nullptr ? *srq : own_receives),
        qp(options,
           {.memory = memory, .receives = receives, .completions = *this}) {}

  void SendCompleted(const WorkCompletion& completion) override {
    outgoing->OnSendCompleted(completion);
  }
  void ReceiveCompleted(const WorkCompletion& completion) override {
    incoming->OnReceiveCompleted(completion, &receives[completion.wr_id],
                                 !receives.shared());
  }
  void Raise(ibv_event_type) override {}

  size_t device = 0;
  Endpoint* peer = nullptr;
  SimMemory memory;
  SimReceives own_receives;
  SimReceives& receives;
  Stream* outgoing = nullptr;
  Stream* incoming = nullptr;
  size_t posted = 0;
  bool pump_scheduled = false;
  Qp qp;
};

Simulation::Simulation(uint64_t seed) : random_(seed) {
  weather_ = DrawWeather(random_);
  DrawNetwork();
  const size_t devices = 2 + random_.Below(2);
  counters_.resize(devices);
  for (size_t i = 0; i < devices; ++i) {
    counters_[i].rkey = Rkey(static_cast<uint32_t>(i + 1));
    srqs_.push_back(random_.OneIn(4) ? std::make_unique<SimReceives>(true)
                                     : nullptr);
  }
  const size_t connections = 1 + random_.Below(3);
  for (size_t i = 0; i < connections; ++i) Connect(i);
  Schedule();
}

Simulation::~Simulation() = default;

// ---- Building.

void Simulation::DrawNetwork() {
  const bool foul = weather_ == Weather::kFoul;
  const bool calm = !foul && random_.OneIn(4);
  may_lose_ = !calm;
  NetworkOptions options;
  options.delay = microseconds(1 + random_.Below(50));
  options.straggle = microseconds(random_.Below(300));
  if (!calm) {
    options.loss = random_.Fraction() * (foul ? 0.6 : 0.05);
    options.duplicate = random_.Fraction() * 0.1;
    options.corrupt = random_.Fraction() * 0.02;
    options.reorder = random_.Fraction() * (random_.OneIn(2) ? 0.05 : 0.5);
  }
  network_ = std::make_unique<SimNetwork>(options, random_);
  outbox_ = std::make_unique<SimOutbox>(*network_, random_);
}

QpAttributes Simulation::DrawAttributes() {
  return {
      .access = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
                IBV_ACCESS_REMOTE_ATOMIC,
      .mtu_bytes = uint32_t{256} << (random_.OneIn(3) ? random_.Below(5) : 0),
      .receive_psn = Psn(static_cast<uint32_t>(random_.Next())),
      .max_dest_rd_atomic = static_cast<uint8_t>(random_.Below(5)),
      .min_rnr_timer = static_cast<uint8_t>(1 + random_.Below(14)),
      .send_psn = Psn(random_.OneIn(2) ? 0xfffffe
                                       : static_cast<uint32_t>(random_.Next())),
      .max_rd_atomic = static_cast<uint8_t>(random_.Below(5)),
      .retry_cnt = 7,
      .rnr_retry = kRnrRetryForever,
      .ack_timeout = static_cast<uint8_t>(kLeastTimeout + random_.Below(4)),
      .window = static_cast<uint32_t>(2 + random_.Below(63)),
      .read_packets = static_cast<uint32_t>(1 + random_.Below(16))};
}

void Simulation::Connect(size_t number) {
  const size_t a = random_.Below(counters_.size());
  const size_t b = random_.Below(counters_.size());
  Endpoint& one = *endpoints_.emplace_back(MakeEndpoint(a));
  Endpoint& other = *endpoints_.emplace_back(MakeEndpoint(b));
  one.peer = &other;
  other.peer = &one;
  QpAttributes of_one = DrawAttributes();
  QpAttributes of_other = DrawAttributes();
  of_one.destination = other.qp.options().number;
  of_other.destination = one.qp.options().number;
  of_other.mtu_bytes = of_one.mtu_bytes;
  of_other.receive_psn = of_one.send_psn;
  of_one.receive_psn = of_other.send_psn;
  of_other.max_dest_rd_atomic = of_one.max_rd_atomic;
  of_one.max_dest_rd_atomic = of_other.max_rd_atomic;
  one.outgoing = other.incoming =
      streams_.emplace_back(MakeStream("there", number, of_one)).get();
  other.outgoing = one.incoming =
      streams_.emplace_back(MakeStream("back", number, of_other)).get();
  for (Endpoint* const endpoint : {&one, &other}) {
    const QpAttributes& attributes = endpoint == &one ? of_one : of_other;
    endpoint->incoming->Register(endpoint->memory);
    for (const QpState state : {QpState::kInit, QpState::kRtr, QpState::kRts}) {
      if (!endpoint->qp.Modify(state, attributes)) {
        findings_.push_back("the queue pair does not come up");
      }
    }
  }
}

std::unique_ptr<Simulation::Endpoint> Simulation::MakeEndpoint(size_t device) {
  const QpOptions options{
      .number = Qpn(static_cast<uint32_t>(kFirstQpn + endpoints_.size())),
      .send_depth = 1 + random_.Below(16)};
  auto endpoint = std::make_unique<Endpoint>(options, srqs_[device].get());
  endpoint->device = device;
  return endpoint;
}

std::unique_ptr<Stream> Simulation::MakeStream(const std::string& name,
                                               size_t number,
                                               const QpAttributes& attributes) {
  const bool there = streams_.size() % 2 == 0;
  const bool answered = attributes.max_rd_atomic > 0;
  StreamOptions options{
      .name = absl::StrCat("connection ", number, " ", name),
      .mtu_bytes = attributes.mtu_bytes,
      .steps = 1 + random_.Below(40),
      .answered = answered,
      .may_break = weather_ != Weather::kFair,
      .first_rkey = Rkey(
          kFirstKey + kKeysPerStream * static_cast<uint32_t>(streams_.size()))};
  // The endpoint that the stream goes to.
  const Endpoint& responder = *endpoints_[endpoints_.size() - (there ? 1 : 2)];
  if (weather_ == Weather::kDefective) {
    options.defect = DrawDefect(random_, answered, responder.receives.shared());
  }
  return std::make_unique<Stream>(options, random_, counters_[responder.device],
                                  findings_);
}

Instant Simulation::Soon(Duration within) {
  return now_ + Duration(random_.Below(within.count()));
}

void Simulation::Schedule() {
  size_t largest = 0;
  for (const auto& stream : streams_) {
    largest = std::max(largest, stream->largest_receive());
  }
  for (const auto& owned : endpoints_) {
    Endpoint& endpoint = *owned;
    agenda_.emplace(Soon(kWorkTime), [&] { PostSends(endpoint); });
    ScheduleReceives(endpoint, largest);
  }
  ScheduleCuts();
  ScheduleMoves();
}

// Some of them late.
void Simulation::ScheduleReceives(Endpoint& endpoint, size_t largest) {
  Instant at = now_;
  for (const size_t size : endpoint.incoming->receive_sizes()) {
    if (random_.OneIn(3)) at += Duration(random_.Below(400'000));
    const size_t bytes = endpoint.receives.shared() ? largest : size;
    agenda_.emplace(at, [this, &endpoint, bytes] {
      endpoint.receives.Post(bytes, random_);
      endpoint.qp.OnReceivePosted();
    });
  }
}

void Simulation::ScheduleCuts() {
  if (weather_ == Weather::kCut) {
    agenda_.emplace(Soon(kWorkTime), [this] { network_->SetCut(true); });
  } else if (random_.OneIn(3)) {
    const Instant at = Soon(kWorkTime);
    const Duration length(random_.Below(3 * AckTime(kLeastTimeout).count()));
    agenda_.emplace(at, [this] { network_->SetCut(true); });
    agenda_.emplace(at + length, [this] { network_->SetCut(false); });
  }
}

void Simulation::ScheduleMoves() {
  for (const auto& owned : endpoints_) {
    Endpoint& endpoint = *owned;
    if (random_.OneIn(4)) ScheduleDrain(endpoint);
    if (weather_ == Weather::kAborted && random_.OneIn(2)) {
      agenda_.emplace(Soon(kWorkTime), [&] { Move(endpoint, QpState::kErr); });
    }
  }
}

void Simulation::ScheduleDrain(Endpoint& endpoint) {
  const Instant at = Soon(kWorkTime);
  agenda_.emplace(at, [&] { Move(endpoint, QpState::kSqd); });
  agenda_.emplace(at + Duration(random_.Below(kWorkTime.count())),
                  [&] { Move(endpoint, QpState::kRts); });
}

// Unless an error was faster.
void Simulation::Move(Endpoint& endpoint, QpState to) {
  if (endpoint.qp.state() == QpState::kErr) return;
  if (!endpoint.qp.Modify(to, endpoint.qp.attributes())) {
    findings_.push_back("a state cannot be left");
  }
  Pump(endpoint);
}

// ---- Running.

Findings Simulation::Run() {
  for (size_t events = 0; Step(); ++events) {
    if (!findings_.empty()) return findings_;
    if (events == kMostEvents) return {"it does not come to rest"};
  }
  CheckEnd();
  return findings_;
}

// The next thing that happens, wherever. False: nothing does.
bool Simulation::Step() {
  std::optional<Instant> next = network_->NextArrival();
  Endpoint* late = nullptr;
  if (!agenda_.empty() && (!next || agenda_.begin()->first < *next)) {
    next = agenda_.begin()->first;
  }
  for (const auto& endpoint : endpoints_) {
    const auto deadline = endpoint->qp.NextDeadline();
    if (!deadline || (next && *deadline >= *next)) continue;
    next = deadline;
    late = endpoint.get();
  }
  if (!next) return false;
  now_ = std::max(now_, *next);
  if (late != nullptr) {
    late->qp.OnTimer(now_);
    Pump(*late);
  } else if (!agenda_.empty() && agenda_.begin()->first == *next) {
    const auto action = agenda_.extract(agenda_.begin());
    action.mapped()();
  } else {
    Deliver(network_->Take());
  }
  return true;
}

void Simulation::Deliver(const Datagram& datagram) {
  const Sealed sealed = Unseal(datagram.bytes);
  const bool whole = IcrcMatches(
      HeadersBetween(datagram.source, datagram.destination), sealed);
  if (whole == datagram.corrupted) {
    findings_.push_back("the ICRC did not tell good from bad");
  }
  Packet packet;
  if (!whole || Parse(sealed.packet, packet) != PacketFault::kNone) return;
  packet.packets = datagram.packets;
  // As between processes of a host.
  std::optional<SimFar> far;
  if (IsBurst(packet) && random_.OneIn(2)) {
    far.emplace(packet.payload, !may_lose_ || !random_.OneIn(20));
    packet.payload = {};
    packet.far = &*far;
  }
  for (const auto& endpoint : endpoints_) {
    if (endpoint->qp.options().number != packet.bth.destination) continue;
    endpoint->qp.OnPacket(packet, now_);
    Pump(*endpoint);
  }
}

void Simulation::PostSends(Endpoint& endpoint) {
  while (endpoint.posted < endpoint.outgoing->steps()) {
    if (random_.OneIn(4) || endpoint.qp.Post(endpoint.outgoing->work(
                                endpoint.posted)) != PostResult::kPosted) {
      agenda_.emplace(now_ + microseconds(1 + random_.Below(300)),
                      [this, &endpoint] { PostSends(endpoint); });
      break;
    }
    ++endpoint.posted;
  }
  Pump(endpoint);
}

void Simulation::Pump(Endpoint& endpoint) {
  outbox_->Open(now_, endpoint.device, endpoint.peer->device);
  endpoint.qp.Transmit(now_, *outbox_);
  if (!outbox_->used_up() || endpoint.pump_scheduled) return;
  endpoint.pump_scheduled = true;
  agenda_.emplace(now_ + microseconds(1 + random_.Below(20)),
                  [this, &endpoint] {
                    endpoint.pump_scheduled = false;
                    Pump(endpoint);
                  });
}

void Simulation::CheckEnd() {
  bool all_well = true;
  for (const auto& endpoint : endpoints_) {
    endpoint->outgoing->CheckEnd(endpoint->peer->memory);
    all_well = all_well && !endpoint->outgoing->broken();
    if (endpoint->qp.sends_queued() != 0) {
      findings_.push_back("work stays in a queue for ever");
    }
  }
  if (!all_well || weather_ != Weather::kFair) return;
  for (const SharedCounter& counter : counters_) {
    uint64_t value = 0;
    std::memcpy(&value, counter.bytes.data(), sizeof(value));
    if (value != counter.expected) findings_.push_back("the counter is off");
  }
}

}  // namespace nd::soft

#include "transport/session/sim_traffic.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace nd::transport {
namespace {

std::byte PatternAt(uint64_t message, uint64_t offset) {
  return static_cast<std::byte>((message * 131 + offset * 7 + offset / 251) &
                                0xff);
}

}  // namespace

// One end of a stream.
struct Traffic::Flow {
  struct Sending {
    SendOperation operation;
    std::vector<std::byte> bytes;
    std::vector<SendPiece> pieces;
    uint32_t rkey = 0;
    uint64_t number = 0;
    Flow* flow = nullptr;
  };
  struct Receiving {
    ReceiveOperation operation;
    std::vector<std::byte> bytes;
    uint32_t rkey = 0;
    Flow* flow = nullptr;
  };

  Flow(Traffic& traffic, size_t which, Stream& its)
      : owner(traffic), side(which), stream(&its), id(its.id()) {}

  SimWorld& world() { return owner.world_; }
  Random& random() { return owner.world_.random(); }

  void SendNext();
  void OnSent(Sending& sending);
  void ReceiveNext();
  void OnReceived(Receiving& receiving);
  void Check(std::span<const std::byte> bytes);
  void MaybeClose();

  Traffic& owner;
  const size_t side;
  Stream* stream;
  const uint32_t id;
  std::list<std::unique_ptr<Sending>> sends;
  std::list<std::unique_ptr<Receiving>> receives;
  std::list<Message> held;
  uint64_t started = 0;
  std::vector<uint64_t> sent;  // that ended well, by number
  size_t failed = 0;
  std::vector<uint64_t> got;
  bool finished_sending = false;
  bool end_seen = false;
  bool closed = false;
};

void Traffic::Flow::SendNext() {
  while (started < owner.options_.messages && sends.size() < 4) {
    auto& sending = *sends.emplace_back(std::make_unique<Sending>());
    sending.flow = this;
    sending.number = started++;
    const bool large = random().OneIn(4);
    const uint64_t size =
        random().Below(large ? owner.options_.largest + 1 : 300) + 8;
    sending.bytes.resize(size);
    for (uint64_t i = 8; i < size; ++i) {
      sending.bytes[i] = PatternAt(sending.number, i);
    }
    std::memcpy(sending.bytes.data(), &sending.number, 8);
    const std::span<const std::byte> all(sending.bytes);
    if (random().OneIn(3)) {
      const size_t half = random().Below(size + 1);
      sending.pieces = {{.bytes = all.first(half)},
                        {.bytes = all.subspan(half)}};
    } else if (random().OneIn(2)) {
      sending.rkey = world().memory(side).AddRegion(sending.bytes);
      sending.pieces = {
          {.bytes = all, .lkey = sending.rkey, .registered = true}};
    } else {
      sending.pieces = {{.bytes = all}};
    }
    sending.operation.set_pieces(sending.pieces);
    if (owner.options_.cancels && random().OneIn(5)) {
      sending.operation.set_deadline(
          world().now() + world().Chance(std::chrono::microseconds(200)));
    }
    sending.operation.OnDone(
        [](Operation&, void* context) {
          auto& its = *static_cast<Sending*>(context);
          its.flow->OnSent(its);
        },
        &sending);
    stream->Send(sending.operation);
  }
  if (started == owner.options_.messages && sends.empty() &&
      !finished_sending) {
    finished_sending = true;
    stream->Finish();
    MaybeClose();
  }
}

void Traffic::Flow::OnSent(Sending& sending) {
  if (sending.operation.status().ok()) {
    sent.push_back(sending.number);
  } else {
    ++failed;
  }
  // The memory is the application's again.
  if (world().memory(side).CopiesFrom(sending.bytes)) {
    world().Fault("a copy goes on of a message that is done");
  }
  std::ranges::fill(sending.bytes, std::byte{0xee});
  if (sending.rkey != 0) world().memory(side).RemoveRegion(sending.rkey);
  const uint64_t number = sending.number;
  std::erase_if(sends,
                [number](const auto& each) { return each->number == number; });
  SendNext();
}

void Traffic::Flow::ReceiveNext() {
  if (end_seen) return;
  while (receives.size() < 2) {
    auto& receiving = *receives.emplace_back(std::make_unique<Receiving>());
    receiving.flow = this;
    if (random().OneIn(2)) {
      receiving.bytes.resize(owner.options_.largest + 8 + 300);
      ReceiveOperation::Into into{.bytes = receiving.bytes};
      if (random().OneIn(2)) {
        receiving.rkey = world().memory(side).AddRegion(receiving.bytes);
        into.rkey = receiving.rkey;
        into.registered = true;
      }
      receiving.operation.set_into(into);
    }
    if (owner.options_.cancels && random().OneIn(4)) {
      receiving.operation.set_deadline(
          world().now() + world().Chance(std::chrono::microseconds(200)));
    }
    receiving.operation.OnDone(
        [](Operation&, void* context) {
          auto& its = *static_cast<Receiving*>(context);
          its.flow->OnReceived(its);
        },
        &receiving);
    stream->Receive(receiving.operation);
  }
}

void Traffic::Flow::Check(std::span<const std::byte> bytes) {
  uint64_t number = ~uint64_t{0};
  if (bytes.size() >= 8) std::memcpy(&number, bytes.data(), 8);
  got.push_back(number);
  for (uint64_t i = 8; i < bytes.size(); ++i) {
    if (bytes[i] == PatternAt(number, i)) continue;
    world().Fault(absl::StrCat("stream ", id, ", message ", number, " of ",
                               bytes.size(), " bytes: wrong at ", i));
    return;
  }
}

void Traffic::Flow::OnReceived(Receiving& receiving) {
  const absl::Status& status = receiving.operation.status();
  if (status.ok()) {
    if (receiving.operation.loan()) {
      Message message = std::move(receiving.operation.message());
      Check(message.bytes());
      if (random().OneIn(3)) {
        held.push_back(std::move(message));
        world().After(world().Chance(std::chrono::microseconds(500)), [this] {
          if (!held.empty()) held.pop_front();
        });
      }
    } else {
      Check(std::span(receiving.bytes).first(receiving.operation.size()));
    }
  } else if (absl::IsDeadlineExceeded(status)) {
    // Nothing was received.
  } else {
    end_seen = true;
    if (owner.options_.must_end_well && !absl::IsOutOfRange(status)) {
      world().Fault(absl::StrCat("stream ", id, ": ", status.ToString()));
    }
  }
  if (receiving.rkey != 0) world().memory(side).RemoveRegion(receiving.rkey);
  std::erase_if(receives, [&receiving](const auto& each) {
    return each.get() == &receiving;
  });
  if (owner.options_.stalls && random().OneIn(8)) {
    world().After(world().Chance(std::chrono::milliseconds(2)),
                  [this] { ReceiveNext(); });
  } else {
    ReceiveNext();
  }
  MaybeClose();
}

void Traffic::Flow::MaybeClose() {
  if (closed || !finished_sending || !end_seen || !receives.empty()) return;
  closed = true;
  stream->Close();
}

Traffic::Traffic(SimWorld& world, const TrafficOptions& options)
    : world_(world), options_(options) {}

Traffic::~Traffic() {
  for (Flow& flow : flows_) flow.held.clear();
}

void Traffic::Start() {
  for (size_t i = 0; i < options_.streams; ++i) {
    OpenStream(world_.random().Below(2));
  }
}

void Traffic::OpenStream(size_t side) {
  const auto message_class =
      static_cast<MessageClass>(world_.random().Below(kMessageClasses));
  absl::StatusOr<Stream*> stream =
      world_.core(side).OpenStream(message_class, absl::StrCat("s", side));
  if (!stream.ok()) return world_.Fault(stream.status().ToString());
  Attach(side, **stream);
}

void Traffic::Attach(size_t side, Stream& stream) {
  Flow& flow = flows_.emplace_back(*this, side, stream);
  flow.SendNext();
  flow.ReceiveNext();
}

void Traffic::AcceptAll(size_t side) {
  while (Stream* const stream = world_.core(side).AcceptStream()) {
    Attach(side, *stream);
  }
}

bool Traffic::done() const {
  auto* const self = const_cast<Traffic*>(this);
  self->AcceptAll(0);
  self->AcceptAll(1);
  if (!options_.must_end_well && (world_.ended(0) || world_.ended(1))) {
    const auto quiet = [](const Flow& flow) {
      return flow.sends.empty() && flow.receives.empty();
    };
    return world_.ended(0) && world_.ended(1) &&
           std::ranges::all_of(flows_, quiet);
  }
  const auto closed = [](const Flow& flow) {
    return flow.closed && flow.held.empty();
  };
  return flows_.size() == 2 * options_.streams &&
         std::ranges::all_of(flows_, closed);
}

size_t Traffic::delivered() const {
  size_t all = 0;
  for (const Flow& flow : flows_) all += flow.got.size();
  return all;
}

size_t Traffic::failed_sends() const {
  size_t all = 0;
  for (const Flow& flow : flows_) all += flow.failed;
  return all;
}

std::string Traffic::Verdict() const {
  for (const Flow& from : flows_) {
    const auto to = std::ranges::find_if(flows_, [&from](const Flow& flow) {
      return flow.id == from.id && flow.side != from.side;
    });
    if (to == flows_.end()) {
      if (options_.must_end_well) return "a stream without a peer";
      continue;
    }
    if (!std::ranges::is_sorted(to->got) ||
        std::ranges::adjacent_find(to->got) != to->got.end()) {
      return absl::StrCat("stream ", from.id, ": out of order or doubled: ",
                          absl::StrJoin(to->got, " "));
    }
    // Operations end in another order where some messages are large.
    std::vector<uint64_t> sent = from.sent;
    std::ranges::sort(sent);
    if (options_.must_end_well && to->got != sent) {
      return absl::StrCat("stream ", from.id, ": ", from.sent.size(),
                          " were sent and ", to->got.size(), " came");
    }
  }
  return CheckStatistics();
}

std::string Traffic::CheckStatistics() const {
  uint64_t sent = 0, counted_sent = 0, counted_received = 0, timed = 0;
  for (const Flow& flow : flows_) sent += flow.sent.size();
  for (size_t side = 0; side < 2; ++side) {
    const SessionStatistics statistics =
        world_.core(side).Statistics(world_.now());
    for (const ClassStatistics* its : {&statistics.latency, &statistics.bulk}) {
      counted_sent += its->sent.messages;
      counted_received += its->received.messages;
      timed += its->send_latency.count;
    }
  }
  if (counted_sent == sent && counted_received == delivered() &&
      timed == sent) {
    return "";
  }
  return absl::StrCat(sent, " were sent and ", delivered(),
                      " came; the statistics say ", counted_sent, " and ",
                      counted_received, ", and that ", timed, " took time");
}

}  // namespace nd::transport

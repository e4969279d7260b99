#include "ndping/message/flows.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nd::ndping {

void CheckMessage(const Phase& phase, uint32_t index, uint64_t sequence,
                  uint64_t size, std::span<const std::byte> message,
                  bool faults_only, Verdict& verdict) {
  const PatternKey key = phase.Key(!phase.client, index, sequence);
  if (message.size() != size) {
    const std::string what = absl::StrCat(DescribeMessage(key), ": ",
                                          message.size(), " bytes, not ", size);
    return faults_only ? verdict.AddFault(what) : verdict.Count(what);
  }
  if (!faults_only) return verdict.Check(key, message);
  if (const std::optional<Mismatch> wrong = FindMismatch(key, message)) {
    verdict.AddFault(absl::StrCat("load, message ", sequence, ", byte ",
                                  wrong->offset, " is wrong"));
  }
}

Sender::Sender(const Options& options)
    : options_(options), places_(new Place[options.window]) {
  const uint64_t slots =
      options.stride == 0 ? 1 : (options.end - options.begin) / options.stride;
  for (uint32_t i = 0; i < options.window; ++i) {
    Place& place = places_[i];
    place.sender = this;
    place.offset = options.begin + i % slots * options.stride;
    place.operation.OnDone(&Sender::OnDone, &place);
    free_.push_back(&place);
  }
}

absl::Status Sender::Post(uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) PostOne();
  return absl::OkStatus();
}

void Sender::PostOne() {
  Place& place = *free_.back();
  free_.pop_back();
  const Phase& phase = *options_.phase;
  if (phase.plan.verify) {
    FillPattern(phase.Key(phase.client, options_.index, posted_),
                options_.memory->bytes().subspan(place.offset, options_.size));
  }
  ++posted_;
  place.operation.set_piece(
      options_.memory->Source(place.offset, options_.size));
  options_.stream->Send(place.operation);
}

void Sender::OnDone(Operation& operation, void* context) {
  Place& place = *static_cast<Place*>(context);
  Sender& sender = *place.sender;
  if (!operation.status().ok()) {
    if (sender.options_.failure->ok()) {
      *sender.options_.failure = operation.status();
    }
    return;
  }
  ++sender.completed_;
  sender.free_.push_back(&place);
  if (sender.options_.by_itself && !sender.all_posted()) sender.PostOne();
}

bool Sender::Quiet() const {
  const std::span places(places_.get(), options_.window);
  return std::ranges::none_of(
      places, [](const Place& each) { return each.operation.pending(); });
}

Receiver::Receiver(const Options& options)
    : options_(options), places_(new Place[options.receives]) {
  for (uint32_t i = 0; i < options.receives; ++i) {
    Place& place = places_[i];
    place.receiver = this;
    place.operation.set_loan();
    place.operation.OnDone(&Receiver::OnDone, &place);
    options.stream->Receive(place.operation);
  }
}

void Receiver::OnDone(Operation& operation, void* context) {
  Place& place = *static_cast<Place*>(context);
  Receiver& receiver = *place.receiver;
  if (!operation.status().ok()) {
    const bool wanted =
        receiver.ending_ && absl::IsCancelled(operation.status());
    if (!wanted && receiver.options_.failure->ok()) {
      *receiver.options_.failure = operation.status();
    }
    return;
  }
  receiver.Take(place.operation.message());
  place.operation.message().Drop();
  if (!receiver.ending_) receiver.options_.stream->Receive(place.operation);
}

void Receiver::Take(const Message& message) {
  const uint64_t sequence = taken_++;
  if (options_.taken != nullptr) ++*options_.taken;
  if (!options_.phase->plan.verify) {
    if (message.size() == options_.size) return;
    options_.verdict->AddFault(
        absl::StrCat("stream ", options_.index, ", message ", sequence, ": ",
                     message.size(), " bytes, not ", options_.size));
    return;
  }
  CheckMessage(*options_.phase, options_.index, sequence, options_.size,
               message.bytes(), options_.faults_only, *options_.verdict);
}

bool Receiver::Quiet() const {
  const std::span places(places_.get(), options_.receives);
  return std::ranges::none_of(
      places, [](const Place& each) { return each.operation.pending(); });
}

bool Receiver::Settled() {
  const bool first = !std::exchange(ending_, true);
  bool all = true;
  for (uint32_t i = 0; i < options_.receives; ++i) {
    ReceiveOperation& operation = places_[i].operation;
    if (first && operation.pending()) options_.stream->Cancel(operation);
    all = all && !operation.pending();
  }
  return all;
}

}  // namespace nd::ndping

// Large messages from memory that cannot be registered: copied part by part
// into memory that is, while the parts before are on the wire.
#include <algorithm>

#include "transport/session/session_core.h"

namespace nd::transport {

absl::Status SessionCore::MakeStages() {
  if (!stages_.empty()) return absl::OkStatus();
  const absl::StatusOr<LocalPiece> memory = memory_.AllocateStages();
  if (!memory.ok()) return memory.status();
  stages_.resize(SessionMemory::kStages);
  for (size_t i = 0; i < stages_.size(); ++i) {
    stages_[i].memory = {.data = memory->data + i * SessionMemory::kStageBytes,
                         .length = SessionMemory::kStageBytes,
                         .lkey = memory->lkey};
  }
  return absl::OkStatus();
}

SessionCore::Stage* SessionCore::FreeStage() {
  const auto found =
      std::ranges::find(stages_, Stage::State::kFree, &Stage::state);
  return found == stages_.end() ? nullptr : &*found;
}

// Parts of it that no link has yet.
bool SessionCore::HasUnposted(const Outgoing& transfer) const {
  return std::ranges::any_of(stages_, [&](const Stage& each) {
    return each.transfer == &transfer &&
           (each.state == Stage::State::kCopying ||
            each.state == Stage::State::kCopied);
  });
}

// Begins to copy the next part of a transfer, where there is a place for it.
void SessionCore::StageNext(Outgoing& transfer) {
  Stage* const stage = FreeStage();
  if (stage == nullptr) return;
  const LocalPiece from = NextPiece(transfer);
  stage->state = Stage::State::kCopying;
  stage->transfer = &transfer;
  stage->offset = transfer.written;
  stage->length =
      std::min<uint64_t>({transfer.chunk, from.length, stage->memory.length});
  for (const Link& link : links_) {
    if (link.state != Link::State::kUp) continue;
    stage->length =
        std::min<uint64_t>(stage->length, link.carrier->max_write());
  }
  transfer.written += stage->length;
  ++transfer.in_flight;
  const auto number = static_cast<uint32_t>(stage - stages_.data());
  if (memory_.Copy(number, {from.data, stage->length}, stage->memory.data)) {
    OnCopied(number);
  }
}

void SessionCore::OnCopied(uint32_t stage) {
  stages_[stage].state = Stage::State::kCopied;
}

// Posts what is copied. False where no link has room.
bool SessionCore::WriteStages() {
  for (Stage& stage : stages_) {
    if (stage.state != Stage::State::kCopied) continue;
    Outgoing& transfer = *stage.transfer;
    const bool goes_on = transfer.goes_on();
    Link* const link = goes_on ? LinkForWrite(false, false) : nullptr;
    if (goes_on && link == nullptr) return false;
    --transfer.in_flight;
    if (link == nullptr) {
      LeaveStage(stage);
    } else {
      stage.state = Stage::State::kWriting;
      transfer.unmarked |= 1u << link->index;
      PostWrite(transfer, *link,
                {.data = stage.memory.data,
                 .length = stage.length,
                 .lkey = stage.memory.lkey},
                stage.offset, std::nullopt,
                static_cast<uint8_t>(&stage - stages_.data() + 1));
    }
    GoOn(transfer);
  }
  return true;
}

void SessionCore::LeaveStage(Stage& stage) {
  stage.state = Stage::State::kFree;
  stage.transfer = nullptr;
  // There is a place for whoever waits for one.
  for (Outgoing& transfer : outgoing_) {
    if (transfer.staged && transfer.written < transfer.size) GoOn(transfer);
  }
}

// What is copied is the application's memory, which it is about to have back.
void SessionCore::EndStages() {
  if (AnyStage(Stage::State::kCopying)) memory_.AwaitCopies();
}

}  // namespace nd::transport

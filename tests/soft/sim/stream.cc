#include "soft/sim/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nd::soft {
namespace {

constexpr uint64_t kStart = 0x7f0000000000;  // address of the memory
constexpr uint64_t kCounterAt = 0x5000;
constexpr size_t kWords = 4;
constexpr size_t kMostPackets = 9;

class NoAction final : public LocalAction {
 public:
  ibv_wc_status Run() override { return IBV_WC_SUCCESS; }
};

// What the requester is told of a defect, if it hears of it.
ibv_wc_status StatusOf(Defect defect) {
  switch (defect) {
    case Defect::kNone:
      return IBV_WC_SUCCESS;
    case Defect::kLongSend:
    case Defect::kMisaligned:
      return IBV_WC_REM_INV_REQ_ERR;
    case Defect::kWrongKey:
    case Defect::kOutOfRange:
    case Defect::kWrongInvalidate:
      return IBV_WC_REM_ACCESS_ERR;
    case Defect::kLocalFault:
      return IBV_WC_LOC_PROT_ERR;
  }
  return IBV_WC_SUCCESS;
}

ibv_wc_status ReceiveStatusOf(Defect defect) {
  if (defect == Defect::kLongSend) return IBV_WC_LOC_LEN_ERR;
  if (defect == Defect::kWrongInvalidate) return IBV_WC_LOC_ACCESS_ERR;
  return IBV_WC_WR_FLUSH_ERR;
}

uint64_t WordAt(const std::byte* at) {
  uint64_t word = 0;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

void SetWord(std::byte* at, uint64_t word) {
  std::memcpy(at, &word, sizeof(word));
}

Rkey Next(Rkey rkey, size_t count) {
  return Rkey(ToUint(rkey) + static_cast<uint32_t>(count));
}

}  // namespace

Stream::Stream(const StreamOptions& options, Random& random,
               SharedCounter& counter, Findings& findings)
    : options_(options), counter_(counter), findings_(findings) {
  write_bytes_ = read_bytes_ = kMostPackets * options.mtu_bytes;
  memory_.resize(write_bytes_ + read_bytes_ + kWords * sizeof(uint64_t));
  random.Fill(memory_);
  model_ = memory_;
  defect_at_ = options.defect == Defect::kNone ? options.steps
                                               : random.Below(options.steps);
  while (steps_.size() < options.steps) MakeStep(random);
  windows_left_ = windows_;
}

void Stream::Register(SimMemory& memory) {
  memory.Add(options_.first_rkey, kStart, memory_);
  memory.Add(counter_.rkey, kCounterAt, counter_.bytes);
  for (size_t i = 1; i <= windows_; ++i) {
    memory.AddWindow(Next(options_.first_rkey, i));
  }
}

size_t Stream::largest_receive() const {
  if (receive_sizes_.empty()) return 0;
  return *std::ranges::max_element(receive_sizes_);
}

// ---- Work and what it must come to.

size_t Stream::RandomSize(Random& random) const {
  const size_t mtu = options_.mtu_bytes;
  switch (random.Below(5)) {
    case 0:
      return random.Below(3);
    case 1:
      return mtu * (1 + random.Below(3)) - 1 + random.Below(3);
    case 2:
      return random.Below(mtu * kMostPackets + 1);
    default:
      return random.Below(100);
  }
}

void Stream::FillBytes(Step& step, size_t size, Random& random) {
  step.bytes.resize(size);
  random.Fill(step.bytes);
  step.after = step.bytes;
  step.segments = Cut(step.bytes, random);
}

void Stream::MakeStep(Random& random) {
  Step& step = steps_.emplace_back();
  step.work.wr_id = steps_.size() - 1;
  step.work.signaled = !random.OneIn(3);
  step.work.fence = random.OneIn(8);
  step.work.solicited = random.OneIn(2);
  switch (random.Below(options_.answered ? 6 : 3)) {
    case 0:
    case 1:
      MakeSend(step, random);
      break;
    case 2:
      MakeWrite(step, random);
      break;
    case 3:
    case 4:
      MakeRead(step, random);
      break;
    case 5:
      MakeAtomic(step, random);
      break;
  }
  if (steps_.size() - 1 == defect_at_) Spoil(step);
  step.work.segments = step.segments;
  step.received.solicited = step.work.solicited;
}

void Stream::MakeSend(Step& step, Random& random) {
  if (random.OneIn(8)) {
    static NoAction no_action;
    step.work.operation = Operation::kLocal;
    step.work.action = &no_action;
    return;
  }
  FillBytes(step, RandomSize(random), random);
  step.work.ending = static_cast<Ending>(random.Below(3));
  step.uses_receive = true;
  step.received = {.opcode = IBV_WC_RECV,
                   .byte_len = static_cast<uint32_t>(step.bytes.size()),
                   .ending = step.work.ending};
  if (step.work.ending == Ending::kImmediate) {
    step.received.immediate = step.work.immediate =
        static_cast<uint32_t>(random.Next());
  }
  if (step.work.ending == Ending::kInvalidate) {
    step.received.invalidated = step.work.invalidate =
        Next(options_.first_rkey, ++windows_);
  }
  receive_sizes_.push_back(step.bytes.size() + random.Below(3));
}

void Stream::MakeWrite(Step& step, Random& random) {
  step.work.operation = Operation::kWrite;
  step.work.wc_opcode = IBV_WC_RDMA_WRITE;
  step.work.fence |= std::exchange(must_fence_, false);
  FillBytes(step, RandomSize(random), random);
  const size_t offset = random.Below(write_bytes_ - step.bytes.size() + 1);
  step.work.remote_address = kStart + offset;
  step.work.rkey = options_.first_rkey;
  std::ranges::copy(step.bytes, model_.begin() + static_cast<long>(offset));
  if (random.OneIn(2)) return;
  step.work.ending = Ending::kImmediate;
  step.work.immediate = static_cast<uint32_t>(random.Next());
  step.uses_receive = true;
  step.received = {.opcode = IBV_WC_RECV_RDMA_WITH_IMM,
                   .byte_len = static_cast<uint32_t>(step.bytes.size()),
                   .ending = Ending::kImmediate,
                   .immediate = step.work.immediate};
  receive_sizes_.push_back(0);
}

void Stream::MakeRead(Step& step, Random& random) {
  step.work.operation = Operation::kRead;
  step.work.wc_opcode = IBV_WC_RDMA_READ;
  FillBytes(step, RandomSize(random), random);
  size_t offset = random.Below(read_bytes_ - step.bytes.size() + 1);
  if (random.OneIn(2)) {
    must_fence_ = true;
  } else {
    offset += write_bytes_;
  }
  step.work.remote_address = kStart + offset;
  step.work.rkey = options_.first_rkey;
  const auto from = model_.begin() + static_cast<long>(offset);
  std::copy_n(from, step.bytes.size(), step.after.begin());
}

void Stream::MakeAtomic(Step& step, Random& random) {
  const size_t offset =
      write_bytes_ + read_bytes_ + random.Below(kWords) * sizeof(uint64_t);
  std::byte* const word = model_.data() + offset;
  const uint64_t original = WordAt(word);
  FillBytes(step, sizeof(uint64_t), random);
  step.work.operation = Operation::kFetchAdd;
  step.work.wc_opcode = IBV_WC_FETCH_ADD;
  step.work.swap_or_add = random.Next();
  step.work.remote_address = kStart + offset;
  step.work.rkey = options_.first_rkey;
  SetWord(step.after.data(), original);
  if (random.OneIn(3)) {
    step.work.rkey = counter_.rkey;
    step.work.remote_address = kCounterAt;
    counter_.expected += step.work.swap_or_add;
    step.after.clear();  // depends on who comes first
    return;
  }
  if (random.OneIn(2)) {
    SetWord(word, original + step.work.swap_or_add);
    return;
  }
  step.work.operation = Operation::kCompareSwap;
  step.work.wc_opcode = IBV_WC_COMP_SWAP;
  step.work.compare = random.OneIn(3) ? original + 1 : original;
  if (step.work.compare == original) SetWord(word, step.work.swap_or_add);
}

// The defect in place of what the step was, whose effects no longer matter.
void Stream::Spoil(Step& step) {
  SendWork& work = step.work;
  if (step.uses_receive) receive_sizes_.pop_back();
  const uint64_t wr_id = work.wr_id;
  const size_t bytes = step.bytes.size();
  work = {.wr_id = wr_id,
          .signaled = work.signaled,
          .remote_address = kStart,
          .rkey = options_.first_rkey};
  step.bytes.resize(std::max<size_t>(bytes, 8));
  step.after = step.bytes;
  step.segments = {step.bytes};
  step.uses_receive = false;
  switch (options_.defect) {
    case Defect::kNone:
      return;
    case Defect::kLongSend:
      step.uses_receive = true;
      receive_sizes_.push_back(step.bytes.size() - 1);
      return;
    case Defect::kWrongKey:
      work.operation = Operation::kWrite;
      work.rkey = Rkey(0x666);
      return;
    case Defect::kOutOfRange:
      work.operation = Operation::kWrite;
      work.remote_address += memory_.size() - 1;
      return;
    case Defect::kMisaligned:
      work.operation = Operation::kFetchAdd;
      work.remote_address += 4;
      step.segments = {std::span(step.bytes).first(8)};
      return;
    case Defect::kWrongInvalidate:
      work.ending = Ending::kInvalidate;
      work.invalidate = Rkey(0x666);
      step.uses_receive = true;
      receive_sizes_.push_back(step.bytes.size());
      return;
    case Defect::kLocalFault:
      work.fault = IBV_WC_LOC_PROT_ERR;
      return;
  }
}

// ---- What it came to.

void Stream::Find(const std::string& what) {
  findings_.push_back(absl::StrCat(options_.name, ": ", what));
}

void Stream::OnSendCompleted(const WorkCompletion& completion) {
  const uint64_t wr_id = completion.wr_id;
  if (wr_id < checked_ || wr_id >= steps_.size()) {
    return Find(absl::StrCat("send ", wr_id, " completed out of turn"));
  }
  if (completion.status != IBV_WC_SUCCESS) return OnError(completion);
  if (broken_) return Find(absl::StrCat("send ", wr_id, " ok after an error"));
  if (!steps_[wr_id].work.signaled) {
    return Find(absl::StrCat("send ", wr_id, " is not signaled"));
  }
  for (; checked_ <= wr_id; ++checked_) {
    if (checked_ < wr_id && steps_[checked_].work.signaled) {
      Find(absl::StrCat("send ", checked_, " was passed over"));
    }
    CheckStep(steps_[checked_]);
  }
  if (completion.opcode != steps_[wr_id].work.wc_opcode ||
      completion.byte_len != steps_[wr_id].bytes.size()) {
    Find(absl::StrCat("send ", wr_id, " told the wrong opcode or length"));
  }
}

void Stream::CheckStep(const Step& step) {
  if (step.work.wr_id == defect_at_) {
    Find(absl::StrCat("send ", step.work.wr_id, " ok in spite of its defect"));
  }
  if (!step.after.empty() && step.bytes != step.after) {
    Find(absl::StrCat("send ", step.work.wr_id, " has the wrong data"));
  }
}

// The first error is the defect's or, where answers may have been lost, that
// nothing was heard; all behind it is flushed, in order and without a gap.
void Stream::OnError(const WorkCompletion& completion) {
  const uint64_t wr_id = completion.wr_id;
  if (!options_.may_break) {
    Find(absl::StrCat("send ", wr_id, " failed with ", completion.status));
  }
  const bool flushed = completion.status == IBV_WC_WR_FLUSH_ERR;
  const bool of_defect =
      wr_id == defect_at_ && completion.status == StatusOf(options_.defect);
  const bool unheard = completion.status == IBV_WC_RETRY_EXC_ERR;
  if (!flushed && (broken_ || (!of_defect && !unheard))) {
    Find(absl::StrCat("send ", wr_id, " failed with ", completion.status));
  }
  for (; checked_ < wr_id; ++checked_) {
    if (broken_ || steps_[checked_].work.signaled) {
      Find(absl::StrCat("send ", checked_, " was passed over"));
    }
    CheckStep(steps_[checked_]);
  }
  checked_ = wr_id + 1;
  broken_ = true;
}

void Stream::OnReceiveCompleted(const WorkCompletion& completion,
                                const SimReceive* receive, bool in_order) {
  if (in_order && completion.wr_id != next_wr_id_++) {
    return Find(absl::StrCat("receive ", completion.wr_id, " out of order"));
  }
  if (completion.status != IBV_WC_SUCCESS) return OnReceiveError(completion);
  while (received_ < steps_.size() && !steps_[received_].uses_receive) {
    ++received_;
  }
  if (receive_broken_ || received_ == steps_.size()) {
    return Find(absl::StrCat("receive ", completion.wr_id, " out of nowhere"));
  }
  const Step& step = steps_[received_++];
  WorkCompletion expected = step.received;
  expected.wr_id = completion.wr_id;
  if (completion != expected) {
    Find(absl::StrCat("receive of send ", step.work.wr_id, " told it wrong"));
  }
  const size_t size = expected.opcode == IBV_WC_RECV ? step.bytes.size() : 0;
  const bool same = std::equal(step.bytes.begin(),
                               step.bytes.begin() + static_cast<long>(size),
                               receive->bytes.begin());
  const bool rest_untouched = std::all_of(
      receive->bytes.begin() + static_cast<long>(size), receive->bytes.end(),
      [](std::byte byte) { return byte == std::byte{0xcd}; });
  if (!same || !rest_untouched) {
    Find(absl::StrCat("receive of send ", step.work.wr_id, " has wrong data"));
  }
}

void Stream::OnReceiveError(const WorkCompletion& completion) {
  const bool flushed = completion.status == IBV_WC_WR_FLUSH_ERR;
  const bool of_defect = completion.status == ReceiveStatusOf(options_.defect);
  if (!options_.may_break || (!flushed && (receive_broken_ || !of_defect))) {
    Find(absl::StrCat("receive ", completion.wr_id, " failed with ",
                      completion.status));
  }
  receive_broken_ = true;
}

void Stream::CheckEnd(const SimMemory& memory) {
  // What is not signaled at the end says nothing.
  while (!broken_ && checked_ < steps_.size() &&
         !steps_[checked_].work.signaled) {
    CheckStep(steps_[checked_++]);
  }
  if (broken_ || options_.may_break) return;
  if (!finished()) Find(absl::StrCat("send ", checked_, " did not complete"));
  while (received_ < steps_.size() && !steps_[received_].uses_receive) {
    ++received_;
  }
  if (received_ < steps_.size()) {
    Find(absl::StrCat("send ", received_, " was not received"));
  }
  if (memory_ != model_) Find("the memory is not what it must be");
  if (memory.windows() != 0) Find("a window was not invalidated");
}

}  // namespace nd::soft

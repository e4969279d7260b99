#include "ndping/engine/pattern.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/byte_order.h"
#include "base/clock.h"

namespace nd::ndping {
namespace {

constexpr size_t kWord = sizeof(uint64_t);
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

// How long a message may take to settle once its last byte is there. After the
// first fault there is no point in waiting long for each.
constexpr auto kSettle = std::chrono::milliseconds(100);
constexpr auto kSettleAgain = std::chrono::milliseconds(1);

// The finalizer of splitmix64.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

constexpr uint64_t StreamOf(const PatternKey& key) {
  const uint64_t which = (uint64_t{key.phase} << 33) | (uint64_t{key.qp} << 1) |
                         (key.from_client ? 1 : 0);
  return Mix(Mix(which + kGolden) + key.sequence);
}

constexpr uint64_t WordOf(uint64_t stream, size_t index) {
  return Mix(stream + index * kGolden);
}

std::byte ByteOf(const PatternKey& key, size_t offset, size_t size) {
  if (offset + 1 == size) return LastByteOf(key);
  const uint64_t word = WordOf(StreamOf(key), offset / kWord);
  return static_cast<std::byte>(word >> 8 * (offset % kWord));
}

Mismatch DescribeByte(const PatternKey& key, std::span<const std::byte> message,
                      size_t offset) {
  return {.offset = offset,
          .found = message[offset],
          .expected = ByteOf(key, offset, message.size())};
}

std::string Hex(std::byte value) {
  return absl::StrCat(
      "0x", absl::Hex(std::to_integer<unsigned>(value), absl::kZeroPad2));
}

}  // namespace

std::byte LastByteOf(const PatternKey& key) {
  // Odd factors, so that neighbours differ.
  return static_cast<std::byte>(key.sequence + 1 + uint64_t{key.qp} * 37 +
                                uint64_t{key.phase} * 59 +
                                (key.from_client ? 113 : 0));
}

void FillPattern(const PatternKey& key, std::span<std::byte> out) {
  if (out.empty()) return;
  const uint64_t stream = StreamOf(key);
  const size_t words = out.size() / kWord;
  for (size_t i = 0; i < words; ++i) {
    StoreUint<std::endian::little>(out.subspan(i * kWord).first<kWord>(),
                                   WordOf(stream, i));
  }
  for (size_t i = words * kWord; i < out.size(); ++i) {
    out[i] = ByteOf(key, i, out.size());
  }
  out.back() = LastByteOf(key);
}

std::optional<Mismatch> FindMismatch(const PatternKey& key,
                                     std::span<const std::byte> message) {
  const uint64_t stream = StreamOf(key);
  // The last word holds the last byte, which is not of the stream.
  const size_t words = message.empty() ? 0 : (message.size() - 1) / kWord;
  size_t offset = 0;
  for (size_t i = 0; i < words; ++i, offset += kWord) {
    if (LoadUint<std::endian::little>(message.subspan(offset).first<kWord>()) !=
        WordOf(stream, i)) {
      break;
    }
  }
  for (; offset < message.size(); ++offset) {
    const Mismatch here = DescribeByte(key, message, offset);
    if (here.found != here.expected) return here;
  }
  return std::nullopt;
}

uint64_t AtomicValue(uint32_t qp, uint64_t count) {
  return Mix(uint64_t{qp} + kGolden) + count * kAtomicStep;
}

std::string DescribeMessage(const PatternKey& key) {
  return absl::StrCat("qp ", key.qp, ", message ", key.sequence);
}

void Verdict::Check(const PatternKey& key, std::span<const std::byte> message) {
  const auto wrong = FindMismatch(key, message);
  if (!wrong.has_value()) return Count("");
  Count(absl::StrCat(DescribeMessage(key), ", byte ", wrong->offset, ": ",
                     Hex(wrong->found), ", not ", Hex(wrong->expected)));
}

void Verdict::CheckSettling(const PatternKey& key,
                            std::span<const std::byte> message) {
  if (FindMismatch(key, message).has_value()) {
    const Deadline deadline =
        Deadline::After(mismatched_ == 0 ? Duration(kSettle) : kSettleAgain);
    while (FindMismatch(key, message).has_value() && !deadline.Passed()) {
      std::this_thread::yield();
    }
  }
  Check(key, message);
}

void Verdict::Count(absl::string_view what) {
  ++verified_;
  if (!what.empty()) AddFault(what);
}

void Verdict::AddFault(absl::string_view what) {
  if (mismatched_++ == 0) first_ = std::string(what);
}

void Verdict::AddTo(v1::PhaseReport& report) const {
  report.set_verified(verified_);
  report.set_mismatched(mismatched_);
  report.set_first_mismatch(first_);
}

}  // namespace nd::ndping

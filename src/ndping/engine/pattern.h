// What test messages are made of, and the judgement of what arrived.
#ifndef ND_NDPING_ENGINE_PATTERN_H_
#define ND_NDPING_ENGINE_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

// Which message: all of it decides each byte, so that a message that is stale,
// or of another QP, or one's own, does not pass for the right one.
struct PatternKey {
  uint32_t phase = 0;
  uint32_t qp = 0;
  bool from_client = false;
  uint64_t sequence = 0;  // of its QP and direction, from 0
};

// The last byte counts with the sequence: whoever watches memory for a message
// sees that byte change with each one.
std::byte LastByteOf(const PatternKey& key);

// Fills `out` with the message of that length. The bytes do not depend on the
// machine.
void FillPattern(const PatternKey& key, std::span<std::byte> out);

struct Mismatch {
  size_t offset = 0;  // of the first wrong byte
  std::byte found{};
  std::byte expected{};
  bool operator==(const Mismatch&) const = default;
};

// The first byte that is not as FillPattern makes it.
std::optional<Mismatch> FindMismatch(const PatternKey& key,
                                     std::span<const std::byte> message);

// The value of a QP's atomic counter after `count` operations on it.
uint64_t AtomicValue(uint32_t qp, uint64_t count);
inline constexpr uint64_t kAtomicStep = 0x9E3779B97F4A7C15;

// Counts the messages that were checked and keeps the first fault. One thread.
class Verdict {
 public:
  void Check(const PatternKey& key, std::span<const std::byte> message);

  // The same where the message may still be on its way: IBA does not promise
  // the order of the bytes inside a message (9.5), so one whose last byte is
  // there counts as wrong only when it stays wrong for a while.
  void CheckSettling(const PatternKey& key, std::span<const std::byte> message);

  // `what` is the fault of a message; none if it is empty.
  void Count(absl::string_view what);

  // A fault that is not of one message.
  void AddFault(absl::string_view what);

  uint64_t mismatched() const { return mismatched_; }
  void AddTo(v1::PhaseReport& report) const;

 private:
  uint64_t verified_ = 0;
  uint64_t mismatched_ = 0;
  std::string first_;
};

// "qp 0, message 17"
std::string DescribeMessage(const PatternKey& key);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_PATTERN_H_

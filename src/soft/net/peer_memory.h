// The memory of another process of the host, which lends parts of it.
#ifndef ND_SOFT_NET_PEER_MEMORY_H_
#define ND_SOFT_NET_PEER_MEMORY_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// Payload that is lent: its place in the lender's memory, and that of the word
// which says that it still is (LoanWord).
struct Loan {
  static constexpr size_t kSize = 32;

  uint64_t address = 0;
  uint64_t length = 0;
  uint64_t word_address = 0;
  uint64_t word = 0;

  static Loan Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Loan&) const = default;
};

// What ptrace(2) may read, process_vm_readv(2) may: by default a process of the
// same user. A security module may forbid it.
class PeerMemory {
 public:
  explicit PeerMemory(pid_t pid) : pid_(pid) {}

  enum class Fetched : uint8_t {
    kAll,
    kNoMoreLent,   // and what the pieces hold means nothing
    kUnreachable,  // the same, and it will be the next time
  };
  // `pieces` are as long together as the loan.
  Fetched Fetch(const Loan& loan,
                std::span<const std::span<std::byte>> pieces) const;
  // Whether that number lies at that address.
  bool Holds(uint64_t address, uint64_t number) const;

 private:
  pid_t pid_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_PEER_MEMORY_H_

#include "soft/net/peer_memory.h"

#include <sys/uio.h>

#include "absl/container/inlined_vector.h"

namespace nd::soft {
namespace {

iovec There(uint64_t address, size_t length) {
  return {.iov_base = reinterpret_cast<void*>(address), .iov_len = length};
}

}  // namespace

Loan Loan::Read(ByteReader& reader) {
  return {.address = reader.ReadBe64(),
          .length = reader.ReadBe64(),
          .word_address = reader.ReadBe64(),
          .word = reader.ReadBe64()};
}

void Loan::Write(ByteWriter& writer) const {
  writer.WriteBe64(address);
  writer.WriteBe64(length);
  writer.WriteBe64(word_address);
  writer.WriteBe64(word);
}

// The word comes last: if it is still what it was, so were the bytes when they
// were read. It also tells the lender from a later process with its pid.
PeerMemory::Fetched PeerMemory::Fetch(
    const Loan& loan, std::span<const std::span<std::byte>> pieces) const {
  uint64_t word = 0;
  absl::InlinedVector<iovec, 8> here;
  for (const std::span<std::byte> piece : pieces) {
    here.push_back({.iov_base = piece.data(), .iov_len = piece.size()});
  }
  here.push_back({.iov_base = &word, .iov_len = sizeof(word)});
  const iovec there[] = {There(loan.address, loan.length),
                         There(loan.word_address, sizeof(word))};
  const ssize_t bytes = process_vm_readv(pid_, here.data(), here.size(), there,
                                         std::size(there), 0);
  if (bytes != static_cast<ssize_t>(loan.length + sizeof(word))) {
    return Fetched::kUnreachable;
  }
  return word == loan.word ? Fetched::kAll : Fetched::kNoMoreLent;
}

bool PeerMemory::Holds(uint64_t address, uint64_t number) const {
  uint64_t found = 0;
  const iovec here = {.iov_base = &found, .iov_len = sizeof(found)};
  const iovec there = There(address, sizeof(found));
  return process_vm_readv(pid_, &here, 1, &there, 1, 0) == sizeof(found) &&
         found == number;
}

}  // namespace nd::soft

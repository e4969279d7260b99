// What an application asks of a queue pair, and what it gets back.
#ifndef ND_SOFT_RC_WORK_H_
#define ND_SOFT_RC_WORK_H_

#include <infiniband/verbs.h>

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "soft/rc/segments.h"
#include "soft/wire/opcode.h"
#include "soft/wire/serial.h"

namespace nd::soft {

inline constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 31;

enum class Operation : uint8_t {
  kSend,
  kWrite,
  kRead,
  kCompareSwap,
  kFetchAdd,
  kLocal,  // concerns this side only: binds a window, invalidates a key
};

// READs and atomics: their answers bring data, and they count against the
// depth agreed with the peer.
constexpr bool IsAnswered(Operation operation) {
  return operation == Operation::kRead ||
         operation == Operation::kCompareSwap ||
         operation == Operation::kFetchAdd;
}

// Whether a work's segments lie in memory that was just taken away.
using NamesMemory = absl::FunctionRef<bool(Segments)>;

// Whether a key is one of those asked for.
using NamesKey = absl::FunctionRef<bool(Rkey)>;

// What Operation::kLocal does when its turn comes.
class LocalAction {
 public:
  virtual ~LocalAction() = default;
  virtual ibv_wc_status Run() = 0;
};

// Where a UD message goes. `route` means something to the Outbox only.
struct DatagramAddress {
  Qpn destination{};
  Qkey qkey{};
  uint64_t route = 0;
};

// A send work request. The segments, and the memory they name, are the caller's
// and stay until the work has left the queue; inline data is memory of the
// caller's like any other.
struct SendWork {
  uint64_t wr_id = 0;
  Operation operation = Operation::kSend;
  ibv_wc_opcode wc_opcode = IBV_WC_SEND;
  bool signaled = false;
  bool fence = false;
  bool solicited = false;
  Ending ending = Ending::kPlain;  // of SEND and WRITE
  uint32_t immediate = 0;          // as ImmDt has it
  Rkey invalidate{};
  // Anything but success: the caller found the segments out of bounds or the
  // key wrong. The work fails so when its turn comes.
  ibv_wc_status fault = IBV_WC_SUCCESS;
  Segments segments{};  // gathered, or filled by READ and atomics

  uint64_t remote_address = 0;
  Rkey rkey{};
  uint64_t compare = 0;
  uint64_t swap_or_add = 0;

  DatagramAddress address{};      // UD
  LocalAction* action = nullptr;  // kLocal
};

// A receive. The segments are the caller's and stay until its completion.
struct ReceiveWork {
  uint64_t wr_id = 0;
  ibv_wc_status fault = IBV_WC_SUCCESS;  // as in SendWork
  Segments segments{};
};

struct WorkCompletion {
  uint64_t wr_id = 0;
  ibv_wc_status status = IBV_WC_SUCCESS;
  ibv_wc_opcode opcode = IBV_WC_SEND;
  uint32_t byte_len = 0;
  Ending ending = Ending::kPlain;  // of a receive: what it brought besides data
  uint32_t immediate = 0;
  Rkey invalidated{};
  Qpn source{};  // UD receives
  bool solicited = false;

  bool operator==(const WorkCompletion&) const = default;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_WORK_H_

// Service id resolution: which datagram QP is behind an address
// (IBA vol. 1, ch. 12, SIDR).
#ifndef ND_SOFT_CM_SIDR_H_
#define ND_SOFT_CM_SIDR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "soft/cm/commands.h"
#include "soft/cm/deadline_queue.h"
#include "soft/cm/events.h"

namespace nd::soft {

enum class SidrStatus : uint8_t {
  kSuccess = 0,
  kUnsupported = 1,  // nobody listens
  kReject = 2,
};

// The look-ups of a device: its own, repeated until they are answered, and
// those it was asked. An answer is kept for a while and given again to who
// repeats his question. One thread at a time.
class SidrTable {
 public:
  struct Question {
    CmHandle handle{};  // new
    CmHandle listener{};
    const CmSidrReq& req;
    CmEndpoints endpoints{};
    const CmDatagram& datagram;
  };

  // `request_id` is free.
  absl::Status Resolve(CmHandle handle, CommId request_id,
                       const SidrResolveOptions& options, CmTurn& turn);
  absl::Status Accept(CmHandle handle, const SidrAcceptOptions& options,
                      CmTurn& turn);
  absl::Status Reject(CmHandle handle, PrivateDataView private_data,
                      CmTurn& turn);
  // A question that waits for its answer is refused.
  void Destroy(CmHandle handle, CmTurn& turn);

  // Whether the question is known; if it has an answer, it gets that again.
  bool HandleReqAgain(const CmSidrReq& req, const CmDatagram& datagram,
                      CmTurn& turn);
  void HandleReq(const Question& question, CmTurn& turn);
  void HandleRep(const CmSidrRep& rep, const CmDatagram& datagram,
                 CmTurn& turn);
  void HandleTimeouts(CmTurn& turn);

  bool Contains(CmHandle handle) const;
  bool InUse(CommId request_id) const { return queries_.contains(request_id); }
  size_t size() const { return lookups_.size(); }
  std::optional<Instant> NextDeadline() const { return deadlines_.Next(); }

 private:
  // Who asked, by the number it gave the question.
  struct Asker {
    Gid ip{};
    CommId request_id{};

    bool operator==(const Asker&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Asker& key) {
      return H::combine(std::move(h), key.ip, key.request_id);
    }
  };
  struct Query {
    CommId request_id{};
    CmDatagram repeated{};
    int retries_left = 0;
  };
  struct Inquiry {
    Asker asker{};
    uint64_t service_id = 0;
    CmDatagram answer{};  // its message is a SIDR_REP once `answered`
    bool answered = false;
    bool abandoned = false;
  };

  Inquiry* FindOpen(CmHandle handle);
  void Answer(CmHandle handle, Inquiry& inquiry, CmSidrRep rep, CmTurn& turn);
  void HandleTimeout(CmHandle handle, CmTurn& turn);
  void Repeat(CmHandle handle, Query& query, CmTurn& turn);
  void Forget(CmHandle handle, Inquiry& inquiry);
  void Finish(CmHandle handle, CommId request_id);

  // monostate: over, but not destroyed yet.
  using Lookup = std::variant<std::monostate, Query, Inquiry>;

  absl::flat_hash_map<CmHandle, Lookup> lookups_;
  absl::flat_hash_map<CommId, CmHandle> queries_;
  absl::flat_hash_map<Asker, CmHandle> inquiries_;
  DeadlineQueue<CmHandle> deadlines_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_SIDR_H_

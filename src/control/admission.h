// The rule by which a listener lets a connection request in.
#ifndef ND_CONTROL_ADMISSION_H_
#define ND_CONTROL_ADMISSION_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "control/token.h"

namespace nd::control {

// The invitations that are out, and what becomes of a request. No listener, no
// clock: private data and `now` come in, a decision goes out. One thread at a
// time.
class Admission {
 public:
  struct Options {
    // An invitation expires this long after it was given, or after the last
    // request that it let in: a long test connects for as long as it takes.
    Duration token_lifetime = std::chrono::seconds(30);
    size_t max_invitations = 1024;
  };
  using Id = uint64_t;

  struct Admitted {
    Id invitation = 0;
    uint32_t index = 0;
    bool operator==(const Admitted&) const = default;
  };
  using Decision = std::variant<Admitted, RejectReason>;

  explicit Admission(const Options& options) : options_(options) {}

  // Whoever shows `token` may make `connections` connections, each index once.
  // RESOURCE_EXHAUSTED names the limit.
  absl::StatusOr<Id> Invite(const Token& token, uint32_t connections,
                            Instant now);
  void Withdraw(Id invitation) { invitations_.erase(invitation); }

  // Nobody is invited or let in any more.
  void Close() { closed_ = true; }

  // What to do with a request that has this private data. An index that was
  // let in once is not let in again.
  Decision Decide(std::span<const std::byte> private_data, Instant now);

 private:
  struct Invitation {
    Token token;
    Instant expires;
    std::vector<bool> used;  // by index
  };
  using Map = std::map<Id, Invitation>;

  Map::iterator Find(const Token& token);

  const Options options_;
  Map invitations_;
  Id next_id_ = 1;
  bool closed_ = false;
};

}  // namespace nd::control

#endif  // ND_CONTROL_ADMISSION_H_

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

  // A request that is let in by its index (ConnectHello) ...
  struct Admitted {
    Id invitation = 0;
    uint32_t index = 0;
    bool operator==(const Admitted&) const = default;
  };
  // ... or as a session's link (LinkHello).
  struct AdmittedLink {
    uint64_t session = 0;
    LinkId link;
    bool operator==(const AdmittedLink&) const = default;
  };
  using Decision = std::variant<Admitted, AdmittedLink, RejectReason>;

  explicit Admission(const Options& options) : options_(options) {}

  // Whoever shows `token` may make `connections` connections, each index once.
  // RESOURCE_EXHAUSTED names the limit.
  absl::StatusOr<Id> Invite(const Token& token, uint32_t connections,
                            Instant now);
  void Withdraw(Id invitation) { invitations_.erase(invitation); }

  // Whoever shows `token` may make these links of the session, each once. Links
  // of these numbers that earlier tokens of the session would let in are void
  // now. The invitation need not be withdrawn: those that are used up or
  // expired make room. RESOURCE_EXHAUSTED names the limit.
  absl::Status InviteLinks(const Token& token, uint64_t session,
                           std::span<const LinkId> links, Instant now);
  // No token lets anybody into that session any more.
  void WithdrawLinks(uint64_t session);

  // Nobody is invited or let in any more.
  void Close() { closed_ = true; }

  // What to do with a request that has this private data. What was let in once
  // is not let in again.
  Decision Decide(std::span<const std::byte> private_data, Instant now);

  Duration token_lifetime() const { return options_.token_lifetime; }

 private:
  struct Link {
    LinkId id;
    bool used = false;
    bool superseded = false;  // a later token is out
  };
  // Either by index or for a session's links.
  struct Invitation {
    Token token;
    Instant expires;
    std::vector<bool> used = {};  // by index
    uint64_t session = 0;
    std::vector<Link> links = {};

    bool SpentLinks(Instant now) const;
  };
  using Map = std::map<Id, Invitation>;

  absl::Status MakeRoom(Instant now);
  Map::iterator Find(const Token& token, Instant now);
  Decision DecideIndex(const ConnectHello& hello, Instant now);
  Decision DecideLink(const LinkHello& hello, Instant now);

  const Options options_;
  Map invitations_;
  Id next_id_ = 1;
  bool closed_ = false;
};

}  // namespace nd::control

#endif  // ND_CONTROL_ADMISSION_H_

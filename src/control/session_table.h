// The sessions of a server: who may open one, which links it has had, what was
// published.
#ifndef ND_CONTROL_SESSION_TABLE_H_
#define ND_CONTROL_SESSION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/random.h"
#include "control/session.h"
#include "control/token.h"

namespace nd::control {

// The payload of a refusal whose reason is about to pass, and its name in the
// trailing metadata of the call.
inline constexpr absl::string_view kTryAgain = "nd-try-again";

// The regions of one owner by name. One thread at a time.
class RegionTable {
 public:
  explicit RegionTable(size_t max_regions) : max_regions_(max_regions) {}

  // ALREADY_EXISTS, RESOURCE_EXHAUSTED; INVALID_ARGUMENT as CheckRegion.
  absl::Status Publish(absl::string_view name, const Region& region);
  // NOT_FOUND names it.
  absl::StatusOr<Region> Find(absl::string_view name) const;
  absl::StatusOr<Region> Withdraw(absl::string_view name);

 private:
  size_t max_regions_;
  std::map<std::string, Region, std::less<>> regions_;
};

// No gRPC, no clock: what is asked and `now` come in. One thread at a time.
class SessionTable {
 public:
  struct Options {
    size_t max_sessions = 4096;
    // Sessions whose links are not all made; each costs the host handshakes.
    size_t max_set_ups = 64;
    size_t max_regions = 1024;  // of each side of a session
  };

  struct Session {
    std::string client;  // for the log
    Token secret;
    SessionLayout layout;
    bool open = false;    // the host knows it
    bool set_up = false;  // every link was exchanged once
    RegionTable of_client{0};
    RegionTable of_server{0};  // for this session alone

   private:
    friend class SessionTable;
    enum class Exchange { kNone, kUnderWay, kDone };
    struct Link {
      uint32_t incarnation = 0;
      Exchange exchange = Exchange::kNone;
      bool was_made = false;
    };
    std::vector<Link> links;
    Duration patience{};
    Instant set_up_by;
  };

  explicit SessionTable(const Options& options) : options_(options) {}

  // A new session, with a new id. RESOURCE_EXHAUSTED names the limit, with
  // payload kTryAgain for that of set-ups.
  absl::StatusOr<uint64_t> Begin(absl::string_view client, const Token& secret,
                                 const SessionLayout& layout, Random& random);
  // The host has it. Its set-up now has `patience`, and again after each
  // exchange.
  void Opened(uint64_t id, Duration patience, Instant now);
  std::optional<Session> Remove(uint64_t id);

  // Null: not known.
  Session* Find(uint64_t id);
  // NOT_FOUND, in the same words, when it is not known, not open yet, or has
  // another secret.
  absl::StatusOr<Session*> Find(uint64_t id, const Token& secret);

  static std::vector<LinkId> AllLinks(const Session& session);
  // The links of these numbers with their next incarnations.
  // INVALID_ARGUMENT: none, one twice, or one that the layout does not have.
  static absl::StatusOr<std::vector<LinkId>> Reconnect(
      Session& session, std::span<const uint32_t> numbers);

  // An exchange of a link begins: FAILED_PRECONDITION when it is another's turn
  // or was exchanged; INVALID_ARGUMENT when there is no such link.
  static absl::Status BeginExchange(Session& session, LinkId link);
  // It has ended, if the session and that incarnation are still there.
  void EndExchange(uint64_t id, LinkId link, bool ok, Instant now);

  // Sessions whose set-up takes too long.
  std::vector<uint64_t> Late(Instant now) const;

  std::vector<uint64_t> ids() const;
  size_t size() const { return sessions_.size(); }
  size_t set_ups() const { return set_ups_; }
  bool full() const { return set_ups_ >= options_.max_set_ups; }

 private:
  const Options options_;
  std::map<uint64_t, Session> sessions_;
  size_t set_ups_ = 0;  // sessions that are not set_up
};

}  // namespace nd::control

#endif  // ND_CONTROL_SESSION_TABLE_H_

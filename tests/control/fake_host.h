// A SessionHost and a LinkInviter without RDMA.
#ifndef ND_TESTS_CONTROL_FAKE_HOST_H_
#define ND_TESTS_CONTROL_FAKE_HOST_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/status.h"
#include "control/admission.h"
#include "control/session_service.h"

namespace nd::control {

// What a listener does, by calls. Thread-safe.
class FakeInviter final : public LinkInviter {
 public:
  explicit FakeInviter(const Clock& clock, size_t max_invitations = 1024)
      : clock_(clock),
        admission_({.token_lifetime = std::chrono::seconds(30),
                    .max_invitations = max_invitations}) {}

  absl::StatusOr<LinkPass> InviteLinks(uint64_t session,
                                       std::span<const LinkId> links) override {
    MutexLock lock(&mutex_);
    const Token token = Token::Generate(random_);
    ND_RETURN_IF_ERROR(
        admission_.InviteLinks(token, session, links, clock_.Now()));
    return LinkPass{.endpoint = endpoint,
                    .token = token,
                    .token_lifetime = admission_.token_lifetime(),
                    .links = {links.begin(), links.end()}};
  }
  void WithdrawLinks(uint64_t session) override {
    MutexLock lock(&mutex_);
    admission_.WithdrawLinks(session);
  }

  // A REQ that carries this: "let in", or why not.
  std::string Connect(const Token& token, uint64_t session, LinkId link) {
    const LinkHello hello{.token = token, .session = session, .link = link};
    MutexLock lock(&mutex_);
    const Admission::Decision decision =
        admission_.Decide(hello.Encode(), clock_.Now());
    if (std::holds_alternative<Admission::AdmittedLink>(decision)) {
      return "let in";
    }
    return std::string(ToString(std::get<RejectReason>(decision)));
  }

  verbs::SocketAddress endpoint =
      *verbs::SocketAddress::Parse("10.98.0.1", 7471);

 private:
  const Clock& clock_;
  absl::Mutex mutex_;
  SeededRandom random_ ABSL_GUARDED_BY(mutex_){7};
  Admission admission_ ABSL_GUARDED_BY(mutex_);
};

// Keeps what it was told, and answers as it was told to. Thread-safe.
class FakeHost final : public SessionHost {
 public:
  using OpenDone = std::function<void(absl::Status)>;
  using ExchangeDone = std::function<void(absl::StatusOr<LinkLayout>)>;

  // What it does with Open and ExchangeLayout; set before the server starts.
  std::function<void(const Opening&, OpenDone)> on_open =
      [](const Opening&, const OpenDone& done) { done(absl::OkStatus()); };
  std::function<void(const LinkLayout&, ExchangeDone)> on_exchange =
      [](const LinkLayout& client, const ExchangeDone& done) { done(client); };
  absl::Status reconnect;

  void Open(const Opening& opening, OpenDone done) override {
    Tell("open ", opening.client_name, " v", opening.version, " with ",
         opening.layout.links(), " links");
    on_open(opening, std::move(done));
  }
  void ExchangeLayout(uint64_t, LinkId link, const LinkLayout& client,
                      ExchangeDone done) override {
    Tell("exchange ", link.number, ".", link.incarnation);
    on_exchange(client, std::move(done));
  }
  absl::Status Reconnect(uint64_t, std::span<const LinkId> links) override {
    for (const LinkId& link : links) {
      Tell("reconnect ", link.number, ".", link.incarnation);
    }
    return reconnect;
  }
  void RegionPublished(uint64_t, absl::string_view name,
                       const Region& region) override {
    Tell("published ", name, " of ", region.size);
  }
  void RegionWithdrawn(uint64_t, absl::string_view name,
                       const Region& region) override {
    Tell("withdrawn ", name, " of ", region.size);
  }
  void Closed(uint64_t, const absl::Status& why) override {
    Tell("closed: ", why.ToString());
  }

  std::vector<std::string> told() const {
    MutexLock lock(&mutex_);
    return told_;
  }

 private:
  template <typename... Parts>
  void Tell(const Parts&... parts) {
    MutexLock lock(&mutex_);
    told_.push_back(absl::StrCat(parts...));
  }

  mutable absl::Mutex mutex_;
  std::vector<std::string> told_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::control

#endif  // ND_TESTS_CONTROL_FAKE_HOST_H_

// Regions: those that a session's application has published, and those of the
// peer's that it has looked up.
#ifndef ND_API_REGIONS_H_
#define ND_API_REGIONS_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "api/workers.h"
#include "base/clock.h"
#include "control/session.h"
#include "nd/region.h"
#include "transport/memory/registrar.h"

namespace nd::api {

class SessionImpl;

// Where the control plane keeps the regions of a session, by name. Thread-safe;
// the calls block.
class RegionDirectory {
 public:
  virtual ~RegionDirectory() = default;
  // The region's id.
  virtual absl::StatusOr<uint64_t> Publish(absl::string_view name,
                                           const control::Region& region,
                                           const Deadline& deadline) = 0;
  virtual absl::Status Withdraw(absl::string_view name,
                                const Deadline& deadline) = 0;
  // One of the peer's.
  virtual absl::StatusOr<control::Region> Lookup(absl::string_view name,
                                                 const Deadline& deadline) = 0;
};

// Regions of the peer's that are in use here. Thread-safe.
class PeerRegions {
 public:
  // Asks for it. The same for the same id, for as long as anybody has it;
  // NOT_FOUND, too, where it is withdrawn before there is an answer.
  absl::StatusOr<RemoteRegion> Lookup(RegionDirectory& directory,
                                      absl::string_view name,
                                      const Deadline& deadline);
  // Whether anybody has it.
  bool Withdrawn(uint64_t id);
  // Asks for each that anybody has; the names of those that are not what they
  // were. One that cannot be asked for stays.
  std::vector<std::string> FindWithdrawn(RegionDirectory& directory,
                                         const Deadline& deadline);

 private:
  struct Known {
    std::string name;
    std::weak_ptr<transport::PeerRegion> region;
  };

  RemoteRegion Get(absl::string_view name, const control::Region& region)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  // Of each Lookup that waits: what was withdrawn meanwhile. The word of that
  // and the answer may come in either order.
  std::list<std::set<uint64_t>> lookups_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Known> regions_ ABSL_GUARDED_BY(mutex_);
};

// A region of this side's. One thread at a time.
class PublishedRegion {
 public:
  static absl::StatusOr<std::shared_ptr<PublishedRegion>> Publish(
      std::shared_ptr<SessionImpl> session, absl::string_view name,
      std::span<std::byte> memory, const RegionAccess& access,
      const Deadline& deadline);
  // Withdraws it; the peer is told by another thread.
  ~PublishedRegion();
  PublishedRegion(const PublishedRegion&) = delete;
  PublishedRegion& operator=(const PublishedRegion&) = delete;

  const std::string& name() const { return name_; }
  uint64_t id() const { return id_; }
  absl::Status Withdraw(const Deadline& deadline);

 private:
  PublishedRegion(std::shared_ptr<SessionImpl> session, absl::string_view name)
      : session_(std::move(session)), name_(name) {}

  const std::shared_ptr<SessionImpl> session_;
  const std::string name_;
  uint64_t id_ = 0;
  std::unique_ptr<transport::Registration> registration_;
};

}  // namespace nd::api

#endif  // ND_API_REGIONS_H_

// Memory that a session's peers access without asking.
#ifndef ND_REGION_H_
#define ND_REGION_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace nd {

namespace api {
class PublishedRegion;
}  // namespace api

// What the peer may do.
struct RegionAccess {
  bool read = true;
  bool write = false;
  bool atomic = false;  // FetchAdd and CompareSwap
};

namespace transport {

// Memory of the peer's, as it has told of it.
struct PeerRegion {
  uint64_t id = 0;
  uint64_t address = 0;
  uint64_t size = 0;  // bytes
  uint32_t rkey = 0;
  RegionAccess access{};
  std::atomic<bool> withdrawn{false};
};

}  // namespace transport

// Memory that this side has published (Session::Publish), until it is withdrawn
// or this is destroyed: then the device lets the peer in no more, and the
// memory may be freed. It belongs to its session, which it keeps alive.
class Region {
 public:
  Region() = default;  // of nothing
  Region(Region&&) noexcept = default;
  Region& operator=(Region&& other) noexcept;
  ~Region();

  explicit operator bool() const { return impl_ != nullptr; }
  const std::string& name() const;
  uint64_t id() const;  // that a Notification names it by

  // A peer that still accesses it loses a connection by that, and its operation
  // ends with PERMISSION_DENIED; one that was told in time starts none.
  // An error says that it was not told; the memory is free all the same.
  absl::Status Withdraw(std::chrono::nanoseconds timeout);

  // Of nd's own rooms.
  explicit Region(std::shared_ptr<api::PublishedRegion> impl);

 private:
  std::shared_ptr<api::PublishedRegion> impl_;
};

// Memory that the peer has published (Session::Lookup). Copies name the same.
class RemoteRegion {
 public:
  RemoteRegion() = default;  // of nothing
  // Of nd's own rooms.
  explicit RemoteRegion(std::shared_ptr<transport::PeerRegion> region)
      : region_(std::move(region)) {}

  explicit operator bool() const { return region_ != nullptr; }
  uint64_t size() const { return region_->size; }  // bytes
  const RegionAccess& access() const { return region_->access; }
  // The peer has taken it back: operations on it end with NOT_FOUND.
  bool withdrawn() const {
    return region_->withdrawn.load(std::memory_order_relaxed);
  }
  const transport::PeerRegion* get() const { return region_.get(); }

 private:
  std::shared_ptr<transport::PeerRegion> region_;
};

// The word of a peer that it has written into a region of this side's
// (Stream::WriteWithImmediate). What the peer says: look at it before you use
// it.
struct Notification {
  uint64_t region = 0;  // Region::id
  uint64_t offset = 0;  // in it, bytes
  uint64_t size = 0;    // bytes
  uint32_t immediate = 0;
};

}  // namespace nd

#endif  // ND_REGION_H_

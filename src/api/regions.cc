#include "api/regions.h"

#include <infiniband/verbs.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "api/session_impl.h"
#include "base/log.h"
#include "base/status.h"

namespace nd::api {
namespace {

constexpr Duration kWithdrawTime = std::chrono::seconds(10);

unsigned VerbsAccess(const RegionAccess& access) {
  unsigned flags = 0;
  if (access.read) flags |= IBV_ACCESS_REMOTE_READ;
  if (access.write) flags |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
  if (access.atomic) {
    flags |= IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_LOCAL_WRITE;
  }
  return flags;
}

}  // namespace

absl::StatusOr<RemoteRegion> PeerRegions::Lookup(RegionDirectory& directory,
                                                 absl::string_view name,
                                                 const Deadline& deadline) {
  std::list<std::set<uint64_t>>::iterator withdrawn;
  {
    const absl::MutexLock lock(&mutex_);
    withdrawn = lookups_.emplace(lookups_.end());
  }
  const absl::StatusOr<control::Region> found =
      directory.Lookup(name, deadline);
  const absl::MutexLock lock(&mutex_);
  const std::set<uint64_t> gone = std::move(*withdrawn);
  lookups_.erase(withdrawn);
  ND_RETURN_IF_ERROR(found.status());
  if (gone.contains(found->id)) {
    return absl::NotFoundError(
        absl::StrCat("region \"", name, "\": it was withdrawn just now"));
  }
  return Get(name, *found);
}

RemoteRegion PeerRegions::Get(absl::string_view name,
                              const control::Region& region) {
  absl::erase_if(regions_,
                 [](const auto& each) { return each.second.region.expired(); });
  Known& known = regions_[region.id];
  if (auto same = known.region.lock()) return RemoteRegion(std::move(same));
  auto found = std::make_shared<transport::PeerRegion>();
  found->id = region.id;
  found->address = region.address;
  found->size = region.size;
  found->rkey = region.rkey;
  found->access = {.read = region.access.read,
                   .write = region.access.write,
                   .atomic = region.access.atomic};
  known = {.name = std::string(name), .region = found};
  return RemoteRegion(std::move(found));
}

bool PeerRegions::Withdrawn(uint64_t id) {
  const absl::MutexLock lock(&mutex_);
  for (std::set<uint64_t>& each : lookups_) each.insert(id);
  const auto found = regions_.find(id);
  if (found == regions_.end()) return false;
  const auto region = found->second.region.lock();
  if (region == nullptr) return false;
  region->withdrawn.store(true, std::memory_order_relaxed);
  return true;
}

std::vector<std::string> PeerRegions::FindWithdrawn(RegionDirectory& directory,
                                                    const Deadline& deadline) {
  std::vector<std::pair<uint64_t, std::string>> asked;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [id, known] : regions_) {
      const auto region = known.region.lock();
      if (region != nullptr && !region->withdrawn) {
        asked.emplace_back(id, known.name);
      }
    }
  }
  std::vector<std::string> withdrawn;
  for (auto& [id, name] : asked) {
    const absl::StatusOr<control::Region> found =
        directory.Lookup(name, deadline);
    const bool gone =
        found.ok() ? found->id != id : absl::IsNotFound(found.status());
    if (gone && Withdrawn(id)) withdrawn.push_back(std::move(name));
  }
  return withdrawn;
}

absl::StatusOr<std::shared_ptr<PublishedRegion>> PublishedRegion::Publish(
    std::shared_ptr<SessionImpl> session, absl::string_view name,
    std::span<std::byte> memory, const RegionAccess& access,
    const Deadline& deadline) {
  const std::shared_ptr<PublishedRegion> region(
      new PublishedRegion(std::move(session), name));
  control::Region its{
      .address = reinterpret_cast<uintptr_t>(memory.data()),
      .size = memory.size(),
      .access = {
          .read = access.read, .write = access.write, .atomic = access.atomic}};
  ND_RETURN_IF_ERROR(control::CheckRegion(name, its));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<transport::Registration> registration,
                      region->session_->runtime()->registrar()->Register(
                          memory, VerbsAccess(access)));
  its.rkey = registration->keys().rkey;
  ND_ASSIGN_OR_RETURN(
      region->id_, region->session_->directory().Publish(name, its, deadline));
  region->registration_ = std::move(registration);
  return region;
}

absl::Status PublishedRegion::Withdraw(const Deadline& deadline) {
  if (registration_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("region ", name_, " was withdrawn"));
  }
  absl::Status told;
  ND_RETURN_IF_ERROR(Blocking(session_->engine(), [&] {
    // Told first, a peer that listens starts nothing that would be refused.
    told = session_->directory().Withdraw(name_, deadline);
  }));
  registration_.reset();
  return Annotate(told, session_->name());
}

PublishedRegion::~PublishedRegion() {
  if (registration_ == nullptr) return;
  registration_.reset();
  Workers::OfProcess().Run(
      [hold = session_->hub().Hold(), session = session_, name = name_] {
        const absl::Status told =
            session->directory().Withdraw(name, Deadline::After(kWithdrawTime));
        if (!told.ok()) ND_LOG(kDebug, session->name(), ": ", told.ToString());
      });
}

}  // namespace nd::api

namespace nd {

Region::Region(std::shared_ptr<api::PublishedRegion> impl)
    : impl_(std::move(impl)) {}
Region::~Region() = default;
Region& Region::operator=(Region&& other) noexcept = default;

const std::string& Region::name() const { return impl_->name(); }
uint64_t Region::id() const { return impl_->id(); }

absl::Status Region::Withdraw(std::chrono::nanoseconds timeout) {
  return impl_->Withdraw(Deadline::After(timeout));
}

}  // namespace nd

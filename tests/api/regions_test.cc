#include "api/regions.h"

#include <gtest/gtest.h>

#include <functional>

namespace nd::api {
namespace {

// Has one region, and does something else before it says so.
class Directory final : public RegionDirectory {
 public:
  explicit Directory(std::function<void()> meanwhile)
      : meanwhile_(std::move(meanwhile)) {}

  absl::StatusOr<uint64_t> Publish(absl::string_view, const control::Region&,
                                   const Deadline&) override {
    return absl::UnimplementedError("");
  }
  absl::Status Withdraw(absl::string_view, const Deadline&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<control::Region> Lookup(absl::string_view,
                                         const Deadline&) override {
    meanwhile_();
    if (id == 0) return absl::NotFoundError("");
    return control::Region{.id = id, .size = 100, .access = {}};
  }

  uint64_t id = 7;  // 0: there is none

 private:
  const std::function<void()> meanwhile_;
};

TEST(PeerRegions, ARegionThatIsInUseIsTheSameForAllAndIsMarked) {
  PeerRegions regions;
  Directory directory([] {});
  const auto first = regions.Lookup(directory, "table", Deadline::After({}));
  const auto second = regions.Lookup(directory, "table", Deadline::After({}));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->get(), second->get());
  EXPECT_FALSE(regions.Withdrawn(8));
  EXPECT_FALSE(first->withdrawn());
  EXPECT_TRUE(regions.Withdrawn(7));
  EXPECT_TRUE(first->withdrawn());
}

TEST(PeerRegions, OneThatNobodyHasAnyMoreIsNotInUse) {
  PeerRegions regions;
  Directory directory([] {});
  ASSERT_TRUE(regions.Lookup(directory, "table", Deadline::After({})).ok());
  EXPECT_FALSE(regions.Withdrawn(7));
}

TEST(PeerRegions, WhatIsNotWhatItWasWasWithdrawn) {
  for (const uint64_t now : {0, 7, 8}) {
    PeerRegions regions;
    Directory directory([] {});
    const auto region = regions.Lookup(directory, "table", Deadline::After({}));
    ASSERT_TRUE(region.ok());
    directory.id = now;
    const auto gone = regions.FindWithdrawn(directory, Deadline::After({}));
    EXPECT_EQ(gone.size(), now == 7 ? 0u : 1u);
    EXPECT_EQ(region->withdrawn(), now != 7);
    EXPECT_TRUE(regions.FindWithdrawn(directory, Deadline::After({})).empty());
  }
}

TEST(PeerRegions, AWithdrawalOvertakesTheAnswerThatFoundTheRegion) {
  PeerRegions regions;
  Directory directory([&regions] { EXPECT_FALSE(regions.Withdrawn(7)); });
  const absl::Status found =
      regions.Lookup(directory, "table", Deadline::After({})).status();
  EXPECT_TRUE(absl::IsNotFound(found)) << found;
  EXPECT_NE(found.message().find("table"), std::string::npos) << found;
}

}  // namespace
}  // namespace nd::api

#include "soft/device/personality.h"

#include "absl/strings/str_cat.h"

namespace nd::soft {
namespace {

// As little as a device may do and still be one.
constexpr Limits kMinimal{.max_pds = 64,
                          .max_regions = 1024,
                          .max_cqs = 64,
                          .max_cqes = 1023,
                          .max_srqs = 0,
                          .max_qps = 64,
                          .max_ahs = 64,
                          .max_wrs = 64,
                          .max_sges = 1,
                          .max_inline = 0,
                          .max_rd_atomic = 1,
                          .max_groups = 0,
                          .max_group_qps = 0,
                          .windows = false,
                          .srqs = false};

// rdma_rxe of Linux 6.1 (rxe_param.h), but for numbers of objects that would
// exceed what a process has here.
constexpr Limits kRxe{.max_pds = 4096,
                      .max_regions = 32768,
                      .max_cqs = 8192,
                      .max_cqes = 32767,
                      .max_srqs = 1024,
                      .max_qps = 8192,
                      .max_ahs = 32768,
                      .max_wrs = 16384,
                      .max_sges = 32,
                      .max_inline = 512,
                      .max_rd_atomic = 128,
                      .max_groups = 256,
                      .max_group_qps = 56,
                      .windows = true,
                      .srqs = true};

// A ConnectX of mlx5's, as far as it is served here.
constexpr Limits kMlx5{.max_pds = 4096,
                       .max_regions = 32768,
                       .max_cqs = 8192,
                       .max_cqes = (1 << 22) - 1,
                       .max_srqs = 1024,
                       .max_qps = 8192,
                       .max_ahs = 32768,
                       .max_wrs = 16384,
                       .max_sges = 30,
                       .max_inline = 1020,
                       .max_rd_atomic = 16,
                       .max_groups = 256,
                       .max_group_qps = 240,
                       .windows = true,
                       .srqs = true};

}  // namespace

absl::StatusOr<Limits> PersonalityLimits(absl::string_view name) {
  if (name.empty()) return Limits{};
  if (name == "minimal") return kMinimal;
  if (name == "rxe") return kRxe;
  if (name == "mlx5") return kMlx5;
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name, "': no such device; there are minimal, rxe and mlx5"));
}

}  // namespace nd::soft

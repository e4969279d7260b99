#include "ndping/local/registration.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "verbs/completion_waiter.h"
#include "verbs/device.h"
#include "verbs/memory.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {
namespace {

constexpr uint32_t kMinRounds = 3;
constexpr unsigned kWindowAccess =
    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
constexpr unsigned kRegionAccess = IBV_ACCESS_LOCAL_WRITE | kWindowAccess;

// Anonymous memory whose pages are there already: faulting them in is not what
// is measured.
class Mapping {
 public:
  static absl::StatusOr<std::unique_ptr<Mapping>> Create(uint64_t size) {
    // The kernel would sooner end a process than refuse it memory.
    const uint64_t available = AvailableMemory();
    if (size > available / 10 * 9) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "this host has ", available >> 20,
          " MiB of memory available, too little for ", size, " bytes"));
    }
    void* const memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          ErrnoStatus(errno, absl::StrCat("mmap of ", size, " bytes"))
              .message());
    }
    return std::unique_ptr<Mapping>(
        new Mapping({static_cast<std::byte*>(memory), size}));
  }

  ~Mapping() { munmap(bytes_.data(), bytes_.size()); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}

  static uint64_t AvailableMemory() {
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    uint64_t kib = 0;
    while (file >> name >> kib && std::getline(file, unit)) {
      if (name == "MemAvailable:") return kib * 1024;
    }
    return UINT64_MAX;
  }

  const std::span<std::byte> bytes_;
};

// Two QPs of one device, connected to each other by hand: `here`, where windows
// are bound, and `there`, which invalidates them from afar.
class LoopedPair {
 public:
  static absl::StatusOr<std::unique_ptr<LoopedPair>> Create(
      const RegisterOptions& options, bool with_windows) {
    std::unique_ptr<LoopedPair> pair(new LoopedPair(options));
    ND_RETURN_IF_ERROR(pair->Open(options, with_windows));
    return pair;
  }

  // Waits until `count` requests, sends and receives together, have completed.
  absl::Status Await(size_t count, absl::string_view what) {
    const Deadline deadline = Deadline::After(timeout_);
    while (count > 0) {
      verbs::Completion completion;
      const auto taken = waiter_->Wait({&completion, 1}, deadline, nullptr);
      if (!taken.ok()) {
        return Annotate(
            taken.status(),
            absl::StrCat("waiting for ", what, " on device ", context->name()));
      }
      if (!completion.ok()) return Annotate(completion.ToStatus(), what);
      --count;
    }
    return absl::OkStatus();
  }

  std::shared_ptr<verbs::Context> context;
  std::shared_ptr<verbs::ProtectionDomain> pd;
  std::unique_ptr<verbs::QueuePair> here, there;

 private:
  explicit LoopedPair(const RegisterOptions& options)
      : timeout_(options.completion_timeout) {}

  absl::Status Open(const RegisterOptions& options, bool with_windows) {
    ND_ASSIGN_OR_RETURN(context, verbs::Context::Open(options.device));
    ND_ASSIGN_OR_RETURN(pd, verbs::ProtectionDomain::Create(context));
    ND_ASSIGN_OR_RETURN(auto cq,
                        verbs::CompletionQueue::Create(context, 32, nullptr));
    ND_ASSIGN_OR_RETURN(waiter_, verbs::CompletionWaiter::Create(
                                     cq, {.mode = verbs::WaitMode::kBusy}));
    const verbs::QueuePair::Options qp{.send_cq = cq,
                                       .max_send_wr = 8,
                                       .max_recv_wr = 8,
                                       .with_mw_and_invalidate = with_windows};
    ND_ASSIGN_OR_RETURN(here, verbs::QueuePair::Create(pd, qp));
    ND_ASSIGN_OR_RETURN(there, verbs::QueuePair::Create(pd, qp));
    ND_ASSIGN_OR_RETURN(verbs::Port port, context->QueryPort(options.port));
    ND_ASSIGN_OR_RETURN(const verbs::GidEntry gid, OwnGid(port));
    ND_RETURN_IF_ERROR(ConnectTo(*here, *there, port, gid));
    return ConnectTo(*there, *here, port, gid);
  }

  // RoCE v2 and IPv4 first: such an address is there even where IPv6 is off.
  absl::StatusOr<verbs::GidEntry> OwnGid(const verbs::Port& port) const {
    const auto rank = [](const verbs::GidEntry& gid) {
      const bool ipv6 = gid.Address().find(':') != std::string::npos;
      return (gid.type == IBV_GID_TYPE_ROCE_V2 ? 0 : 2) + (ipv6 ? 1 : 0);
    };
    const auto best = std::ranges::min_element(port.gids, {}, rank);
    if (best != port.gids.end()) return *best;
    return absl::FailedPreconditionError(absl::StrCat(
        "device ", context->name(), " port ", int{port.number},
        " has no GID: give its network interface an address and set it up"));
  }

  static absl::Status ConnectTo(verbs::QueuePair& qp,
                                const verbs::QueuePair& other,
                                const verbs::Port& port,
                                const verbs::GidEntry& gid) {
    const verbs::QueuePair::Path path{.port = port.number,
                                      .gid_index = gid.index,
                                      .remote_gid = gid.gid,
                                      .remote_qpn = other.qpn(),
                                      .mtu = port.attr.active_mtu,
                                      .access = kWindowAccess};
    qp.set_peer(absl::StrCat("the same device at ", gid.Address()));
    ND_RETURN_IF_ERROR(qp.ToInit(path));
    ND_RETURN_IF_ERROR(qp.ToRtr(path));
    return qp.ToRts(path);
  }

  const Duration timeout_;
  std::optional<verbs::CompletionWaiter> waiter_;
};

class Bench {
 public:
  Bench(const RegisterOptions& options, const Cancellation& interrupt,
        RegisterObserver& observer, RegisterResult& result)
      : options_(options),
        interrupt_(interrupt),
        observer_(observer),
        result_(result) {}

  absl::Status Run() {
    ND_RETURN_IF_ERROR(OpenPair());
    result_.device = pair_->context->name();
    const std::vector<uint64_t> sizes =
        options_.sizes.empty() ? DefaultRegisterSizes() : options_.sizes;
    for (const uint64_t size : sizes) {
      if (interrupt_.cancelled()) break;
      ND_RETURN_IF_ERROR(MeasureSize(size));
    }
    result_.interrupted = interrupt_.cancelled();
    return absl::OkStatus();
  }

 private:
  using Steps = std::span<const RegisterStep>;
  static constexpr RegisterStep kRegionSteps[] = {RegisterStep::kRegister,
                                                  RegisterStep::kDeregister};
  static constexpr RegisterStep kType1Steps[] = {RegisterStep::kBindType1,
                                                 RegisterStep::kUnbindType1};
  static constexpr RegisterStep kType2Steps[] = {
      RegisterStep::kBindType2, RegisterStep::kLocalInvalidate,
      RegisterStep::kRemoteInvalidate};

  // A device that cannot make QPs for windows still registers memory.
  absl::Status OpenPair() {
    auto pair = LoopedPair::Create(options_, /*with_windows=*/true);
    if (absl::IsUnimplemented(pair.status())) {
      no_window_qp_ = pair.status();
      pair = LoopedPair::Create(options_, /*with_windows=*/false);
    }
    ND_RETURN_IF_ERROR(pair);
    pair_ = *std::move(pair);
    return absl::OkStatus();
  }

  absl::Status MeasureSize(uint64_t size) {
    const auto memory = Mapping::Create(size);
    if (!memory.ok()) {
      Skip(size, kRegionSteps, memory.status());
      Skip(size, kType1Steps, memory.status());
      Skip(size, kType2Steps, memory.status());
      return absl::OkStatus();
    }
    ND_RETURN_IF_ERROR(MeasureRegion((*memory)->bytes()));
    const absl::Status without[] = {WhyNoType1(), WhyNoType2()};
    if (!without[0].ok()) Skip(size, kType1Steps, without[0]);
    if (without[0].ok()) {
      ND_RETURN_IF_ERROR(MeasureType1((*memory)->bytes()));
    }
    if (!without[1].ok()) Skip(size, kType2Steps, without[1]);
    if (without[1].ok()) {
      ND_RETURN_IF_ERROR(MeasureType2((*memory)->bytes()));
    }
    return absl::OkStatus();
  }

  absl::Status MeasureRegion(std::span<std::byte> memory) {
    Histogram registering, deregistering;
    for (Rounds rounds(*this); rounds.Next();) {
      std::unique_ptr<verbs::MemoryRegion> mr;
      absl::Status status;
      registering.Record(Time([&] {
        auto made =
            verbs::MemoryRegion::Register(pair_->pd, memory, kRegionAccess);
        status = made.status();
        if (made.ok()) mr = *std::move(made);
      }));
      if (absl::IsResourceExhausted(status)) {
        Skip(memory.size(), kRegionSteps, status);
        return absl::OkStatus();
      }
      ND_RETURN_IF_ERROR(status);
      deregistering.Record(Time([&] { mr.reset(); }));
    }
    Add(memory.size(), RegisterStep::kRegister, std::move(registering));
    Add(memory.size(), RegisterStep::kDeregister, std::move(deregistering));
    return absl::OkStatus();
  }

  // The region that windows are bound to, or null when its steps were skipped.
  absl::StatusOr<std::unique_ptr<verbs::MemoryRegion>> BindableRegion(
      std::span<std::byte> memory, Steps steps) {
    auto mr = verbs::MemoryRegion::Register(pair_->pd, memory,
                                            kRegionAccess | IBV_ACCESS_MW_BIND);
    if (!absl::IsResourceExhausted(mr.status())) return mr;
    Skip(memory.size(), steps, mr.status());
    return nullptr;
  }

  absl::Status MeasureType1(std::span<std::byte> memory) {
    ND_ASSIGN_OR_RETURN(const auto mr, BindableRegion(memory, kType1Steps));
    if (mr == nullptr) return absl::OkStatus();
    ND_ASSIGN_OR_RETURN(const auto window,
                        verbs::MemoryWindow::Create(pair_->pd, IBV_MW_TYPE_1));
    Histogram binding, unbinding;
    for (Rounds rounds(*this); rounds.Next();) {
      ND_RETURN_IF_ERROR(TimeRequests(binding, 1, "bind-type-1", [&] {
        return pair_->here->BindWindow(*window, WholeOf(*mr), 0);
      }));
      ND_RETURN_IF_ERROR(TimeRequests(unbinding, 1, "unbind-type-1", [&] {
        return pair_->here->BindWindow(*window, NothingOf(*mr), 0);
      }));
    }
    Add(memory.size(), RegisterStep::kBindType1, std::move(binding));
    Add(memory.size(), RegisterStep::kUnbindType1, std::move(unbinding));
    return absl::OkStatus();
  }

  absl::Status MeasureType2(std::span<std::byte> memory) {
    ND_ASSIGN_OR_RETURN(const auto mr, BindableRegion(memory, kType2Steps));
    if (mr == nullptr) return absl::OkStatus();
    ND_ASSIGN_OR_RETURN(const auto window,
                        verbs::MemoryWindow::Create(pair_->pd, IBV_MW_TYPE_2));
    Histogram binding, local, remote;
    for (Rounds rounds(*this); rounds.Next();) {
      ND_RETURN_IF_ERROR(BindType2(*window, *mr, binding));
      ND_RETURN_IF_ERROR(TimeRequests(local, 1, "local-invalidate", [&] {
        return pair_->here->Post({.opcode = IBV_WR_LOCAL_INV,
                                  .flags = IBV_SEND_SIGNALED,
                                  .invalidate_rkey = window->rkey()});
      }));
      ND_RETURN_IF_ERROR(BindType2(*window, *mr, binding));
      ND_RETURN_IF_ERROR(pair_->here->PostReceive(0, {}));
      // The SEND's completion, and that of the receive which it took.
      ND_RETURN_IF_ERROR(TimeRequests(remote, 2, "remote-invalidate", [&] {
        return pair_->there->Post({.opcode = IBV_WR_SEND_WITH_INV,
                                   .flags = IBV_SEND_SIGNALED,
                                   .invalidate_rkey = window->rkey()});
      }));
    }
    Add(memory.size(), RegisterStep::kBindType2, std::move(binding));
    Add(memory.size(), RegisterStep::kLocalInvalidate, std::move(local));
    Add(memory.size(), RegisterStep::kRemoteInvalidate, std::move(remote));
    return absl::OkStatus();
  }

  absl::Status BindType2(verbs::MemoryWindow& window,
                         const verbs::MemoryRegion& mr, Histogram& times) {
    const uint32_t rkey = window.NextRkey();
    ND_RETURN_IF_ERROR(TimeRequests(times, 1, "bind-type-2", [&] {
      return pair_->here->Post({.opcode = IBV_WR_BIND_MW,
                                .flags = IBV_SEND_SIGNALED,
                                .rkey = rkey,
                                .window = &window,
                                .bind = WholeOf(mr)});
    }));
    window.set_rkey(rkey);
    return absl::OkStatus();
  }

  static ibv_mw_bind_info WholeOf(const verbs::MemoryRegion& mr) {
    return {.mr = mr.get(),
            .addr = mr.address(),
            .length = mr.size(),
            .mw_access_flags = kWindowAccess};
  }

  // No bytes, but still the region: rxe's provider follows that pointer.
  static ibv_mw_bind_info NothingOf(const verbs::MemoryRegion& mr) {
    return {.mr = mr.get(),
            .addr = mr.address(),
            .length = 0,
            .mw_access_flags = 0};
  }

  template <typename Work>
  static uint64_t Time(const Work& work) {
    const Instant start = Clock::Monotonic().Now();
    work();
    return static_cast<uint64_t>((Clock::Monotonic().Now() - start).count());
  }

  // From posting to the last of `completions`.
  template <typename Work>
  absl::Status TimeRequests(Histogram& times, size_t completions,
                            absl::string_view what, const Work& post) {
    absl::Status status;
    const uint64_t ns = Time([&] {
      status = post();
      if (status.ok()) status = pair_->Await(completions, what);
    });
    ND_RETURN_IF_ERROR(status);
    times.Record(ns);
    return absl::OkStatus();
  }

  absl::Status WhyNoType1() const {
    return WhyNoWindow(IBV_DEVICE_MEM_WINDOW, IBV_MW_TYPE_1);
  }
  absl::Status WhyNoType2() const {
    if (!no_window_qp_.ok()) return no_window_qp_;
    return WhyNoWindow(
        IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B,
        IBV_MW_TYPE_2);
  }
  absl::Status WhyNoWindow(unsigned capability, ibv_mw_type type) const {
    if ((pair_->context->limits().device_cap_flags & capability) == 0) {
      return absl::UnimplementedError(absl::StrCat(
          "device ", pair_->context->name(), " has no memory windows of type ",
          static_cast<int>(type)));
    }
    const auto window = verbs::MemoryWindow::Create(pair_->pd, type);
    if (window.ok()) return absl::OkStatus();
    return absl::UnimplementedError(window.status().message());
  }

  // How often a step is done: the iterations asked for, within the budget.
  class Rounds {
   public:
    explicit Rounds(const Bench& bench)
        : bench_(bench), end_(Deadline::After(bench.options_.budget)) {}

    bool Next() {
      if (done_ >= bench_.options_.iterations) return false;
      if (done_ > 0 && bench_.interrupt_.cancelled()) return false;
      if (done_ >= kMinRounds && end_.Passed()) return false;
      ++done_;
      return true;
    }

   private:
    const Bench& bench_;
    const Deadline end_;
    uint32_t done_ = 0;
  };

  void Skip(uint64_t size, Steps steps, const absl::Status& why) {
    for (const RegisterStep step : steps) {
      AddRow({.size = size, .step = step, .status = why, .times = {}});
    }
  }
  void Add(uint64_t size, RegisterStep step, Histogram times) {
    AddRow({.size = size,
            .step = step,
            .status = absl::OkStatus(),
            .times = std::move(times)});
  }
  void AddRow(RegisterRow row) {
    observer_.OnRow(row);
    result_.rows.push_back(std::move(row));
  }

  const RegisterOptions& options_;
  const Cancellation& interrupt_;
  RegisterObserver& observer_;
  RegisterResult& result_;
  std::unique_ptr<LoopedPair> pair_;
  absl::Status no_window_qp_;
};

absl::Status CheckOptions(const RegisterOptions& options) {
  for (const uint64_t size : options.sizes) {
    if (size >= 1 && size <= kMaxRegisterSize) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("size: 1 to ", kMaxRegisterSize, " bytes, not ", size));
  }
  if (options.iterations > 0) return absl::OkStatus();
  return absl::InvalidArgumentError("iterations: at least 1");
}

}  // namespace

absl::string_view ToString(RegisterStep step) {
  switch (step) {
    case RegisterStep::kRegister:
      return "register";
    case RegisterStep::kDeregister:
      return "deregister";
    case RegisterStep::kBindType1:
      return "bind-type-1";
    case RegisterStep::kUnbindType1:
      return "unbind-type-1";
    case RegisterStep::kBindType2:
      return "bind-type-2";
    case RegisterStep::kLocalInvalidate:
      return "local-invalidate";
    case RegisterStep::kRemoteInvalidate:
      return "remote-invalidate";
  }
  return "unknown";
}

std::vector<uint64_t> DefaultRegisterSizes() {
  std::vector<uint64_t> sizes;
  for (uint64_t size = 4096; size <= uint64_t{1} << 30; size *= 4) {
    sizes.push_back(size);
  }
  return sizes;
}

absl::StatusOr<RegisterResult> RunRegisterTest(const RegisterOptions& options,
                                               const Cancellation& interrupt,
                                               RegisterObserver& observer) {
  ND_RETURN_IF_ERROR(CheckOptions(options));
  RegisterResult result;
  ND_RETURN_IF_ERROR(Bench(options, interrupt, observer, result).Run());
  return result;
}

}  // namespace nd::ndping

// Two QPs connected by hand, without a connection manager: one on each of the
// two devices that the test guest has, or on the one device that there is.
#ifndef ND_TESTS_VERBS_HAND_PAIR_H_
#define ND_TESTS_VERBS_HAND_PAIR_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "verbs/completion.h"
#include "verbs/memory.h"
#include "verbs/queue_pair.h"

namespace nd::verbs {

// Fails the test that asked, and says why, instead of crashing on a bad status.
template <typename T>
T OrDie(absl::StatusOr<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.status();
  return std::move(result).value();
}

inline constexpr unsigned kAllAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
    IBV_ACCESS_REMOTE_ATOMIC;

// One end: a device, a QP, and a registered buffer.
struct HandEnd {
  std::shared_ptr<Context> context;
  std::shared_ptr<ProtectionDomain> pd;
  std::shared_ptr<CompletionQueue> cq;
  std::vector<std::byte> memory;
  std::unique_ptr<MemoryRegion> mr;
  std::unique_ptr<QueuePair> qp;
  GidEntry gid;

  // The buffer must be aligned for atomics: operator new gives 16.
  HandEnd(const std::string& device, QueuePair::Options options,
          size_t buffer_size) {
    context = OrDie(Context::Open(device));
    pd = OrDie(ProtectionDomain::Create(context));
    auto channel = OrDie(CompletionChannel::Create(context));
    cq = OrDie(CompletionQueue::Create(context, 1024, channel));
    memory.resize(buffer_size);
    mr = OrDie(
        MemoryRegion::Register(pd, memory, kAllAccess | IBV_ACCESS_MW_BIND));
    options.send_cq = cq;
    qp = OrDie(QueuePair::Create(pd, options));
    for (const GidEntry& entry : OrDie(context->QueryPort(1)).gids) {
      // An IPv4 address is routed on every host that these tests run on.
      if (entry.type == IBV_GID_TYPE_ROCE_V2 &&
          entry.Address().find(':') == std::string::npos) {
        gid = entry;
      }
    }
  }

  ibv_sge Sge(size_t offset, size_t length) const {
    return mr->Sge(offset, static_cast<uint32_t>(length));
  }
};

class HandPair {
 public:
  struct Options {
    QueuePair::Options qp = {};
    QueuePair::Path path = {
        .max_rd_atomic = 4, .max_dest_rd_atomic = 4, .access = kAllAccess};
    size_t buffer_size = 1 << 20;
  };

  explicit HandPair(const Options& options)
      : a(DeviceName(0), options.qp, options.buffer_size),
        b(DeviceName(1), options.qp, options.buffer_size) {
    Connect(a, b, options.path);
    Connect(b, a, options.path);
  }

  static std::string DeviceName(size_t which) {
    const auto devices = OrDie(ListDevices());
    return devices.at(std::min(which, devices.size() - 1)).name;
  }

  // Polls until a completion comes; a test that waits 20 s in vain has failed.
  static Completion WaitFor(HandEnd& end) {
    Completion completion;
    const Deadline deadline = Deadline::After(std::chrono::seconds(20));
    while (!deadline.Passed()) {
      if (OrDie(end.cq->Poll({&completion, 1})) == 1) return completion;
    }
    ADD_FAILURE() << "no completion in 20 s on " << end.qp->ToString();
    return completion;
  }

  HandEnd a, b;

 private:
  static constexpr uint32_t kPsn = 0xfffffe;  // wraps within a test

  static void Connect(HandEnd& from, HandEnd& to, QueuePair::Path path) {
    path.gid_index = from.gid.index;
    path.remote_gid = to.gid.gid;
    path.remote_qpn = to.qp->qpn();
    path.local_psn = path.remote_psn = kPsn;
    from.qp->set_peer(to.gid.Address());
    for (const absl::Status& status :
         {from.qp->ToInit(path), from.qp->ToRtr(path), from.qp->ToRts(path)}) {
      ASSERT_TRUE(status.ok()) << status;
    }
  }
};

}  // namespace nd::verbs

#endif  // ND_TESTS_VERBS_HAND_PAIR_H_

// Many connected queue pairs in one process: what one costs in memory, whether
// those that are idle slow one that works, and what idle ones cost in CPU time.
//
// usage: many_qps PAIRS      prints one JSON object
#include <infiniband/verbs.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr uint32_t kDepth = 64;
constexpr uint32_t kBytes = 64;
constexpr int kRounds = 50'000;
constexpr int kAccess = IBV_ACCESS_LOCAL_WRITE;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::_Exit(1);
}

struct Device {
  ibv_context* context = nullptr;
  ibv_pd* pd = nullptr;
  ibv_gid gid{};
  std::vector<char> buffer = std::vector<char>(size_t{2} * kBytes);
  ibv_mr* mr = nullptr;
};

struct End {
  ibv_cq* cq = nullptr;
  ibv_qp* qp = nullptr;
};

End Create(Device& device) {
  End end;
  end.cq = ibv_create_cq(device.context, 2 * kDepth, nullptr, nullptr, 0);
  Check(end.cq != nullptr, "ibv_create_cq");
  ibv_qp_init_attr attr{};
  attr.send_cq = attr.recv_cq = end.cq;
  attr.cap = {.max_send_wr = kDepth,
              .max_recv_wr = kDepth,
              .max_send_sge = 1,
              .max_recv_sge = 1,
              .max_inline_data = kBytes};
  attr.qp_type = IBV_QPT_RC;
  end.qp = ibv_create_qp(device.pd, &attr);
  Check(end.qp != nullptr, "ibv_create_qp");
  return end;
}

void Connect(const Device& device, const End& end, const End& peer) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  int error = ibv_modify_qp(
      end.qp, &attr,
      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  Check(error == 0, "to INIT");
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = IBV_MTU_1024;
  attr.dest_qp_num = peer.qp->qp_num;
  attr.max_dest_rd_atomic = 1;
  attr.min_rnr_timer = 12;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.grh.dgid = device.gid;
  attr.ah_attr.grh.hop_limit = 1;
  attr.ah_attr.port_num = 1;
  error = ibv_modify_qp(end.qp, &attr,
                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                            IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                            IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  Check(error == 0, "to RTR");
  attr.qp_state = IBV_QPS_RTS;
  attr.timeout = 14;
  attr.retry_cnt = attr.rnr_retry = 7;
  attr.max_rd_atomic = 1;
  error = ibv_modify_qp(end.qp, &attr,
                        IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                            IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                            IBV_QP_MAX_QP_RD_ATOMIC);
  Check(error == 0, "to RTS");
}

void Receive(Device& device, const End& end) {
  ibv_sge sge{.addr = reinterpret_cast<uint64_t>(device.buffer.data()),
              .length = kBytes,
              .lkey = device.mr->lkey};
  ibv_recv_wr wr{}, *bad = nullptr;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  Check(ibv_post_recv(end.qp, &wr, &bad) == 0, "ibv_post_recv");
}

void Send(Device& device, const End& end) {
  ibv_sge sge{.addr = reinterpret_cast<uint64_t>(device.buffer.data()) + kBytes,
              .length = kBytes,
              .lkey = device.mr->lkey};
  ibv_send_wr wr{}, *bad = nullptr;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_SEND;
  wr.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE;
  Check(ibv_post_send(end.qp, &wr, &bad) == 0, "ibv_post_send");
}

void Await(const End& end) {
  ibv_wc wc{};
  int count = 0;
  while ((count = ibv_poll_cq(end.cq, 1, &wc)) == 0) continue;
  Check(count == 1 && wc.status == IBV_WC_SUCCESS, "ibv_poll_cq");
}

struct Pair {
  End a, b;
};

// Nanoseconds of a SEND from one end of a pair to the other, by turns over the
// first `count` pairs.
double NanosOfSend(Device& device, std::vector<Pair>& pairs, size_t count) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) {
    const Pair& pair = pairs[static_cast<size_t>(i) % count];
    Receive(device, pair.b);
    Send(device, pair.a);
    Await(pair.b);
    Await(pair.a);
  }
  const std::chrono::duration<double, std::nano> taken =
      std::chrono::steady_clock::now() - start;
  return taken.count() / kRounds;
}

long ResidentBytes() {
  long pages = 0, resident = 0;
  FILE* const file = std::fopen("/proc/self/statm", "r");
  Check(file != nullptr, "/proc/self/statm");
  Check(std::fscanf(file, "%ld %ld", &pages, &resident) == 2, "statm");
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t count = argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
  if (count == 0) {
    std::fprintf(stderr, "usage: many_qps PAIRS\n");
    return 2;
  }
  Device device;
  int devices = 0;
  ibv_device** const list = ibv_get_device_list(&devices);
  Check(devices > 0, "no RDMA device");
  device.context = ibv_open_device(list[0]);
  Check(device.context != nullptr, "ibv_open_device");
  device.pd = ibv_alloc_pd(device.context);
  device.mr = ibv_reg_mr(device.pd, device.buffer.data(), device.buffer.size(),
                         kAccess);
  Check(device.mr != nullptr, "ibv_reg_mr");
  Check(ibv_query_gid(device.context, 1, 0, &device.gid) == 0, "ibv_query_gid");

  std::vector<Pair> pairs;
  const auto add = [&] {
    Pair pair{Create(device), Create(device)};
    Connect(device, pair.a, pair.b);
    Connect(device, pair.b, pair.a);
    pairs.push_back(pair);
  };
  add();
  NanosOfSend(device, pairs, 1);
  const double alone = NanosOfSend(device, pairs, 1);
  pairs.reserve(count);
  const long before = ResidentBytes();
  while (pairs.size() < count) add();
  const long after = ResidentBytes();
  const double beside_idle = NanosOfSend(device, pairs, 1);
  const double by_turns = NanosOfSend(device, pairs, count);
  const double cpu = CpuSeconds();
  constexpr unsigned kIdleSeconds = 2;
  std::this_thread::sleep_for(std::chrono::seconds(kIdleSeconds));
  const double idle = (CpuSeconds() - cpu) / kIdleSeconds;
  std::printf(
      "{\"qps\": %zu, \"bytes_per_qp\": %.0f, \"ns_alone\": %.1f, "
      "\"ns_beside_idle\": %.1f, \"ns_by_turns\": %.1f, "
      "\"idle_cpu\": %.5f}\n",
      2 * pairs.size(),
      static_cast<double>(after - before) /
          (2 * static_cast<double>(pairs.size() - 1)),
      alone, beside_idle, by_turns, idle);
  return 0;
}

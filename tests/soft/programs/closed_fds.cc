// A daemon that closes all its descriptors after it opened the device, and then
// opens files of its own under the same numbers. Nothing of the device may get
// into them, no call may hang, and what needs a descriptor that is closed says
// so.
//
// usage: closed_fds closefrom|close|dup2. Ends with 0, or says what was wrong.
#include <arpa/inet.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

constexpr int kFirst = STDERR_FILENO + 1;
constexpr int kLast = 4096;
constexpr int kFiles = 64;
constexpr int kGidIndex = 1;
constexpr int kBytes = 8192;
constexpr int kRounds = 50;
constexpr int kAccess = IBV_ACCESS_LOCAL_WRITE;

void Must(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "closed_fds: %s: %m\n", what);
  _exit(1);
}

// A device with a pair of connected queue pairs, whose completions make events.
struct Verbs {
  ibv_context* context;
  ibv_pd* pd;
  ibv_comp_channel* channel;
  ibv_cq* cq;
  ibv_mr* mr;
  ibv_qp* qps[2];
  char buffer[2 * kBytes];
};

void Connect(ibv_qp* qp, ibv_qp* to, const ibv_gid& gid) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  Must(ibv_modify_qp(qp, &attr,
                     IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
                         IBV_QP_ACCESS_FLAGS) == 0,
       "INIT");
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = IBV_MTU_1024;
  attr.dest_qp_num = to->qp_num;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.port_num = 1;
  attr.ah_attr.grh.dgid = gid;
  attr.ah_attr.grh.sgid_index = kGidIndex;
  attr.ah_attr.grh.hop_limit = 1;
  Must(ibv_modify_qp(qp, &attr,
                     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                         IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                         IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) == 0,
       "RTR");
  attr.qp_state = IBV_QPS_RTS;
  attr.timeout = 14;
  attr.retry_cnt = 7;
  Must(ibv_modify_qp(qp, &attr,
                     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                         IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                         IBV_QP_MAX_QP_RD_ATOMIC) == 0,
       "RTS");
}

Verbs* Open() {
  auto* const verbs = new Verbs{};
  ibv_device** const list = ibv_get_device_list(nullptr);
  verbs->context = ibv_open_device(list[0]);
  Must(verbs->context != nullptr, "ibv_open_device");
  verbs->pd = ibv_alloc_pd(verbs->context);
  verbs->channel = ibv_create_comp_channel(verbs->context);
  verbs->cq = ibv_create_cq(verbs->context, 16, nullptr, verbs->channel, 0);
  verbs->mr =
      ibv_reg_mr(verbs->pd, verbs->buffer, sizeof(verbs->buffer), kAccess);
  ibv_qp_init_attr init{};
  init.send_cq = init.recv_cq = verbs->cq;
  init.cap = {.max_send_wr = 4,
              .max_recv_wr = 4,
              .max_send_sge = 1,
              .max_recv_sge = 1,
              .max_inline_data = 0};
  init.qp_type = IBV_QPT_RC;
  init.sq_sig_all = 1;
  for (auto& qp : verbs->qps) {
    qp = ibv_create_qp(verbs->pd, &init);
    Must(qp != nullptr, "ibv_create_qp");
  }
  ibv_gid gid;
  Must(ibv_query_gid(verbs->context, 1, kGidIndex, &gid) == 0, "a GID");
  Connect(verbs->qps[0], verbs->qps[1], gid);
  Connect(verbs->qps[1], verbs->qps[0], gid);
  return verbs;
}

// A message from one to the other, whose completions also make an event.
void Exchange(Verbs& verbs, char value) {
  memset(verbs.buffer, value, kBytes);
  ibv_sge from{reinterpret_cast<uintptr_t>(verbs.buffer), kBytes,
               verbs.mr->lkey};
  ibv_sge to{reinterpret_cast<uintptr_t>(verbs.buffer + kBytes), kBytes,
             verbs.mr->lkey};
  ibv_recv_wr recv{};
  recv.sg_list = &to;
  recv.num_sge = 1;
  ibv_recv_wr* bad_recv = nullptr;
  ibv_send_wr send{};
  send.sg_list = &from;
  send.num_sge = 1;
  send.opcode = IBV_WR_SEND;
  ibv_send_wr* bad_send = nullptr;
  Must(ibv_req_notify_cq(verbs.cq, 0) == 0, "ibv_req_notify_cq");
  Must(ibv_post_recv(verbs.qps[1], &recv, &bad_recv) == 0, "ibv_post_recv");
  Must(ibv_post_send(verbs.qps[0], &send, &bad_send) == 0, "ibv_post_send");
  for (int done = 0; done < 2;) {
    ibv_wc wc;
    const int count = ibv_poll_cq(verbs.cq, 1, &wc);
    Must(count >= 0, "ibv_poll_cq");
    if (count > 0) Must(wc.status == IBV_WC_SUCCESS, "completion");
    done += count;
  }
  Must(memcmp(verbs.buffer, verbs.buffer + kBytes, kBytes) == 0, "the data");
}

void CloseAll(const char* way) {
  if (strcmp(way, "closefrom") == 0) return closefrom(kFirst);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = kFirst; fd < kLast; ++fd) {
    if (fd == null) continue;
    if (strcmp(way, "close") == 0) close(fd);
    if (strcmp(way, "dup2") == 0 && dup2(null, fd) == fd) close(fd);
  }
  close(null);
}

}  // namespace

int main(int, char** arguments) {
  alarm(30);
  Verbs& verbs = *Open();
  Exchange(verbs, 'a');
  CloseAll(arguments[1]);

  int files[kFiles];
  char path[] = "/tmp/closed_fds_XXXXXX";
  for (int& fd : files) {
    std::memset(path + sizeof(path) - 7, 'X', 6);
    fd = mkstemp(path);
    Must(fd >= 0 && unlink(path) == 0, "a file of its own");
  }
  for (int i = 0; i < kRounds; ++i) Exchange(verbs, static_cast<char>(i));

  // Its channel's descriptor is a file's now, or nobody's.
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  Must(ibv_get_cq_event(verbs.channel, &cq, &context) != 0,
       "an event from a channel without a descriptor");
  for (ibv_qp* const qp : verbs.qps) {
    Must(ibv_destroy_qp(qp) == 0, "ibv_destroy_qp");
  }
  Must(ibv_destroy_cq(verbs.cq) == 0, "ibv_destroy_cq");
  Must(ibv_destroy_comp_channel(verbs.channel) == 0,
       "ibv_destroy_comp_channel");
  Must(ibv_dereg_mr(verbs.mr) == 0 && ibv_dealloc_pd(verbs.pd) == 0,
       "memory and its domain");
  Must(ibv_close_device(verbs.context) == 0, "ibv_close_device");
  for (const int fd : files) {
    struct stat status {};
    Must(fstat(fd, &status) == 0, "a file of its own was closed");
    Must(status.st_size == 0, "something was written to its files");
  }
  return 0;
}

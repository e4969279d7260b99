// A device made of nothing, for tests of nd's bookkeeping: the test decides
// what completes, when, and which call fails. It moves no data and knows no
// protocol. A test program that links fake_verbs.cc meets it instead of
// libibverbs.
#ifndef ND_TESTS_VERBS_FAKE_VERBS_H_
#define ND_TESTS_VERBS_FAKE_VERBS_H_

#include <infiniband/verbs.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace nd::verbs {

struct FakeVerbs {
  // The one device's state; Reset() between tests.
  static FakeVerbs& Get();
  void Reset();

  // What ibv_poll_cq hands out next.
  std::deque<ibv_wc> completions;
  // Runs inside ibv_req_notify_cq, before the queue is armed.
  std::function<void()> before_arming;
  // Adds a completion; an armed queue gets its event.
  void Complete(const ibv_wc& wc);

  struct Posted {
    uint64_t wr_id;
    ibv_wr_opcode opcode;
    unsigned flags;
  };
  std::vector<Posted> sends;       // in posting order
  std::vector<uint64_t> receives;  // their wr_ids
  // ibv_post_send takes this many requests and then fails with `post_error`.
  size_t post_limit = SIZE_MAX;
  int post_error = 0;
  // Calls that fail: name ("ibv_create_cq") to errno.
  std::map<std::string, int> failures;

  int live_objects = 0;  // made and not yet destroyed
  int polls = 0;
  int armings = 0;
  unsigned events_taken = 0;
  unsigned events_acked = 0;
  bool armed = false;
  bool solicited_only = false;
  ibv_qp_state qp_state = IBV_QPS_RESET;
  uint32_t last_qpn = 0;
};

}  // namespace nd::verbs

#endif  // ND_TESTS_VERBS_FAKE_VERBS_H_

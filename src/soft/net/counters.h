// What became of the packets that net saw.
#ifndef ND_SOFT_NET_COUNTERS_H_
#define ND_SOFT_NET_COUNTERS_H_

#include <cstdint>

namespace nd::soft {

struct NetCounters {
  uint64_t sent = 0;       // taken by Send
  uint64_t received = 0;   // given to the sink
  uint64_t handed_on = 0;  // from the wire to another process of the host

  // Packets that went no further, by cause.
  uint64_t dropped_no_peer = 0;    // no process has that slot
  uint64_t dropped_no_room = 0;    // its way was full
  uint64_t dropped_malformed = 0;  // no packet, or too long for one
  uint64_t dropped_bad_icrc = 0;
  uint64_t dropped_untrusted = 0;    // of another user of the host
  uint64_t dropped_bad_address = 0;  // not to us, or not from where it came
  uint64_t dropped_bad_qpn = 0;      // nobody's, or another process's
  uint64_t dropped_unroutable = 0;   // to QP1, and for no one
  uint64_t dropped_send_failed = 0;  // the kernel would not take it
  uint64_t dropped_loans = 0;        // lent, and not fetched on that link
  uint64_t refused_links = 0;        // rings offered that were no rings
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_COUNTERS_H_

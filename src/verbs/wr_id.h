// How nd uses the 64 bits of a work request's wr_id on the device: the
// application's own wr_id waits in the QueuePair's records meanwhile.
#ifndef ND_VERBS_WR_ID_H_
#define ND_VERBS_WR_ID_H_

#include <cstdint>

namespace nd::verbs {

// A send: the low 32 bits are its place in the order of posting.
// A receive: the same, in the receive queue's order.
inline constexpr uint64_t kReceiveWrId = uint64_t{1} << 63;
// A receive of an SRQ: the low 62 bits are the application's wr_id.
inline constexpr uint64_t kSharedReceiveWrId = uint64_t{1} << 62;
inline constexpr uint64_t kMaxSharedWrId = kSharedReceiveWrId - 1;

}  // namespace nd::verbs

#endif  // ND_VERBS_WR_ID_H_

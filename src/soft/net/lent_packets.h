// Packets whose payload is lent by processes of the host.
#ifndef ND_SOFT_NET_LENT_PACKETS_H_
#define ND_SOFT_NET_LENT_PACKETS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "soft/net/network.h"
#include "soft/net/peer_memory.h"
#include "soft/net/ring.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// The sender of a link, as far as it lends. It reads from the ring whether what
// it lends is fetched.
class Lender {
 public:
  // `fetches`: if its memory can be reached, which is found out.
  Lender(pid_t pid, bool fetches, RingConsumer& ring);

  bool fetches() const { return fetches_; }
  // Whether it is to lend for now, if it can be fetched.
  void Invite(bool invited);
  // Not to be reached any more: by order, or with the ring, which is gone.
  void StopFetching();

  // False: not to be had.
  [[nodiscard]] bool Fetch(const Loan& loan,
                           std::span<const std::span<std::byte>> pieces);

 private:
  const PeerMemory memory_;
  RingConsumer* ring_;  // until StopFetching
  bool fetches_ = false;
};

// To fetch a payload takes long beside what else there is to do with a packet.
// So these wait until nothing else has come, and what is for other queue pairs
// passes them; while something does, they are handed out in parts. One thread
// at a time.
class LentPackets {
 public:
  bool empty() const { return packets_.empty(); }

  // `packet` without the payload.
  void Push(const Path& path, const Packet& packet, const Loan& loan,
            std::shared_ptr<Lender> lender, ArrivalSink& sink);
  // Takes a packet that must not pass one that waits. False: it may pass.
  [[nodiscard]] bool TakeBehind(const Arrival& arrival, ArrivalSink& sink);
  // Hands out the oldest, or a part of it, and with its end what came behind
  // it and is not lent. There is one.
  void HandOutSome(ArrivalSink& sink);

  // As in Network.
  void Mark() { mark_ = next_number_; }
  bool PassedMark() const {
    return packets_.empty() || packets_.front().number >= mark_;
  }

 private:
  struct Waiting {
    uint64_t number = 0;
    Path path{};
    Packet packet{};
    Loan loan{};
    std::shared_ptr<Lender> lender{};  // none: it is behind one that is lent
    std::vector<std::byte> payload{};  // its
    uint8_t handed_out = 0;            // packets of a burst that is lent
  };
  void MakeRoom(ArrivalSink& sink);
  void Push(Waiting waiting);
  static void HandOut(Waiting& waiting, uint8_t packets, ArrivalSink& sink);

  std::deque<Waiting> packets_;  // the first of them is lent
  uint64_t next_number_ = 0;
  uint64_t mark_ = 0;
  uint32_t parts_ = 0;  // to be handed out since something has passed
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_LENT_PACKETS_H_

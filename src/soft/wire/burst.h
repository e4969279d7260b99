// Packets of a RC message that go as one (Packet::packets), taken apart.
#ifndef ND_SOFT_WIRE_BURST_H_
#define ND_SOFT_WIRE_BURST_H_

#include <cstddef>
#include <cstdint>

#include "soft/wire/packet.h"

namespace nd::soft {

// Whether they can be: part of a SEND, a WRITE or a READ's answer, of RC.
bool IsBurst(const Packet& packet);

// What each packet but the last has: the path MTU, from 256 to 4096, with which
// that many packets have that many bytes. There is one at most where there are
// two packets or more.
size_t MtuOfBurst(size_t packets, size_t payload_bytes);

// Where in the payload of `burst` that of a part of it lies.
struct PayloadRange {
  size_t offset = 0;
  size_t length = 0;
};
PayloadRange RangeOfPart(const Packet& burst, uint8_t begin, uint8_t count);

// `count` of the packets of `burst`, which IsBurst, from the one at `begin` on:
// what they would be if they went by themselves. Its payload is the burst's;
// of one that is far, who asks for the part knows.
Packet PartOfBurst(const Packet& burst, uint8_t begin, uint8_t count);

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_BURST_H_

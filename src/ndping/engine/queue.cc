#include "ndping/engine/queue.h"

namespace nd::ndping {
namespace {

// Another key byte of the same index: the peer's device finds the region and
// sees that the key is not its own.
constexpr uint32_t kWrongKeyBits = 0xa5;

}  // namespace

v1::Layout::Queue Queue::Offer() const {
  const verbs::MemoryRegion& region = buffers_->region();
  v1::Layout::Queue offer;
  offer.mutable_data()->set_address(region.address() + place_.target);
  offer.mutable_data()->set_rkey(region.rkey());
  offer.mutable_data()->set_length(buffers_->target_bytes());
  offer.mutable_credits()->set_address(region.address() + place_.credit_in);
  offer.mutable_credits()->set_rkey(region.rkey());
  offer.mutable_credits()->set_length(sizeof(uint64_t));
  return offer;
}

void Queue::Take(const v1::Layout::Queue& offer, bool wrong_rkey) {
  remote_ = {.address = offer.data().address(),
             .rkey = offer.data().rkey() ^ (wrong_rkey ? kWrongKeyBits : 0),
             .credit_address = offer.credits().address(),
             .credit_rkey = offer.credits().rkey()};
}

}  // namespace nd::ndping

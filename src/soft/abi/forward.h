// Calls on objects of real devices go on to the real libibverbs.
#ifndef ND_SOFT_ABI_FORWARD_H_
#define ND_SOFT_ABI_FORWARD_H_

#include "soft/abi/real_verbs.h"

// The real `function` of version node IBVERBS_`version`; it exists, since the
// object came from that library.
#define ND_FORWARD(function, version) \
  (*::nd::soft::Real<decltype(function)>(#function, "IBVERBS_" version))

#endif  // ND_SOFT_ABI_FORWARD_H_

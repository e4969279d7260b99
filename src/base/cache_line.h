// How far apart data of different threads is kept.
#ifndef ND_BASE_CACHE_LINE_H_
#define ND_BASE_CACHE_LINE_H_

#include <cstddef>

namespace nd {

// Not std::hardware_destructive_interference_size: that one changes with the
// compiler's tuning flags, and with it the layout of every class that uses it.
inline constexpr size_t kCacheLineBytes = 64;

}  // namespace nd

#endif  // ND_BASE_CACHE_LINE_H_

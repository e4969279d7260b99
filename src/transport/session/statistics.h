// A session's statistics in words.
#ifndef ND_TRANSPORT_SESSION_STATISTICS_H_
#define ND_TRANSPORT_SESSION_STATISTICS_H_

#include <string>

#include "nd/statistics.h"

namespace nd::transport {

// In lines, for people.
std::string Describe(const SessionStatistics& statistics);

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_STATISTICS_H_

// What sessions and streams count, all the time.
#ifndef ND_STATISTICS_H_
#define ND_STATISTICS_H_

#include <chrono>
#include <cstdint>
#include <vector>

namespace nd {

// Counts begin with the session or the stream, a connection's with the session,
// and never go back: a rate is the difference of two readings. Times are those
// of the reactor's turns.

struct Traffic {
  uint64_t messages = 0;
  uint64_t bytes = 0;
};

// Something was to be sent, or received, and could not be.
struct Stall {
  uint64_t count = 0;
  std::chrono::nanoseconds time{};  // with what lasts
};

// By what was wanting. Times of what waits at the same time add up.
struct Stalls {
  Stall connection{};  // none was up
  Stall credit{};      // the peer had no receive free on the connection
  Stall depth{};       // as much under way as may be: the wire is the limit
  Stall window{};      // of the stream: the peer's application does not read
  Stall transfers{};   // as many long messages under way as may be
  Stall memory{};      // of the receive budget, for a long message
};

struct Latencies {
  struct Bucket {
    std::chrono::nanoseconds low{}, high{};  // both are in it
    uint64_t count = 0;
  };
  uint64_t count = 0;
  // min and max are exact, the others off by less than 3.2 %.
  std::chrono::nanoseconds min{}, mean{}, p50{}, p90{}, p99{}, p999{}, max{};
  std::vector<Bucket> buckets{};  // those that hold any, lowest first
};

// Of all streams of a class, those that are gone, too.
struct ClassStatistics {
  Traffic sent{};      // whose operations ended with OK
  Traffic received{};  // that the application has taken
  Stalls stalls{};
  // A connection was lost: frames, and long messages, that were sent again.
  uint64_t resent_frames = 0;
  uint64_t rewritten_messages = 0;
  // Messages that the peer's credits did not wait for: they were copied out of
  // the slots where they had arrived, of which too many were on loan.
  uint64_t copied_aside = 0;
  // Of sends, from start to end of the operation, of those that ended with OK.
  Latencies send_latency{};
};

struct ConnectionStatistics {
  bool up = false;
  uint64_t begun = 0;  // set-ups of it: all but the first to replace a lost one
  uint64_t made = 0;   // that succeeded
  uint64_t lost = 0;   // of those, while the session lasted
  uint64_t packets_sent = 0, packets_received = 0;
  uint64_t frames_sent = 0, frames_received = 0;
  uint64_t bytes_sent = 0, bytes_received = 0;  // in packets
  // RDMA WRITEs of long messages. The peer's are not seen here.
  uint64_t writes = 0, bytes_written = 0;
  uint64_t resent_frames = 0;
  uint64_t credit_stalls = 0, depth_stalls = 0;
  uint64_t credits = 0;    // receives of the peer's that are free now
  uint64_t under_way = 0;  // requests that have not completed
};

struct SessionStatistics {
  ClassStatistics latency{}, bulk{};
  // By number: the latency class's, then bulk's.
  std::vector<ConnectionStatistics> connections{};
  uint64_t streams = 0;  // that are open
  // Reads, writes and atomics of the peer's regions that ended with OK.
  Traffic accesses{};
  // How long the oldest operations that are under way have been; zero for none.
  std::chrono::nanoseconds oldest_send{}, oldest_receive{}, oldest_access{};
};

struct StreamStatistics {
  Traffic sent{}, received{};  // as above
  Stalls stalls{};             // window, transfers and memory
  uint64_t resent_frames = 0, rewritten_messages = 0;
  uint64_t window = 0;  // bytes that the peer's window has left
  std::chrono::nanoseconds oldest_send{}, oldest_receive{};
};

}  // namespace nd

#endif  // ND_STATISTICS_H_

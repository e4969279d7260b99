// Applications of a simulated session: streams with messages of all sizes,
// readers that stall, hold what they got, and give up.
#ifndef ND_TESTS_TRANSPORT_SESSION_SIM_TRAFFIC_H_
#define ND_TESTS_TRANSPORT_SESSION_SIM_TRAFFIC_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "transport/session/sim_world.h"

namespace nd::transport {

struct TrafficOptions {
  size_t streams = 4;
  size_t messages = 30;       // of each stream and direction
  uint64_t largest = 4096;    // bytes
  bool stalls = true;         // readers
  bool cancels = false;       // some operations have short deadlines
  bool must_end_well = true;  // the session is still there in the end
};

// Every message carries its number; each end notes what became of it.
class Traffic {
 public:
  Traffic(SimWorld& world, const TrafficOptions& options);
  ~Traffic();

  void Start();
  bool done() const;
  // What is wrong with what arrived, in words; empty if nothing is.
  std::string Verdict() const;
  size_t delivered() const;
  size_t failed_sends() const;

 private:
  struct Flow;
  std::string CheckStatistics() const;
  void OpenStream(size_t side);
  void AcceptAll(size_t side);
  void Attach(size_t side, Stream& stream);

  SimWorld& world_;
  const TrafficOptions options_;
  std::list<Flow> flows_;
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_SESSION_SIM_TRAFFIC_H_

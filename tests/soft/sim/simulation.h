// Some devices, some connections between them, a network and a clock, all of
// them drawn from a seed; a run of it until nothing moves any more.
#ifndef ND_TESTS_SOFT_SIM_SIMULATION_H_
#define ND_TESTS_SOFT_SIM_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "soft/sim/device.h"
#include "soft/sim/network.h"
#include "soft/sim/stream.h"

namespace nd::soft {

// What the run is for.
enum class Weather : uint8_t {
  kFair,       // every work must succeed
  kDefective,  // one work is wrong and ends its connection
  kFoul,       // too much is lost for the retries
  kCut,        // the network goes away for good
  kAborted,    // an application gives a connection up
};

// One thread, one run.
class Simulation {
 public:
  explicit Simulation(uint64_t seed);
  ~Simulation();

  // What went wrong, nothing if all is well.
  Findings Run();

  uint64_t packets() const { return network_->sent(); }

 private:
  struct Endpoint;

  // Building.
  void DrawNetwork();
  void Connect(size_t number);
  QpAttributes DrawAttributes();
  std::unique_ptr<Endpoint> MakeEndpoint(size_t device);
  std::unique_ptr<Stream> MakeStream(const std::string& name, size_t number,
                                     const QpAttributes& attributes);
  void Schedule();
  void ScheduleReceives(Endpoint& endpoint, size_t largest);
  void ScheduleCuts();
  void ScheduleMoves();
  void ScheduleDrain(Endpoint& endpoint);
  void Move(Endpoint& endpoint, QpState to);
  Instant Soon(Duration within);

  // Running.
  bool Step();
  void Deliver(const Datagram& datagram);
  void PostSends(Endpoint& endpoint);
  void Pump(Endpoint& endpoint);
  void CheckEnd();

  SeededRandom random_;
  Weather weather_ = Weather::kFair;
  bool may_lose_ = false;
  Instant now_{};
  Findings findings_;
  std::unique_ptr<SimNetwork> network_;
  std::unique_ptr<SimOutbox> outbox_;
  std::multimap<Instant, std::function<void()>> agenda_;
  std::vector<SharedCounter> counters_;             // a device
  std::vector<std::unique_ptr<SimReceives>> srqs_;  // a device; null: none
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_SIM_SIMULATION_H_

// UC and UD queue pairs of the device in the simulation: random work of random
// applications, a network that loses, repeats, reorders, corrupts and falls
// into parts, and for each packet that arrives what must come of it.
#ifndef ND_TESTS_SOFT_SIM_UNRELIABLE_H_
#define ND_TESTS_SOFT_SIM_UNRELIABLE_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "soft/device/queue_pair.h"
#include "soft/sim/device.h"
#include "soft/sim/network.h"

namespace nd::soft {

// What must come of a packet is known from which packet of which message it is,
// and not from its PSN: a message arrives if its packets arrive one behind the
// other with none between them, and a receive is there when it needs one. What
// a packet leaves in memory is kept beside the memory itself, all of which is
// compared in the end. One thread, one run.
class UnreliableSimulation {
 public:
  explicit UnreliableSimulation(uint64_t seed);
  ~UnreliableSimulation();

  // What went wrong, nothing if all is well.
  Findings Run();

  uint64_t packets() const { return network_->sent(); }
  // Messages that arrived, and packets that did not make one.
  uint64_t received() const { return received_; }
  uint64_t dropped() const { return dropped_; }
  // Messages from a node that arrived at another one after one of the two had
  // been cut off from the rest.
  uint64_t received_afterwards() const { return received_afterwards_; }

 private:
  struct Message;
  struct Receive;
  class Node;
  class Wire;
  // A packet of a message.
  struct Part {
    const Node& from;
    const Message& message;
    uint32_t index = 0;
    size_t wire_bytes = 0;  // BTH to pad
  };

  // Building.
  void DrawNetwork();
  void Connect();
  void DrawMessages(Node& node);
  Message DrawMessage(const Node& from);
  void DrawReceives(Node& node);
  void Schedule(Node& node);
  void SchedulePartition(Node& node);

  // Running.
  bool Step();
  void PostReceive(Node& node);
  void Post(Node& node);
  bool PostOne(Node& node);
  void Pump(Node& node);
  void GoOn(Node& node);
  void GiveUp(Node& node);
  void Deliver(const Datagram& datagram);

  // What must come of a packet: a completion, perhaps.
  std::optional<ibv_wc> OnDatagram(Node& to, const Part& part);
  std::optional<ibv_wc> OnPart(Node& to, const Part& part);
  static bool TakeReceive(Node& to);
  static void Copy(const Part& part, uint32_t from, uint32_t bytes, Node& to,
                   size_t offset);
  ibv_wc Completion(Node& to, const Part& part);

  // Comparing.
  void CheckSent(Node& node);
  void PassOver(Node& node, uint64_t end);
  void CheckFlushed(Node& node);
  void Compare(Node& to, const std::optional<ibv_wc>& expected);
  void Find(const std::string& what) { findings_.push_back(what); }

  SeededRandom random_;
  const Transport transport_;
  const uint32_t mtu_bytes_;
  Instant now_{};
  Findings findings_;
  uint64_t received_ = 0;
  uint64_t dropped_ = 0;
  uint64_t received_afterwards_ = 0;
  std::unique_ptr<SimNetwork> network_;
  std::multimap<Instant, std::function<void()>> agenda_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_SIM_UNRELIABLE_H_

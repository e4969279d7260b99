#include "nd/reactor.h"

#include <utility>

#include "base/status.h"
#include "transport/endpoint/hub.h"
#include "transport/reactor/engine.h"

namespace nd {

absl::StatusOr<std::unique_ptr<Reactor>> Reactor::Create(
    const Options& options) {
  ND_ASSIGN_OR_RETURN(std::unique_ptr<transport::Engine> engine,
                      transport::Engine::Create({.progress = options.progress,
                                                 .spin = options.spin}));
  const auto budget = [](const char* name, uint64_t bytes) {
    return std::make_shared<transport::Budget>(name, bytes);
  };
  return std::unique_ptr<Reactor>(new Reactor(std::make_unique<transport::Hub>(
      std::move(engine),
      transport::ClientMemory{
          .send = budget("send memory of all sessions of the reactor",
                         options.send_memory),
          .receive = budget("receive memory of all sessions of the reactor",
                            options.receive_memory)})));
}

Reactor::Reactor(std::unique_ptr<transport::Hub> hub) : hub_(std::move(hub)) {}

Reactor::~Reactor() = default;

absl::Status Reactor::Start() { return hub_->engine().Start(); }
void Reactor::Run() { hub_->engine().Run(); }
void Reactor::Stop() { hub_->engine().Stop(); }
bool Reactor::Poll() { return hub_->engine().Poll(); }
int Reactor::fd() const { return hub_->engine().fd(); }

std::optional<std::chrono::steady_clock::time_point> Reactor::PrepareToSleep() {
  return hub_->engine().PrepareToSleep();
}

}  // namespace nd

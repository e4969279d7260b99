// Calls with answers, as coroutines: many at a time on one thread.
//
//   rpc                 server and client in one process
//   rpc server ADDRESS, rpc client ADDRESS
#include <nd/coroutine.h>
#include <nd/reactor.h>
#include <nd/server.h>
#include <nd/session.h>
#include <nd/stream.h>

#include <cstring>
#include <iostream>
#include <memory>
#include <span>
#include <string>

namespace {

using namespace std::chrono_literals;
constexpr int kCallers = 16;
constexpr uint64_t kCalls = 1000;  // of each

// Answers each number with its square.
nd::Detached Answer(nd::Stream stream) {
  for (;;) {
    absl::StatusOr<nd::Message> call = co_await nd::Receive(stream);
    if (!call.ok() || call->size() != sizeof(uint64_t)) co_return;
    uint64_t number = 0;
    std::memcpy(&number, call->bytes().data(), sizeof(number));
    number *= number;
    if (!(co_await nd::Send(stream, std::as_bytes(std::span(&number, 1))))
             .ok()) {
      co_return;
    }
  }
}

nd::Detached Serve(nd::Session session) {
  for (;;) {
    absl::StatusOr<nd::Stream> stream = co_await nd::Accept(session);
    if (!stream.ok()) co_return;  // the client has left
    Answer(*std::move(stream));
  }
}

nd::Detached Call(nd::Stream stream, uint64_t first, uint64_t& right,
                  int& callers) {
  for (uint64_t i = first; i < first + kCalls; ++i) {
    absl::Status sent =
        co_await nd::Send(stream, std::as_bytes(std::span(&i, 1)));
    if (!sent.ok()) break;
    absl::StatusOr<nd::Message> answer = co_await nd::Receive(stream);
    uint64_t square = 0;
    if (!answer.ok() || answer->size() != sizeof(square)) break;
    std::memcpy(&square, answer->bytes().data(), sizeof(square));
    right += square == i * i ? 1 : 0;
  }
  --callers;
}

int Client(nd::Reactor& reactor, const std::string& server) {
  auto session = nd::Session::Connect(reactor, server, {.name = "rpc"}, 10s);
  if (!session.ok()) return std::cerr << session.status() << "\n", 1;
  uint64_t right = 0;
  int callers = kCallers;
  for (int i = 0; i < kCallers; ++i) {
    auto stream = session->Open(nd::StreamClass::kLatency, "rpc", 1s);
    if (!stream.ok()) return std::cerr << stream.status() << "\n", 1;
    Call(*std::move(stream), kCalls * static_cast<uint64_t>(i), right, callers);
  }
  // The callers count down. NOLINTNEXTLINE(bugprone-infinite-loop)
  while (callers > 0) reactor.Poll();
  std::cout << right << " of " << kCallers * kCalls << " answers are right\n";
  return right == kCallers * kCalls ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "both";
  std::string address = argc > 2 ? argv[2] : "127.0.0.1:0";
  auto reactor = nd::Reactor::Create({}), others = nd::Reactor::Create({});
  if (!reactor.ok() || !others.ok()) return 1;
  if (role == "client") return Client(**reactor, address);
  auto server = nd::Server::Start({others->get()},
                                  {.address = address, .on_session = Serve});
  if (!server.ok()) return std::cerr << server.status() << "\n", 1;
  if (role == "server") (*others)->Run();
  if (!(*others)->Start().ok()) return 1;
  return Client(**reactor, (*server)->address());
}

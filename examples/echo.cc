// Echo, with calls that block.
//
//   echo server 10.0.0.2:7600
//   echo client 10.0.0.2:7600
//   echo                          both, in one process
#include <nd/reactor.h>
#include <nd/server.h>
#include <nd/session.h>
#include <nd/stream.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;

// Returns each message of one stream to its sender.
absl::Status Serve(nd::Server& server) {
  absl::StatusOr<nd::Session> session = server.Accept(1h);
  if (!session.ok()) return session.status();
  absl::StatusOr<nd::Stream> stream = session->Accept(1min);
  if (!stream.ok()) return stream.status();
  for (;;) {
    absl::StatusOr<nd::Message> message = stream->Receive(1min);
    if (absl::IsOutOfRange(message.status())) break;  // the client's last
    if (!message.ok()) return message.status();
    if (absl::Status sent = stream->Send(message->bytes(), 1s); !sent.ok()) {
      return sent;
    }
  }
  stream->Finish();
  return session->Close(10s);
}

absl::Status Ask(nd::Reactor& reactor, const std::string& server) {
  absl::StatusOr<nd::Session> session =
      nd::Session::Connect(reactor, server, {.name = "echo"}, 10s);
  if (!session.ok()) return session.status();
  absl::StatusOr<nd::Stream> stream =
      session->Open(nd::StreamClass::kLatency, "echo", 1s);
  if (!stream.ok()) return stream.status();
  for (const std::string word : {"one", "two", "three"}) {
    const auto start = std::chrono::steady_clock::now();
    absl::Status sent = stream->Send(std::as_bytes(std::span(word)), 1s);
    if (!sent.ok()) return sent;
    absl::StatusOr<nd::Message> answer = stream->Receive(1s);
    if (!answer.ok()) return answer.status();
    const std::chrono::duration<double, std::micro> took =
        std::chrono::steady_clock::now() - start;
    std::cout.write(reinterpret_cast<const char*>(answer->bytes().data()),
                    static_cast<std::streamsize>(answer->size()))
        << ": " << took.count() << " us\n";
  }
  stream->Finish();
  return session->Close(10s);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "both";
  std::string address = argc > 2 ? argv[2] : "127.0.0.1:0";
  auto reactor = nd::Reactor::Create({}), others = nd::Reactor::Create({});
  absl::Status end = reactor.status();
  absl::StatusOr<std::unique_ptr<nd::Server>> server = nullptr;
  if (role != "client" && others.ok()) {
    server = nd::Server::Start({others->get()}, {.address = address});
    if (server.ok()) address = (*server)->address();
    end = server.status();
    if (end.ok() && role == "server") end = Serve(**server);
  }
  if (end.ok() && role == "client") end = Ask(**reactor, address);
  if (end.ok() && role == "both") {
    if (absl::Status started = (*others)->Start(); !started.ok()) return 1;
    std::thread serving([&] { std::cout << Serve(**server) << "\n"; });
    end = Ask(**reactor, address);
    serving.join();
  }
  std::cout << end << "\n";
  return end.ok() ? 0 : 1;
}

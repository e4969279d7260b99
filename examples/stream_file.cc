// A file over a bulk stream, in pieces, with progress.
//
//   stream_file receive 10.0.0.2:7600 COPY
//   stream_file send 10.0.0.2:7600 FILE     (without arguments: both, of
//   itself)
#include <nd/reactor.h>
#include <nd/server.h>
#include <nd/session.h>
#include <nd/stream.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {
using namespace std::chrono_literals;
constexpr size_t kPiece = 4 << 20;  // bytes of a message
constexpr size_t kAhead = 4;        // messages under way

absl::Status SendFile(nd::Reactor& reactor, const std::string& server,
                      const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(path);
  auto session = nd::Session::Connect(reactor, server, {.name = "file"}, 10s);
  if (!session.ok()) return session.status();
  auto stream = session->Open(nd::StreamClass::kBulk, "file", 1s);
  if (!stream.ok()) return stream.status();
  std::vector<std::byte> buffers(kAhead * kPiece);
  auto memory = session->Register(buffers, nd::MemoryUse::kLocal);
  if (!memory.ok()) return memory.status();
  std::array<nd::SendOperation, kAhead> sends;
  const auto start = std::chrono::steady_clock::now();
  uint64_t bytes = 0;
  absl::Status all;
  for (size_t i = 0; file; i = (i + 1) % kAhead) {  // each with its buffer
    if (all = stream->Await(sends[i]); !all.ok()) break;
    file.read(reinterpret_cast<char*>(&buffers[i * kPiece]), kPiece);
    const auto got = static_cast<size_t>(file.gcount());
    sends[i].set_piece(memory->Source(i * kPiece, got));
    stream->Send(sends[i]);
    bytes += got;
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    std::printf("\r%8.1f MB, %6.3f GB/s", static_cast<double>(bytes) / 1e6,
                static_cast<double>(bytes) / 1e9 / took.count());
  }
  for (const auto& send : sends) all.Update(stream->Await(send));
  std::printf("\n");
  if (!all.ok()) return all;
  stream->Finish();
  return session->Close(30s);
}

absl::Status ReceiveFile(nd::Server& server, const std::string& path) {
  std::ofstream copy(path, std::ios::binary);
  absl::StatusOr<nd::Session> session = server.Accept(1h);
  if (!session.ok()) return session.status();
  absl::StatusOr<nd::Stream> stream = session->Accept(1min);
  if (!stream.ok()) return stream.status();
  for (;;) {
    absl::StatusOr<nd::Message> piece = stream->Receive(1min);
    if (absl::IsOutOfRange(piece.status())) break;  // the last
    if (!piece.ok()) return piece.status();
    copy.write(reinterpret_cast<const char*>(piece->bytes().data()),
               static_cast<std::streamsize>(piece->size()));
  }
  if (!copy.flush()) return absl::DataLossError(path);
  return session->Close(30s);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string role = argc > 3 ? argv[1] : "both";
  std::string address = argc > 3 ? argv[2] : "127.0.0.1:0";
  auto reactor = nd::Reactor::Create({}), others = nd::Reactor::Create({});
  absl::Status sent, received;
  absl::StatusOr<std::unique_ptr<nd::Server>> server = nullptr;
  const std::string file = argc > 3 ? argv[3] : "/dev/null";
  std::thread receiving;
  if (role != "send" && (*others)->Start().ok()) {
    server = nd::Server::Start({others->get()}, {.address = address});
    if (!server.ok()) return std::cerr << server.status() << "\n", 1;
    address = (*server)->address();
    receiving = std::thread([&] { received = ReceiveFile(**server, file); });
  }
  if (role != "receive") {
    sent = SendFile(**reactor, address, role == "send" ? file : argv[0]);
  }
  if (receiving.joinable()) receiving.join();
  sent.Update(received);
  return std::cout << sent << "\n", sent.ok() ? 0 : 1;
}

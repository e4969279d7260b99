// A table that clients read without its server's help: a look-up is an RDMA
// READ of a published region. Both ends are in this process.
#include <nd/reactor.h>
#include <nd/server.h>
#include <nd/session.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <string_view>
#include <thread>

using namespace std::chrono_literals;

namespace {

// A READ may meet a write that is half done: what it brings proves itself.
struct Entry {
  std::array<char, 16> key{};
  std::array<char, 40> value{};
  uint64_t check = Digest();

  uint64_t Digest() const {
    return std::hash<std::string_view>()({key.data(), offsetof(Entry, check)});
  }
};
using Table = std::array<Entry, 64>;

size_t PlaceOf(std::string_view key) {
  return std::hash<std::string_view>()(key) % Table().size();
}

void Put(Table& table, std::string_view key, std::string_view value) {
  Entry& entry = table[PlaceOf(key)] = {};
  key.copy(entry.key.data(), entry.key.size() - 1);
  value.copy(entry.value.data(), entry.value.size() - 1);
  entry.check = entry.Digest();
}

// The table outlives the session.
absl::Status Serve(nd::Server& server, Table& table) {
  absl::StatusOr<nd::Session> session = server.Accept(1h);
  if (!session.ok()) return session.status();
  auto region = session->Publish("kv", std::as_writable_bytes(std::span(table)),
                                 {.read = true}, 5s);
  if (!region.ok()) return region.status();
  auto ready = session->Open(nd::StreamClass::kLatency, "ready", 1s);
  if (!ready.ok()) return ready.status();
  absl::Status end = ready->Receive(1h).status();  // the client finishes it
  return absl::IsOutOfRange(end) ? session->Close(10s) : end;
}

absl::Status Ask(nd::Reactor& reactor, const std::string& server) {
  auto session = nd::Session::Connect(reactor, server, {.name = "kv"}, 10s);
  if (!session.ok()) return session.status();
  absl::StatusOr<nd::Stream> ready = session->Accept(10s);
  if (!ready.ok()) return ready.status();
  absl::StatusOr<nd::RemoteRegion> table = session->Lookup("kv", 1s);
  if (!table.ok()) return table.status();
  for (const std::string_view key : {"apple", "pear", "plum"}) {
    Entry entry;
    do {
      absl::Status read =
          session->Read(*table, PlaceOf(key) * sizeof(Entry),
                        std::as_writable_bytes(std::span(&entry, 1)), 1s);
      if (!read.ok()) return read;
    } while (entry.check != entry.Digest());
    const bool found = key == entry.key.data();
    std::cout << key << ": " << (found ? entry.value.data() : "none") << "\n";
  }
  ready->Finish();
  return session->Close(10s);
}

}  // namespace

int main() {
  auto reactor = nd::Reactor::Create({}), others = nd::Reactor::Create({});
  absl::Status end = reactor.ok() ? others.status() : reactor.status();
  if (end.ok()) end = (*others)->Start();
  if (!end.ok()) return std::cout << end << "\n", 1;
  auto server = nd::Server::Start({others->get()}, {});
  if (!server.ok()) return std::cout << server.status() << "\n", 1;
  Table table;
  Put(table, "apple", "red");
  Put(table, "plum", "blue");
  absl::Status served;
  std::thread serving([&] { served = Serve(**server, table); });
  end = Ask(**reactor, (*server)->address());
  serving.join();
  std::cout << "client " << end << ", server " << served << "\n";
  return end.ok() && served.ok() ? 0 : 1;
}

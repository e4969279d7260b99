#include "soft/net/bench.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/wait.h"

namespace nd::soft {
namespace {

constexpr Duration kPatience = std::chrono::seconds(20);

}  // namespace

Child::Child(const std::function<void()>& body) : pid_(fork()) {
  if (pid_ != 0) return;
  body();
  _exit(0);
}

void Child::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int Child::Wait() {
  int status = -1;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void Collector::OnArrival(const Arrival& arrival) {
  const auto payload = arrival.packet.payload;
  Arrived& added = arrived.emplace_back(
      Arrived{.path = arrival.path,
              .bth = arrival.packet.bth,
              .packets = arrival.packet.packets,
              .payload = {payload.begin(), payload.end()}});
  if (arrival.packet.far == nullptr) return;
  added.far = true;
  added.payload.resize(arrival.packet.far->size());
  const std::span<std::byte> whole(added.payload);
  const std::array pieces = {whole.first(1), whole.subspan(1)};
  added.lost = !arrival.packet.far->CopyTo(pieces);
}

Gid Localhost(uint8_t last) {
  Gid gid = kAnyIpv4;
  gid[12] = 127;
  gid[15] = last;
  return gid;
}

Qpn QpnOf(uint32_t slot, uint32_t index) {
  return Qpn{slot << kQpnIndexBits | index};
}

std::vector<std::byte> Payload(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom(seed).Fill(bytes);
  return bytes;
}

void SendTo(Network& network, const Path& path, Qpn destination, uint32_t psn,
            size_t size, uint8_t packets) {
  std::vector<std::byte> bytes = Payload(size, psn);
  const Segment segment(bytes);
  Outgoing outgoing;
  outgoing.packet.bth = {.opcode = Opcode::kRcSendOnly,
                         .pad = PadFor(size),
                         .destination = destination,
                         .psn = Psn(psn)};
  outgoing.packet.packets = packets;
  outgoing.payload = {.segments = {&segment, 1}, .length = size};
  network.Send(path, outgoing);
}

void Lend(Network& network, const Path& path, Qpn destination, uint32_t psn,
          std::span<std::byte> bytes, const LoanWord& word) {
  const Segment segment(bytes);
  Outgoing outgoing;
  outgoing.packet.bth = {.opcode = Opcode::kRcSendOnly,
                         .pad = PadFor(bytes.size()),
                         .destination = destination,
                         .psn = Psn(psn)};
  outgoing.packet.packets = static_cast<uint8_t>((bytes.size() + 1023) / 1024);
  outgoing.payload = {.segments = {&segment, 1}, .length = bytes.size()};
  outgoing.loan = &word;
  network.Send(path, outgoing);
}

CmReq Request(CommId id, uint64_t service_id) {
  CmReq req;
  req.local_id = id;
  req.service_id = service_id;
  return req;
}

void SendMad(Network& network, const Path& path, const CmMessage& message) {
  std::array<std::byte, kMadBytes> bytes{};
  WriteCmMad({.transaction_id = 1, .message = message}, bytes);
  const Segment segment(bytes);
  Outgoing outgoing;
  outgoing.packet.bth = {
      .opcode = Opcode::kUdSendOnly, .destination = kGsiQpn, .psn = {}};
  outgoing.packet.deth = {.qkey = kGsiQkey, .source = kGsiQpn};
  outgoing.payload = {.segments = {&segment, 1}, .length = bytes.size()};
  network.Send(path, outgoing);
}

CmMessage MessageOf(const Arrived& arrived) {
  const auto mad = ParseCmMad(arrived.payload);
  return mad.has_value() ? mad->message : CmMessage();
}

bool IsIntact(const Arrived& arrived, size_t size) {
  return arrived.payload == Payload(size, arrived.bth.psn.value());
}

std::string FreshPrefix() {
  static std::atomic<int> count = 0;
  return absl::StrCat("nd-soft-test/", getpid(), "/", ++count);
}

std::unique_ptr<HostNetwork> OpenNetwork(const HostNetworkOptions& options,
                                         const Gid& local) {
  SystemRandom random;
  auto network = HostNetwork::Open(options, random);
  if (!network.ok()) {
    std::cerr << network.status() << std::endl;
    std::abort();
  }
  (*network)->SetLocalGids({local});
  return *std::move(network);
}

size_t Process::Receive() {
  return network->Receive(Clock::Monotonic().Now(), sink);
}

bool ReceiveUntil(std::span<Process* const> processes,
                  const std::function<bool()>& done) {
  const Deadline deadline = Deadline::After(kPatience);
  while (!done()) {
    for (Process* const process : processes) process->Receive();
    if (deadline.Passed()) return done();
  }
  return true;
}

bool WaitFor(const Network& network) {
  return WaitReadable(network.fd(), Deadline::After(kPatience), nullptr).ok();
}

bool IsReadable(const Network& network) {
  pollfd poll_fd{.fd = network.fd(), .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) == 1;
}

}  // namespace nd::soft

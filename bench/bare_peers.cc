// What the soft device is measured against, bare: two processes that pass a
// cache line to and fro, memcpy, two processes that copy into and out of shared
// memory, and a stream of UDP datagrams.
//
// usage: bare_peers pingpong ROUNDS      ns of half a round trip, the median
//        bare_peers memcpy BYTES         bytes/s, of a copy of so many bytes
//        bare_peers copies BYTES CPU CPU bytes/s, by a process at each CPU
//        bare_peers udp-sink PORT        prints bytes/s once the source is done
//        bare_peers udp-source HOST PORT DATAGRAM_BYTES SECONDS
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <vector>

namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

// One direction: 56 bytes and the number of their message, in one cache line.
struct alignas(128) Mailbox {
  std::atomic<uint64_t> number{0};
  std::array<char, 56> bytes{};
};

void Put(Mailbox& box, uint64_t number, const std::array<char, 56>& bytes) {
  box.bytes = bytes;
  box.number.store(number, std::memory_order_release);
}

void Take(Mailbox& box, uint64_t number, std::array<char, 56>& bytes) {
  while (box.number.load(std::memory_order_acquire) != number) continue;
  bytes = box.bytes;
}

int PingPong(uint64_t rounds) {
  void* const memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Die("mmap");
  auto* const boxes = new (memory) Mailbox[2];
  std::array<char, 56> bytes{};
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child == 0) {
    for (uint64_t i = 1; i <= rounds; ++i) {
      Take(boxes[0], i, bytes);
      Put(boxes[1], i, bytes);
    }
    _exit(0);
  }
  std::vector<double> halves;
  halves.reserve(rounds);
  for (uint64_t i = 1; i <= rounds; ++i) {
    const auto start = SteadyClock::now();
    Put(boxes[0], i, bytes);
    Take(boxes[1], i, bytes);
    halves.push_back(SecondsSince(start) * 1e9 / 2);
  }
  waitpid(child, nullptr, 0);
  const auto median = halves.begin() + static_cast<ptrdiff_t>(rounds / 2);
  std::nth_element(halves.begin(), median, halves.end());
  std::printf("%.1f\n", *median);
  return 0;
}

int Memcpy(size_t bytes) {
  std::vector<char> from(bytes, 1), to(bytes, 2);
  const auto start = SteadyClock::now();
  size_t copied = 0;
  while (SecondsSince(start) < 1) {
    for (int i = 0; i < 64; ++i, copied += bytes) {
      std::memcpy(to.data(), from.data(), bytes);
      asm volatile("" : : "r"(to.data()) : "memory");
    }
  }
  std::printf("%.0f\n", static_cast<double>(copied) / SecondsSince(start));
  return 0;
}

void RunAt(const char* cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(std::strtoul(cpu, nullptr, 10), &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) Die("sched_setaffinity");
}

// Messages of so many bytes through slots that both processes map.
int Copies(size_t bytes, const char* writer_cpu, const char* reader_cpu) {
  constexpr size_t kSlotBytes = 32 << 10, kSlots = 8;
  struct Ring {
    alignas(128) std::atomic<uint64_t> written{0};
    alignas(128) std::atomic<uint64_t> read{0};
    alignas(128) std::array<std::array<char, kSlotBytes>, kSlots> slots;
  };
  void* const memory = mmap(nullptr, sizeof(Ring), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Die("mmap");
  auto* const ring = new (memory) Ring;
  const size_t pieces = std::max<size_t>(bytes / kSlotBytes, 1);
  std::vector<char> message(pieces * kSlotBytes, 1);
  const pid_t child = fork();
  if (child < 0) Die("fork");
  RunAt(child == 0 ? reader_cpu : writer_cpu);
  if (child == 0) {
    for (uint64_t i = 0;; ++i) {
      while (ring->written.load(std::memory_order_acquire) == i) continue;
      std::memcpy(&message[i % pieces * kSlotBytes],
                  ring->slots[i % kSlots].data(), kSlotBytes);
      ring->read.store(i + 1, std::memory_order_release);
    }
  }
  const auto start = SteadyClock::now();
  uint64_t written = 0;
  while (SecondsSince(start) < 1) {
    for (size_t piece = 0; piece < pieces; ++piece, ++written) {
      while (written - ring->read.load(std::memory_order_acquire) == kSlots) {
        continue;
      }
      std::memcpy(ring->slots[written % kSlots].data(),
                  &message[piece * kSlotBytes], kSlotBytes);
      ring->written.store(written + 1, std::memory_order_release);
    }
  }
  std::printf("%.0f\n",
              static_cast<double>(written * kSlotBytes) / SecondsSince(start));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return 0;
}

constexpr size_t kMostUdpBytes = 65000;

int UdpSink(const char* port) {
  const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(std::atoi(port)));
  const int on = 1, buffer = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
  setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    Die("bind");
  }
  std::vector<char> bytes(1 << 16);
  size_t received = 0;
  SteadyClock::time_point start, last;
  for (;;) {
    pollfd poll_fd{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&poll_fd, 1, received == 0 ? 20000 : 300) <= 0) break;
    const ssize_t size = recv(fd, bytes.data(), bytes.size(), 0);
    if (size <= 0) continue;
    last = SteadyClock::now();
    if (received == 0) start = last;
    received += static_cast<size_t>(size);
  }
  if (received == 0) return 1;
  std::printf("%.0f\n",
              static_cast<double>(received) /
                  std::chrono::duration<double>(last - start).count());
  return 0;
}

int UdpSource(const char* host, const char* port, size_t datagram,
              double seconds) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host, port, &hints, &found) != 0) Die("getaddrinfo");
  const int fd = socket(found->ai_family, SOCK_DGRAM, 0);
  const int segment = static_cast<int>(datagram);
  if (connect(fd, found->ai_addr, found->ai_addrlen) != 0 ||
      setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) != 0) {
    Die("UDP socket with segmentation offload");
  }
  const std::vector<char> bytes(kMostUdpBytes / datagram * datagram, 1);
  const auto start = SteadyClock::now();
  while (SecondsSince(start) < seconds) {
    if (send(fd, bytes.data(), bytes.size(), 0) < 0) sched_yield();
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "pingpong" && argc == 3) {
    return PingPong(std::strtoull(argv[2], nullptr, 10));
  }
  if (what == "memcpy" && argc == 3) {
    return Memcpy(std::strtoull(argv[2], nullptr, 10));
  }
  if (what == "copies" && argc == 5) {
    return Copies(std::strtoull(argv[2], nullptr, 10), argv[3], argv[4]);
  }
  if (what == "udp-sink" && argc == 3) return UdpSink(argv[2]);
  if (what == "udp-source" && argc == 6) {
    return UdpSource(argv[2], argv[3], std::strtoull(argv[4], nullptr, 10),
                     std::atof(argv[5]));
  }
  std::fprintf(stderr,
               "usage: bare_peers pingpong ROUNDS | memcpy BYTES |\n"
               "       copies BYTES CPU CPU |\n"
               "       udp-sink PORT | udp-source HOST PORT BYTES SECONDS\n");
  return 2;
}

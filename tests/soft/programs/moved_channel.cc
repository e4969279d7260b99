// A program that moves rdma_cm's descriptor out of the way, as daemons and
// interpreters do: duplicates it by fcntl, closes the first one, and opens a
// file of its own under that number. Events and commands go on at the other.
//
// usage: moved_channel. Ends with 0, or says what was wrong.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kElsewhere = 100;
constexpr int kWaitMs = 5000;

void Must(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "moved_channel: %s: %m\n", what);
  _exit(1);
}

void Move(rdma_event_channel& channel) {
  const int first = channel.fd;
  channel.fd = fcntl(first, F_DUPFD_CLOEXEC, kElsewhere);
  Must(channel.fd >= kElsewhere, "F_DUPFD_CLOEXEC");
  Must(close(first) == 0, "close");
  Must(open("/dev/null", O_RDWR | O_CLOEXEC) == first, "a file of its own");
}

void Resolve(rdma_event_channel& channel, rdma_cm_id& id, uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Must(rdma_resolve_addr(&id, nullptr, reinterpret_cast<sockaddr*>(&to),
                         kWaitMs) == 0,
       "rdma_resolve_addr");
  pollfd wait{.fd = channel.fd, .events = POLLIN, .revents = 0};
  Must(poll(&wait, 1, kWaitMs) == 1, "an event");
  rdma_cm_event* event = nullptr;
  Must(rdma_get_cm_event(&channel, &event) == 0, "rdma_get_cm_event");
  Must(event->event == RDMA_CM_EVENT_ADDR_RESOLVED, "ADDR_RESOLVED");
  Must(rdma_ack_cm_event(event) == 0, "rdma_ack_cm_event");
  Must(poll(&wait, 1, 0) == 0, "an event too many");
}

}  // namespace

int main() {
  alarm(30);
  rdma_event_channel* const channel = rdma_create_event_channel();
  Must(channel != nullptr, "rdma_create_event_channel");
  rdma_cm_id* before = nullptr;
  Must(rdma_create_id(channel, &before, nullptr, RDMA_PS_TCP) == 0, "an id");
  Move(*channel);
  rdma_cm_id* after = nullptr;
  Must(rdma_create_id(channel, &after, nullptr, RDMA_PS_TCP) == 0,
       "an id of the channel that moved");
  Resolve(*channel, *before, 7001);
  Resolve(*channel, *after, 7002);
  Must(rdma_destroy_id(before) == 0, "rdma_destroy_id");
  Must(rdma_destroy_id(after) == 0, "rdma_destroy_id");
  rdma_destroy_event_channel(channel);
  return 0;
}

#include "verbs/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/status.h"

namespace nd::verbs {
namespace {

// Lookups that a silent name server may hold at once; each has a thread.
constexpr int kMaxLookups = 64;
std::atomic<int> lookups_under_way{0};

struct AddrInfoDeleter {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

// What the caller and its helper thread share: whichever is last frees it.
// `done` becomes readable after `error`, `saved_errno` and `list` were set.
struct Lookup {
  std::string host;
  Fd done;
  int error = 0;
  int saved_errno = 0;
  std::unique_ptr<addrinfo, AddrInfoDeleter> list;
};

void RunLookup(Lookup& lookup) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;  // or each address comes once per protocol
  addrinfo* list = nullptr;
  lookup.error = getaddrinfo(lookup.host.c_str(), nullptr, &hints, &list);
  lookup.saved_errno = errno;
  if (lookup.error == 0) lookup.list.reset(list);
  lookups_under_way.fetch_sub(1, std::memory_order_relaxed);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      write(lookup.done.get(), &one, sizeof(one));
}

absl::Status StartLookup(const std::shared_ptr<Lookup>& lookup) {
  if (lookups_under_way.fetch_add(1, std::memory_order_relaxed) >=
      kMaxLookups) {
    lookups_under_way.fetch_sub(1, std::memory_order_relaxed);
    return absl::ResourceExhaustedError(absl::StrCat(
        kMaxLookups, " lookups are under way: the name server is silent"));
  }
  try {
    std::thread([lookup] { RunLookup(*lookup); }).detach();
  } catch (const std::system_error& error) {
    lookups_under_way.fetch_sub(1, std::memory_order_relaxed);
    return ErrnoStatus(error.code().value(), "starting a thread");
  }
  return absl::OkStatus();
}

absl::Status LookupError(const Lookup& lookup) {
  const char* const text = gai_strerror(lookup.error);
  switch (lookup.error) {
    case EAI_SYSTEM:
      return ErrnoStatus(lookup.saved_errno, "getaddrinfo");
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
      return absl::NotFoundError(text);
    case EAI_MEMORY:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

absl::StatusOr<uint32_t> ParseScope(const std::string& scope) {
  uint32_t index = if_nametoindex(scope.c_str());
  if (index != 0 || (absl::SimpleAtoi(scope, &index) && index != 0)) {
    return index;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", scope, "\" is no network interface of this host"));
}

}  // namespace

SocketAddress::SocketAddress() : storage_() { storage_.ss_family = AF_INET; }

absl::StatusOr<SocketAddress> SocketAddress::From(const sockaddr& address) {
  SocketAddress result;
  switch (address.sa_family) {
    case AF_INET:
      std::memcpy(&result.storage_, &address, sizeof(sockaddr_in));
      return result;
    case AF_INET6:
      std::memcpy(&result.storage_, &address, sizeof(sockaddr_in6));
      return result;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "address family ", address.sa_family, " is neither IPv4 nor IPv6"));
  }
}

absl::StatusOr<SocketAddress> SocketAddress::Parse(absl::string_view host,
                                                   uint16_t port) {
  const size_t percent = host.find('%');
  const std::string text(host.substr(0, percent));
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (host.find('\0') != host.npos) {
    return absl::InvalidArgumentError("a host with a zero byte in it");
  }
  if (percent == host.npos &&
      inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return From(reinterpret_cast<const sockaddr&>(v4));
  }
  if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", host, "\" is no numeric address"));
  }
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (percent != host.npos) {
    ND_ASSIGN_OR_RETURN(v6.sin6_scope_id,
                        ParseScope(std::string(host.substr(percent + 1))));
  }
  return From(reinterpret_cast<const sockaddr&>(v6));
}

uint16_t SocketAddress::port() const {
  return ntohs(family() == AF_INET ? v4().sin_port : v6().sin6_port);
}

void SocketAddress::set_port(uint16_t port) {
  if (family() == AF_INET) {
    reinterpret_cast<sockaddr_in&>(storage_).sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6&>(storage_).sin6_port = htons(port);
  }
}

bool SocketAddress::is_wildcard() const {
  return family() == AF_INET ? v4().sin_addr.s_addr == htonl(INADDR_ANY)
                             : IN6_IS_ADDR_UNSPECIFIED(&v6().sin6_addr);
}

bool SocketAddress::is_loopback() const {
  return family() == AF_INET ? (ntohl(v4().sin_addr.s_addr) >> 24) == 127
                             : IN6_IS_ADDR_LOOPBACK(&v6().sin6_addr);
}

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    return inet_ntop(AF_INET, &v4().sin_addr, text, sizeof(text));
  }
  const std::string host =
      inet_ntop(AF_INET6, &v6().sin6_addr, text, sizeof(text));
  return v6().sin6_scope_id == 0 ? host
                                 : absl::StrCat(host, "%", v6().sin6_scope_id);
}

socklen_t SocketAddress::size() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::string SocketAddress::ToString() const {
  return family() == AF_INET ? absl::StrCat(host(), ":", port())
                             : absl::StrCat("[", host(), "]:", port());
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family() || a.port() != b.port()) return false;
  if (a.family() == AF_INET) {
    return a.v4().sin_addr.s_addr == b.v4().sin_addr.s_addr;
  }
  return IN6_ARE_ADDR_EQUAL(&a.v6().sin6_addr, &b.v6().sin6_addr) &&
         a.v6().sin6_scope_id == b.v6().sin6_scope_id;
}

absl::StatusOr<std::vector<SocketAddress>> ResolveHost(
    absl::string_view host, uint16_t port, const Deadline& deadline,
    const Cancellation* cancel) {
  if (host.empty() || host.find('\0') != host.npos) {
    return absl::InvalidArgumentError("an empty host name");
  }
  if (auto numeric = SocketAddress::Parse(host, port); numeric.ok()) {
    return std::vector<SocketAddress>{*numeric};
  }
  const std::string context = absl::StrCat("looking up \"", host, "\"");
  auto lookup = std::make_shared<Lookup>();
  lookup->host = std::string(host);
  lookup->done = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!lookup->done.valid()) {
    return Annotate(ErrnoStatus(errno, "eventfd"), context);
  }
  if (absl::Status started = StartLookup(lookup); !started.ok()) {
    return Annotate(started, context);
  }
  if (absl::Status waited = WaitReadable(lookup->done.get(), deadline, cancel);
      !waited.ok()) {
    return Annotate(waited, context);
  }
  // Orders this thread's reads after the helper's writes.
  uint64_t count = 0;
  if (read(lookup->done.get(), &count, sizeof(count)) < 0) {
    return Annotate(ErrnoStatus(errno, "eventfd"), context);
  }
  if (lookup->error != 0) return Annotate(LookupError(*lookup), context);

  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = lookup->list.get(); entry != nullptr;
       entry = entry->ai_next) {
    if (auto address = SocketAddress::From(*entry->ai_addr); address.ok()) {
      address->set_port(port);
      addresses.push_back(*address);
    }
  }
  if (addresses.empty()) {
    return absl::NotFoundError(absl::StrCat(context, ": no IP address"));
  }
  return addresses;
}

}  // namespace nd::verbs

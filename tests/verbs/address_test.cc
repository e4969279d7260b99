#include "verbs/address.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/until_true.h"

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// While set, lookups of "silent.test" find a name server that says nothing.
std::atomic<bool> name_server_is_silent{false};
std::atomic<int> silent_lookups{0};

}  // namespace

// Takes the place of the C library's, which looks up every other name.
extern "C" int getaddrinfo(const char* host, const char* service,
                           const addrinfo* hints, addrinfo** result) {
  using Function =
      int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto real =
      reinterpret_cast<Function>(dlsym(RTLD_NEXT, "getaddrinfo"));
  const std::string name = host;
  if (name == "unknown.test") return EAI_NONAME;
  if (name != "silent.test") return real(host, service, hints, result);
  ++silent_lookups;
  while (name_server_is_silent) std::this_thread::sleep_for(milliseconds(1));
  --silent_lookups;
  return EAI_AGAIN;
}

namespace nd::verbs {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

SocketAddress Address(absl::string_view host, uint16_t port) {
  return SocketAddress::Parse(host, port).value();
}

class SilentNameServer : public ::testing::Test {
 protected:
  SilentNameServer() { name_server_is_silent = true; }
  ~SilentNameServer() override {
    name_server_is_silent = false;
    EXPECT_TRUE(UntilTrue([] { return silent_lookups == 0; }).ok());
  }
};

TEST(SocketAddress, DefaultIsTheIpv4WildcardWithoutPort) {
  EXPECT_EQ(SocketAddress().ToString(), "0.0.0.0:0");
  EXPECT_TRUE(SocketAddress().is_wildcard());
}

TEST(SocketAddress, PrintsWhatItParsed) {
  EXPECT_EQ(Address("10.98.0.1", 9999).ToString(), "10.98.0.1:9999");
  EXPECT_EQ(Address("fd98::1", 9999).ToString(), "[fd98::1]:9999");
  EXPECT_EQ(Address("fe80::1%7", 1).ToString(), "[fe80::1%7]:1");
  EXPECT_EQ(Address("fe80::1%lo", 1).ToString(), "[fe80::1%1]:1");
}

TEST(SocketAddress, ParseRefusesWhatIsNoNumericAddress) {
  for (const absl::string_view bad :
       {"", "localhost", "10.98.0", "10.98.0.1%lo", "10.98.0.256", "fd98::1%",
        "fe80::1%nosuchif", "fe80::1%0", "[fd98::1]", "10.0.0.1 "}) {
    EXPECT_EQ(SocketAddress::Parse(bad, 1).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
  EXPECT_FALSE(
      SocketAddress::Parse(absl::string_view("10.0.0.1\0x", 10), 1).ok());
}

TEST(SocketAddress, FromRefusesOtherFamilies) {
  sockaddr_storage unix_address{};
  unix_address.ss_family = AF_UNIX;
  EXPECT_FALSE(
      SocketAddress::From(reinterpret_cast<sockaddr&>(unix_address)).ok());
}

TEST(SocketAddress, FromTakesWhatGetGives) {
  const SocketAddress v4 = Address("10.98.0.1", 9999);
  const SocketAddress v6 = Address("fe80::1%3", 9999);
  EXPECT_EQ(SocketAddress::From(*v4.get()).value(), v4);
  EXPECT_EQ(SocketAddress::From(*v6.get()).value(), v6);
  EXPECT_EQ(v4.size(), sizeof(sockaddr_in));
  EXPECT_EQ(v6.size(), sizeof(sockaddr_in6));
}

TEST(SocketAddress, ComparesFamilyHostScopeAndPort) {
  EXPECT_EQ(Address("fd98::1", 1), Address("fd98:0::0:1", 1));
  EXPECT_FALSE(Address("fd98::1", 1) == Address("fd98::1", 2));
  EXPECT_FALSE(Address("fd98::1", 1) == Address("fd98::2", 1));
  EXPECT_FALSE(Address("fe80::1%1", 1) == Address("fe80::1%2", 1));
  EXPECT_FALSE(Address("0.0.0.0", 1) == Address("::", 1));
}

TEST(SocketAddress, KnowsWildcardsAndLoopbacks) {
  EXPECT_TRUE(Address("::", 1).is_wildcard());
  EXPECT_FALSE(Address("::1", 1).is_wildcard());
  EXPECT_TRUE(Address("::1", 1).is_loopback());
  EXPECT_TRUE(Address("127.8.8.8", 1).is_loopback());
  EXPECT_FALSE(Address("128.0.0.1", 1).is_loopback());
}

TEST(SocketAddress, PortCanBeChanged) {
  SocketAddress v4 = Address("10.98.0.1", 1), v6 = Address("fd98::1", 1);
  v4.set_port(65535);
  v6.set_port(40000);
  EXPECT_EQ(v4.port(), 65535);
  EXPECT_EQ(v6.ToString(), "[fd98::1]:40000");
}

TEST(ResolveHost, NumericAddressNeedsNoTime) {
  const auto found =
      ResolveHost("fd98::1", 9999, Deadline::After(seconds(0)), nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(*found, ElementsAre(Address("fd98::1", 9999)));
}

TEST(ResolveHost, FindsEachAddressOfANameOnce) {
  const auto found =
      ResolveHost("localhost", 9999, Deadline::After(seconds(30)), nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(*found, Contains(Address("127.0.0.1", 9999)).Times(1));
}

TEST(ResolveHost, UnknownNameIsNotFound) {
  const auto found =
      ResolveHost("unknown.test", 1, Deadline::After(seconds(30)), nullptr);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()),
              HasSubstr("looking up \"unknown.test\""));
}

TEST(ResolveHost, EmptyNameIsInvalid) {
  EXPECT_EQ(
      ResolveHost("", 1, Deadline::After(seconds(1)), nullptr).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(SilentNameServer, DoesNotHoldTheDeadlineUp) {
  const auto found =
      ResolveHost("silent.test", 1, Deadline::After(milliseconds(20)), nullptr);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(found.status().message(), "looking up \"silent.test\"");
}

TEST_F(SilentNameServer, DoesNotHoldACancellationUp) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  std::jthread canceller([&cancel] {
    EXPECT_TRUE(UntilTrue([] { return silent_lookups > 0; }).ok());
    cancel->Cancel();
  });
  const auto found =
      ResolveHost("silent.test", 1, Deadline::After(seconds(60)), &*cancel);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(SilentNameServer, LookupsThatItHoldsAreBounded) {
  absl::Status last;
  for (int i = 0; i < 65; ++i) {
    last = ResolveHost("silent.test", 1, Deadline::After(seconds(0)), nullptr)
               .status();
  }
  EXPECT_EQ(last.code(), absl::StatusCode::kResourceExhausted) << last;
}

TEST_F(SilentNameServer, IsUnavailableOnceTheResolverGaveUp) {
  std::jthread resolver([] {
    EXPECT_TRUE(UntilTrue([] { return silent_lookups > 0; }).ok());
    name_server_is_silent = false;
  });
  const auto found =
      ResolveHost("silent.test", 1, Deadline::After(seconds(60)), nullptr);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace nd::verbs

#include "control/session_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace nd::control {
namespace {

using ::testing::StartsWith;

SessionLayout OddLayout() {
  return {.latency_connections = 2,
          .bulk_connections = 3,
          .slots = 5,
          .slot_size = 704,
          .eager_limit = 13,
          .eager_mode = EagerMode::kRing,
          .digest = true,
          .keepalive_ns = 17'000'000,
          .stream_window = 19'000,
          .max_streams = 23,
          .receive_budget = uint64_t{29} << 32};
}

LinkPass SomePass() {
  SeededRandom random(3);
  return {.endpoint = *verbs::SocketAddress::Parse("10.98.0.1", 7471),
          .token = Token::Generate(random),
          .token_lifetime = std::chrono::seconds(30),
          .links = {{0, 0}, {3, 2}}};
}

const verbs::SocketAddress kReached =
    *verbs::SocketAddress::Parse("10.98.0.2", 7470);

TEST(SessionMessages, LayoutComesBack) {
  EXPECT_EQ(FromMessage(ToMessage(OddLayout())), OddLayout());
}

TEST(SessionMessages, WishThatDoesNotFitStaysOutOfItsRange) {
  SessionLayout wish = OddLayout();
  wish.slots = (uint64_t{1} << 32) + 5;
  EXPECT_THAT(std::string(CheckLayout(FromMessage(ToMessage(wish))).message()),
              StartsWith("layout.slots"));
}

TEST(SessionMessages, UnknownEagerModeIsRefused) {
  for (const int mode : {0, 3, 256, 257, 258}) {
    v1::SessionLayout message = ToMessage(OddLayout());
    message.set_eager_mode(static_cast<v1::EagerMode>(mode));
    EXPECT_THAT(std::string(CheckLayout(FromMessage(message)).message()),
                StartsWith("layout.eager_mode"));
  }
}

TEST(SessionMessages, LinkLayoutComesBack) {
  const LinkLayout layout{.send_depth = 1,
                          .receive_depth = 2,
                          .ring_address = uint64_t{3} << 40,
                          .ring_rkey = 0xfffffffe,
                          .ring_size = uint64_t{1} << 32,
                          .max_rd_atomic = 4,
                          .max_dest_rd_atomic = 5,
                          .path_mtu = 1024};
  EXPECT_EQ(FromMessage(ToMessage(layout)), layout);
}

TEST(SessionMessages, RegionComesBack) {
  for (const RegionAccess access :
       {RegionAccess{.read = true}, RegionAccess{.write = true},
        RegionAccess{.atomic = true}}) {
    const Region region{.id = 1,
                        .address = uint64_t{3} << 40,
                        .size = uint64_t{5} << 40,
                        .rkey = 0xfffffffd,
                        .access = access};
    EXPECT_EQ(FromMessage(ToMessage(region)), region);
  }
}

TEST(SessionMessages, PassComesBack) {
  const LinkPass pass = FromMessage(ToMessage(SomePass()), kReached).value();
  EXPECT_EQ(pass.endpoint, SomePass().endpoint);
  EXPECT_TRUE(pass.token.Matches(SomePass().token));
  EXPECT_EQ(pass.token_lifetime, SomePass().token_lifetime);
  EXPECT_EQ(pass.links, SomePass().links);
}

TEST(SessionMessages, ListenerAtAnyAddressIsWhereTheServerWasReached) {
  for (const char* const any : {"0.0.0.0", "::"}) {
    LinkPass pass = SomePass();
    pass.endpoint = *verbs::SocketAddress::Parse(any, 7471);
    EXPECT_EQ(ToMessage(pass).address(), "");
    EXPECT_EQ(FromMessage(ToMessage(pass), kReached)->endpoint.ToString(),
              "10.98.0.2:7471");
  }
}

TEST(SessionMessages, PassIsChecked) {
  v1::Pass message = ToMessage(SomePass());
  message.set_port(65536);
  EXPECT_EQ(FromMessage(message, kReached).status(),
            absl::InvalidArgumentError("pass.port: 65536 is above 65535"));
  message = ToMessage(SomePass());
  message.set_token("short");
  EXPECT_FALSE(FromMessage(message, kReached).ok());
  message = ToMessage(SomePass());
  message.set_address("somewhere");
  EXPECT_FALSE(FromMessage(message, kReached).ok());
}

TEST(SessionMessages, LifetimeBeyondTheTimeLineIsItsEnd) {
  v1::Pass message = ToMessage(SomePass());
  message.set_token_lifetime_ns(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(FromMessage(message, kReached)->token_lifetime, Duration::max());
}

TEST(SessionMessages, EventsComeBack) {
  for (const SessionEvent& event :
       {SessionEvent(Draining{.text = "update", .grace = Duration(5)}),
        SessionEvent(RegionWithdrawn{.name = "kv", .id = 7}),
        SessionEvent(SessionClosed{absl::DataLossError("lost")})}) {
    EXPECT_EQ(FromMessage(ToMessage(event)), event);
  }
}

TEST(SessionMessages, OtherEventsAreNone) {
  EXPECT_FALSE(FromMessage(v1::WatchEvent()).has_value());
  v1::WatchEvent started;
  started.mutable_started();
  EXPECT_FALSE(FromMessage(started).has_value());
}

TEST(SessionMessages, LongTextIsCutBetweenCharacters) {
  const std::string text = std::string(1023, 'a') + "\xc3\xa4";
  EXPECT_EQ(ToMessage(absl::AbortedError(text)).text(), std::string(1023, 'a'));
  EXPECT_EQ(ToMessage(absl::AbortedError(text.substr(1))).text(),
            text.substr(1));
}

TEST(SessionMessages, ReasonIsOneOfTheCodes) {
  v1::Reason reason;
  reason.set_code(16);
  EXPECT_TRUE(CheckReason(reason).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(FromMessage(reason)));
  reason.set_code(17);
  EXPECT_EQ(CheckReason(reason),
            absl::InvalidArgumentError("reason.code: 17 is above 16"));
  EXPECT_TRUE(absl::IsUnknown(FromMessage(reason)));
  reason.set_code(0);
  reason.set_text(std::string(1025, 'a'));
  EXPECT_EQ(CheckReason(reason),
            absl::InvalidArgumentError("reason.text: 1025 is above 1024"));
}

TEST(SessionMessages, VersionIsTheOneThatBothSpeak) {
  v1::OpenSessionRequest request;
  EXPECT_EQ(ChooseVersion(request).status(),
            absl::InvalidArgumentError("versions: 0 is below 1"));
  request.add_versions(7);
  request.add_versions(9);
  EXPECT_EQ(ChooseVersion(request).status(),
            absl::InvalidArgumentError(
                "versions: 7, 9, of which this server speaks none, only 1"));
  request.add_versions(1);
  EXPECT_EQ(ChooseVersion(request).value(), 1u);
  while (request.versions_size() < 17) request.add_versions(1);
  EXPECT_EQ(ChooseVersion(request).status(),
            absl::InvalidArgumentError("versions: 17 is above 16"));
}

}  // namespace
}  // namespace nd::control

#include "control/grpc_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "control/generic_call.h"
#include "control/grpc_channel.h"
#include "nd/v1/harness.grpc.pb.h"

namespace nd::control {
namespace {

using ::testing::HasSubstr;

// Answers with a status that is hard to carry.
class FailingHarness final : public v1::Harness::Service {
 public:
  grpc::Status GetServerInfo(grpc::ServerContext*,
                             const v1::GetServerInfoRequest*,
                             v1::ServerInfo*) override {
    return ToGrpcStatus(absl::DataLossError("50 % of \xc3\xa4\nqpn 0x11"));
  }
};

class GrpcServerTest : public ::testing::TestWithParam<const char*> {
 protected:
  GrpcServer::Options OptionsAt(uint16_t port) {
    GrpcServer::Options options;
    options.address = *verbs::SocketAddress::Parse(GetParam(), port);
    options.services = {&service_};
    options.names = {"nd.v1.Harness"};
    return options;
  }

  FailingHarness service_;
};

TEST_P(GrpcServerTest, HealthIsServingForTheServerAndItsService) {
  const auto server = GrpcServer::Start(OptionsAt(0));
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = MakeChannel((*server)->address());
  EXPECT_EQ(CheckHealth(channel, "").value_or("none"), kServing);
  EXPECT_EQ(CheckHealth(channel, "nd.v1.Harness").value_or("none"), kServing);
  EXPECT_EQ(CheckHealth(channel, "nd.v1.Other").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_P(GrpcServerTest, ReflectionListsTheService) {
  const auto server = GrpcServer::Start(OptionsAt(0));
  ASSERT_TRUE(server.ok()) << server.status();
  const auto services = ListServices(MakeChannel((*server)->address()));
  ASSERT_TRUE(services.ok()) << services.status();
  EXPECT_THAT(*services, HasSubstr("nd.v1.Harness"));
  EXPECT_THAT(*services, HasSubstr("grpc.reflection.v1alpha"));
}

TEST_P(GrpcServerTest, StatusComesThroughTheWireUnchanged) {
  const auto server = GrpcServer::Start(OptionsAt(0));
  ASSERT_TRUE(server.ok()) << server.status();
  const auto stub = v1::Harness::NewStub(MakeChannel((*server)->address()));
  grpc::ClientContext context;
  v1::ServerInfo info;
  EXPECT_EQ(FromGrpcStatus(stub->GetServerInfo(&context, {}, &info)),
            absl::DataLossError("50 % of \xc3\xa4\nqpn 0x11"));
}

TEST_P(GrpcServerTest, TakenPortIsAnErrorThatNamesIt) {
  const auto first = GrpcServer::Start(OptionsAt(0));
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = GrpcServer::Start(OptionsAt((*first)->address().port()));
  ASSERT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr((*first)->address().ToString()));
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("Address already in use"));
}

INSTANTIATE_TEST_SUITE_P(Loopback, GrpcServerTest,
                         ::testing::Values("127.0.0.1", "::1"));

TEST(GrpcServer, AddressOfAnotherHostIsAnErrorThatNamesIt) {
  GrpcServer::Options options;
  options.address = *verbs::SocketAddress::Parse("192.0.2.1", 7470);
  options.allow_insecure_remote = true;
  const auto server = GrpcServer::Start(options);
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(std::string(server.status().message()),
              HasSubstr("gRPC port 192.0.2.1:7470: Cannot assign"));
}

TEST(GrpcServer, WithoutTlsItIsForItsOwnHostOnly) {
  for (const char* const address : {"0.0.0.0", "::", "192.0.2.1"}) {
    GrpcServer::Options options;
    options.address = *verbs::SocketAddress::Parse(address, 7470);
    const absl::Status status = GrpcServer::Start(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const std::string message(status.message());
    EXPECT_THAT(message, HasSubstr(options.address.ToString()));
    EXPECT_THAT(message, HasSubstr("give the server a certificate and key"));
    EXPECT_THAT(message, HasSubstr("set allow_insecure_remote"));
  }
}

TEST(GrpcServer, WithoutTlsItIsForOthersWhenTold) {
  GrpcServer::Options options;
  options.address = *verbs::SocketAddress::Parse("0.0.0.0", 0);
  options.allow_insecure_remote = true;
  EXPECT_TRUE(GrpcServer::Start(options).ok());
}

}  // namespace
}  // namespace nd::control

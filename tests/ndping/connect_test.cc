// The connect test between two RDMA devices, both halves in this process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "ndping/harness/harness_client.h"
#include "ndping/harness/harness_server.h"
#include "verbs/rdma_env.h"

namespace nd::ndping {
namespace {

class ConnectTest : public verbs::RdmaTest,
                    public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    RdmaTest::SetUp();
    if (HasFatalFailure()) return;
    HarnessServer::Options server;
    server.address = verbs::PeerAddress(GetParam()).host();
    server.port = 0;
    server.rdma_port = 0;
    server.limits = HarnessServer::DefaultLimits();
    auto started = HarnessServer::Start(server);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    HarnessClient::Options client;
    client.host = server.address;
    const std::string endpoint = server_->grpc_endpoint();
    client.port = static_cast<uint16_t>(
        std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
    client.from = verbs::LocalAddress(GetParam()).host();
    auto created = HarnessClient::Create(client);
    ASSERT_TRUE(created.ok()) << created.status();
    client_ = *std::move(created);
  }

  void ExpectGood(uint64_t connections, bool hold) {
    v1::TestSpec spec;
    spec.set_kind(v1::TEST_KIND_CONNECT);
    spec.set_connections(connections);
    spec.set_hold(hold);
    const auto result = client_->RunConnect(spec, interrupt_, observer_);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->connections, connections);
    EXPECT_EQ(result->latencies.count(), connections);
    EXPECT_EQ(client_->GetServerInfo()->requests_accepted(), connections);
    EXPECT_EQ(client_->GetServerInfo()->tests_running(), 0u);
  }

  const Cancellation interrupt_ = *Cancellation::Create();
  TestObserver observer_;
  std::unique_ptr<HarnessServer> server_;
  std::unique_ptr<HarnessClient> client_;
};

TEST_P(ConnectTest, OneAfterAnother) { ExpectGood(100, false); }

TEST_P(ConnectTest, ManyAtOnce) { ExpectGood(100, true); }

INSTANTIATE_TEST_SUITE_P(ByFamily, ConnectTest,
                         ::testing::Values(AF_INET, AF_INET6),
                         [](const ::testing::TestParamInfo<int>& info) {
                           return info.param == AF_INET ? "Ipv4" : "Ipv6";
                         });

}  // namespace
}  // namespace nd::ndping

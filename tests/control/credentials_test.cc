#include "control/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "control/certificates.h"
#include "control/generic_call.h"
#include "control/grpc_channel.h"
#include "control/grpc_server.h"

namespace nd::control {
namespace {

using ::testing::HasSubstr;

class CredentialsTest : public ::testing::Test {
 protected:
  static const Authority& Ours() {
    static const Authority authority("nd's authority");
    return authority;
  }
  static const Authority& Theirs() {
    static const Authority authority("another authority");
    return authority;
  }

  absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const Credentials& credentials, const char* address = "127.0.0.1") {
    GrpcServer::Options options;
    options.address = *verbs::SocketAddress::Parse(address, 0);
    options.credentials = credentials;
    return GrpcServer::Start(options);
  }
  // Asks the server for its health.
  absl::StatusOr<std::string> Ask(const GrpcServer& server,
                                  const Credentials& credentials) {
    verbs::SocketAddress address =
        *verbs::SocketAddress::Parse("127.0.0.1", server.address().port());
    return CheckHealth(MakeChannel(address, credentials).value(), "");
  }

  CredentialFiles files_;
  const Credentials server_ = files_.Make("", Ours().Issue("127.0.0.1"));
  const Credentials client_ = files_.Make(Ours().certificate(), {});
  const Credentials mutual_server_ =
      files_.Make(Ours().certificate(), Ours().Issue("127.0.0.1"));
  const Credentials mutual_client_ =
      files_.Make(Ours().certificate(), Ours().Issue("a client"));
};

TEST_F(CredentialsTest, ServerShowsItsCertificate) {
  const auto server = Start(server_);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Ask(**server, client_).value_or("none"), kServing);
}

TEST_F(CredentialsTest, WithTlsAServerIsForOtherHostsToo) {
  const auto server = Start(server_, "0.0.0.0");
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Ask(**server, client_).value_or("none"), kServing);
}

TEST_F(CredentialsTest, ServerOfAnotherAuthorityIsNotBelieved) {
  const auto server = Start(files_.Make("", Theirs().Issue("127.0.0.1")));
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(absl::IsUnavailable(Ask(**server, client_).status()));
}

TEST_F(CredentialsTest, ServerOfAnotherNameIsNotBelievedUnlessItIsAskedFor) {
  const auto server = Start(files_.Make("", Ours().Issue("storage.example")));
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(absl::IsUnavailable(Ask(**server, client_).status()));
  Credentials client = client_;
  client.server_name = "storage.example";
  EXPECT_EQ(Ask(**server, client).value_or("none"), kServing);
}

TEST_F(CredentialsTest, SystemsAuthoritiesDoNotKnowOurs) {
  const auto server = Start(server_);
  ASSERT_TRUE(server.ok()) << server.status();
  Credentials client;
  client.use_tls = true;
  EXPECT_FALSE(Ask(**server, client).ok());
}

TEST_F(CredentialsTest, TlsAndPlainTextDoNotMix) {
  const auto secure = Start(server_);
  ASSERT_TRUE(secure.ok()) << secure.status();
  EXPECT_TRUE(absl::IsUnavailable(Ask(**secure, {}).status()));
  const auto plain = Start({});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(absl::IsUnavailable(Ask(**plain, client_).status()));
}

TEST_F(CredentialsTest, MutualTlsLetsInWhoShowsACertificate) {
  const auto server = Start(mutual_server_);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Ask(**server, mutual_client_).value_or("none"), kServing);
}

TEST_F(CredentialsTest, MutualTlsKeepsOthersOut) {
  const auto server = Start(mutual_server_);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_FALSE(Ask(**server, client_).ok());
  EXPECT_FALSE(Ask(**server, files_.Make(Ours().certificate(),
                                         Theirs().Issue("a client")))
                   .ok());
}

TEST_F(CredentialsTest, ReadyObjectsAreTakenAsTheyAre) {
  Credentials server;
  server.server = MakeServerCredentials(server_).value();
  Credentials client;
  client.channel = MakeChannelCredentials(client_).value();
  const auto started = Start(server, "0.0.0.0");
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(Ask(**started, client).value_or("none"), kServing);
}

TEST_F(CredentialsTest, FileThatIsMissingIsNamed) {
  Credentials credentials = server_;
  credentials.key_file += ".not";
  const absl::Status status = Start(credentials).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("key file \"" + credentials.key_file + "\""));
  credentials = client_;
  credentials.ca_file += ".not";
  EXPECT_THAT(
      std::string(MakeChannelCredentials(credentials).status().message()),
      HasSubstr("CA file \"" + credentials.ca_file + "\""));
}

TEST_F(CredentialsTest, FileOfAnotherKindIsNamed) {
  Credentials credentials = server_;
  credentials.certificate_file = files_.Write("notes", "no certificate");
  EXPECT_EQ(MakeServerCredentials(credentials).status(),
            absl::InvalidArgumentError("certificate file \"" +
                                       credentials.certificate_file +
                                       "\": is not in PEM"));
}

TEST_F(CredentialsTest, HalfAPairIsAnError) {
  Credentials credentials = server_;
  credentials.key_file.clear();
  EXPECT_THAT(std::string(Start(credentials).status().message()),
              HasSubstr("without its key file"));
  credentials = server_;
  credentials.certificate_file.clear();
  EXPECT_THAT(
      std::string(MakeChannelCredentials(credentials).status().message()),
      HasSubstr("without its certificate file"));
  EXPECT_THAT(std::string(Start(client_).status().message()),
              HasSubstr("without the server's own certificate"));
}

TEST_F(CredentialsTest, KeyOfAnotherCertificateIsSuspected) {
  Credentials credentials = server_;
  credentials.key_file = mutual_client_.key_file;
  const absl::Status status = Start(credentials).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(credentials.key_file));
}

}  // namespace
}  // namespace nd::control

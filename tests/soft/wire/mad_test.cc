#include "soft/wire/mad.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace nd::soft {
namespace {

// Every message with every field set to something of its own.
std::vector<CmMessage> AllMessages() {
  CmReq req{.local_id = CommId(1),
            .service_id = 0x01061234,
            .ca_guid = 0x0102030405060708,
            .qkey = Qkey(3),
            .qpn = Qpn(0x11),
            .responder_resources = 16,
            .initiator_depth = 17,
            .remote_response_timeout = 20,
            .transport = 1,
            .flow_control = true,
            .starting_psn = Psn(0xabcdef),
            .local_response_timeout = 21,
            .retry_count = 7,
            .pkey = 0x7fff,
            .path_mtu = 5,
            .rnr_retry_count = 6,
            .max_cm_retries = 15,
            .srq = true,
            .local_lid = 1,
            .remote_lid = 2,
            .local_gid = {1},
            .remote_gid = {2},
            .flow_label = 0xfffff,
            .packet_rate = 0x3f,
            .traffic_class = 0xb8,
            .hop_limit = 64,
            .service_level = 5,
            .subnet_local = true,
            .local_ack_timeout = 19,
            .private_data = {9}};
  req.private_data.back() = 8;
  CmMra mra{.local_id = CommId(1),
            .remote_id = CommId(2),
            .message = 1,
            .service_timeout = 24,
            .private_data = {3}};
  CmRej rej{.local_id = CommId(1),
            .remote_id = CommId(2),
            .message = 2,
            .information_length = 72,
            .reason = RejectReason::kConsumer,
            .information = {4},
            .private_data = {5}};
  CmRep rep{.local_id = CommId(1),
            .remote_id = CommId(2),
            .qkey = Qkey(3),
            .qpn = Qpn(0x12),
            .starting_psn = Psn(0x10),
            .responder_resources = 4,
            .initiator_depth = 5,
            .target_ack_delay = 15,
            .failover = 2,
            .flow_control = true,
            .rnr_retry_count = 7,
            .srq = true,
            .ca_guid = 6,
            .private_data = {7}};
  CmRtu rtu{.local_id = CommId(1), .remote_id = CommId(2), .private_data = {8}};
  CmDreq dreq{.local_id = CommId(1),
              .remote_id = CommId(2),
              .remote_qpn = Qpn(0x13),
              .private_data = {9}};
  CmDrep drep{
      .local_id = CommId(1), .remote_id = CommId(2), .private_data = {10}};
  CmSidrReq sidr_req{.request_id = CommId(1),
                     .pkey = 0x8001,
                     .service_id = 11,
                     .private_data = {12}};
  CmSidrRep sidr_rep{.request_id = CommId(1),
                     .status = 1,
                     .information_length = 2,
                     .qpn = Qpn(3),
                     .service_id = 4,
                     .qkey = Qkey(5),
                     .information = {6},
                     .private_data = {7}};
  return {req, mra, rej, rep, rtu, dreq, drep, sidr_req, sidr_rep};
}

TEST(CmMad, EveryFieldComesBack) {
  for (const CmMessage& message : AllMessages()) {
    const CmMad mad{.transaction_id = 0x1122334455667788, .message = message};
    std::array<std::byte, kMadBytes> bytes;
    WriteCmMad(mad, bytes);
    EXPECT_EQ(ParseCmMad(bytes), mad) << static_cast<int>(AttributeOf(message));
  }
}

// The last byte of each kind's private data is the last of the datagram.
TEST(CmMad, PrivateDataFillsTheDatagram) {
  for (CmMessage message : AllMessages()) {
    std::visit([](auto& each) { each.private_data.back() = 0xee; }, message);
    std::array<std::byte, kMadBytes> bytes;
    WriteCmMad({.message = message}, bytes);
    EXPECT_EQ(bytes.back(), std::byte{0xee})
        << static_cast<int>(AttributeOf(message));
  }
}

TEST(CmMad, ShortDatagramIsReadAsIfZerosFollowed) {
  CmMad mad{.transaction_id = 5,
            .message = CmRtu{.local_id = CommId(1), .remote_id = CommId(2)}};
  std::array<std::byte, kMadBytes> bytes;
  WriteCmMad(mad, bytes);
  EXPECT_EQ(ParseCmMad(std::span(bytes).first(kMadHeaderBytes + 8)), mad);
}

TEST(CmMad, WhatIsNotOfTheCmIsRefused) {
  std::array<std::byte, kMadBytes> right;
  WriteCmMad({.message = CmRtu()}, right);
  for (const size_t offset : {0, 1, 2, 3, 16, 17}) {
    auto wrong = right;
    wrong[offset] = std::byte{0x77};
    EXPECT_FALSE(ParseCmMad(wrong).has_value()) << offset;
  }
  for (size_t size = 0; size < kMadHeaderBytes; ++size) {
    EXPECT_FALSE(ParseCmMad(std::span(right).first(size)).has_value()) << size;
  }
  EXPECT_FALSE(ParseCmMad(std::vector<std::byte>(kMadBytes + 1)).has_value());
}

TEST(RdmaCmHeader, ComesBackAsItWasWritten) {
  const RdmaCmHeader header{.ip_version = 6,
                            .source_port = 0x1234,
                            .source = {1},
                            .destination = {2}};
  std::array<uint8_t, RdmaCmHeader::kSize> bytes;
  header.Write(bytes);
  EXPECT_EQ(bytes[1], 0x60);
  EXPECT_EQ(RdmaCmHeader::Read(bytes), header);
}

}  // namespace
}  // namespace nd::soft

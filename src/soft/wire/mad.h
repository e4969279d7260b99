// Management datagrams to QP1: the header, and the messages of the
// communication manager (IBA vol. 1, 13.4.3 and 12.6; annex A11 for what
// rdma_cm adds).
#ifndef ND_SOFT_WIRE_MAD_H_
#define ND_SOFT_WIRE_MAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "soft/wire/gid.h"
#include "soft/wire/serial.h"

namespace nd::soft {

inline constexpr size_t kMadBytes = 256;
inline constexpr size_t kMadHeaderBytes = 24;

enum class CmAttribute : uint16_t {
  kReq = 0x10,
  kMra = 0x11,
  kRej = 0x12,
  kRep = 0x13,
  kRtu = 0x14,
  kDreq = 0x15,
  kDrep = 0x16,
  kSidrReq = 0x17,
  kSidrRep = 0x18,
};

// A communication id: one end's name of a connection.
enum class CommId : uint32_t {};
constexpr uint32_t ToUint(CommId id) { return static_cast<uint32_t>(id); }

// Which message an MRA answers or a REJ refuses (12.6.6, 12.6.7).
inline constexpr uint8_t kOfReq = 0;
inline constexpr uint8_t kOfRep = 1;
inline constexpr uint8_t kOfOther = 2;

// Private data has a fixed size by the message; its user's length is not on the
// wire.
template <size_t kBytes>
using PrivateData = std::array<uint8_t, kBytes>;

// Request for communication (12.6.5, table 106).
struct CmReq {
  static constexpr size_t kPrivateBytes = 92;

  CommId local_id{};
  uint64_t service_id = 0;
  uint64_t ca_guid = 0;
  Qkey qkey{};
  Qpn qpn{};
  uint8_t responder_resources = 0;  // READs and atomics the sender will serve
  uint8_t initiator_depth = 0;      // and will have under way
  uint8_t remote_response_timeout = 0;  // 4.096 us * 2^n
  uint8_t transport = 0;                // 0 RC, 1 UC
  bool flow_control = false;
  Psn starting_psn;  // the first that the sender of this message will receive
  uint8_t local_response_timeout = 0;
  uint8_t retry_count = 0;
  uint16_t pkey = 0xffff;
  uint8_t path_mtu = 0;  // code: 1 is 256, 5 is 4096
  uint8_t rnr_retry_count = 0;
  uint8_t max_cm_retries = 0;
  bool srq = false;
  uint16_t local_lid = 0xffff;
  uint16_t remote_lid = 0xffff;
  Gid local_gid{};
  Gid remote_gid{};
  uint32_t flow_label = 0;  // 20 bits
  uint8_t packet_rate = 0;  // 6 bits
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t service_level = 0;  // 4 bits
  bool subnet_local = false;
  uint8_t local_ack_timeout = 0;  // 5 bits
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmReq&) const = default;
};

// Message receipt acknowledgement (12.6.6, table 107): the answer takes longer.
struct CmMra {
  static constexpr size_t kPrivateBytes = 222;

  CommId local_id{};
  CommId remote_id{};
  uint8_t message = kOfReq;     // that it answers
  uint8_t service_timeout = 0;  // 4.096 us * 2^n
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmMra&) const = default;
};

// Why a REJ was sent (12.6.7.2); the ones that nd sends or explains.
enum class RejectReason : uint16_t {
  kNoQp = 1,
  kNoResources = 3,
  kTimeout = 4,
  kUnsupported = 5,
  kInvalidCommId = 6,
  kInvalidServiceId = 8,
  kInvalidTransport = 9,
  kStaleConnection = 10,
  kInvalidGid = 12,
  kInvalidMtu = 26,
  kInsufficientResponderResources = 27,
  kConsumer = 28,
};

// Reject (12.6.7, table 108).
struct CmRej {
  static constexpr size_t kPrivateBytes = 148;
  static constexpr size_t kInformationBytes = 72;

  CommId local_id{};
  CommId remote_id{};
  uint8_t message = kOfReq;        // that it refuses
  uint8_t information_length = 0;  // bytes
  RejectReason reason{};
  std::array<uint8_t, kInformationBytes> information{};
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmRej&) const = default;
};

// Reply to a REQ (12.6.8, table 110).
struct CmRep {
  static constexpr size_t kPrivateBytes = 196;

  CommId local_id{};
  CommId remote_id{};
  Qkey qkey{};
  Qpn qpn{};
  Psn starting_psn;  // the first that the sender of this message will receive
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t target_ack_delay = 0;
  uint8_t failover = 0;
  bool flow_control = false;
  uint8_t rnr_retry_count = 0;
  bool srq = false;
  uint64_t ca_guid = 0;
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmRep&) const = default;
};

// Ready to use (12.6.9, table 111).
struct CmRtu {
  static constexpr size_t kPrivateBytes = 224;

  CommId local_id{};
  CommId remote_id{};
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmRtu&) const = default;
};

// Request for disconnection (12.6.10, table 112).
struct CmDreq {
  static constexpr size_t kPrivateBytes = 220;

  CommId local_id{};
  CommId remote_id{};
  Qpn remote_qpn{};  // of the receiver of this message
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmDreq&) const = default;
};

// Reply to a DREQ (12.6.11, table 113).
struct CmDrep {
  static constexpr size_t kPrivateBytes = 224;

  CommId local_id{};
  CommId remote_id{};
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmDrep&) const = default;
};

// Service id resolution, for datagrams (12.11.1, table 119).
struct CmSidrReq {
  static constexpr size_t kPrivateBytes = 216;

  CommId request_id{};
  uint16_t pkey = 0xffff;
  uint64_t service_id = 0;
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmSidrReq&) const = default;
};

// Its answer (12.11.2, table 120).
struct CmSidrRep {
  static constexpr size_t kPrivateBytes = 136;
  static constexpr size_t kInformationBytes = 72;

  CommId request_id{};
  uint8_t status = 0;  // 0: found
  uint8_t information_length = 0;
  Qpn qpn{};
  uint64_t service_id = 0;
  Qkey qkey{};
  std::array<uint8_t, kInformationBytes> information{};
  PrivateData<kPrivateBytes> private_data{};

  bool operator==(const CmSidrRep&) const = default;
};

using CmMessage = std::variant<CmReq, CmMra, CmRej, CmRep, CmRtu, CmDreq,
                               CmDrep, CmSidrReq, CmSidrRep>;

struct CmMad {
  uint64_t transaction_id = 0;
  CmMessage message;

  bool operator==(const CmMad&) const = default;
};

CmAttribute AttributeOf(const CmMessage& message);

// Nothing: not a message of the communication manager. A datagram shorter than
// 256 bytes is read as if zeros followed, as the kernel does.
std::optional<CmMad> ParseCmMad(std::span<const std::byte> bytes);

void WriteCmMad(const CmMad& mad, std::span<std::byte, kMadBytes> out);

// What rdma_cm puts in front of the user's private data of a REQ or SIDR_REQ
// (annex A11.4).
struct RdmaCmHeader {
  static constexpr size_t kSize = 36;

  uint8_t version = 0;
  uint8_t ip_version = 4;  // or 6
  uint16_t source_port = 0;
  Gid source{};  // IPv4 in the last four bytes, the others 0
  Gid destination{};

  static RdmaCmHeader Read(std::span<const uint8_t, kSize> bytes);
  void Write(std::span<uint8_t, kSize> out) const;
  bool operator==(const RdmaCmHeader&) const = default;
};

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_MAD_H_

#include "soft/abi/ucma_answers.h"

#include <infiniband/verbs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/bytes.h"

namespace nd::soft {
namespace {

constexpr uint16_t kPkey = 0xffff;  // the same in either byte order
constexpr uint8_t kPort = 1;
constexpr uint8_t kExactly = 2;  // the selector of a path's MTU, rate and time
constexpr uint8_t kReversible = 0x80;
constexpr uint8_t kGroupHopLimit = 64;  // as Linux has it
constexpr uint32_t kPathFlags =
    IB_PATH_GMP | IB_PATH_PRIMARY | IB_PATH_BIDIRECTIONAL;

template <typename T>
std::span<std::byte> BytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

template <typename Answer>
void FillDevice(const UcmaId& id, const UcmaDevice& device, Answer& answer) {
  if (!id.on_device()) return;
  answer.node_guid = device.node_guid;
  answer.port_num = kPort;
  answer.ibdev_index = device.index;
}

void StoreGid(const Gid& gid, uint8_t (&out)[16]) {
  std::ranges::copy(gid, out);
}

ib_user_path_rec UserPath(const UcmaPath& path) {
  ib_user_path_rec record{};
  StoreGid(path.destination, record.dgid);
  StoreGid(path.source, record.sgid);
  record.flow_label = htonl(path.flow_label);
  record.reversible = 1;
  record.mtu = path.mtu;
  record.pkey = kPkey;
  record.hop_limit = path.hop_limit;
  record.traffic_class = path.traffic_class;
  record.mtu_selector = kExactly;
  record.rate_selector = kExactly;
  record.packet_life_time_selector = kExactly;
  record.packet_life_time = path.packet_life_time;
  return record;
}

// One of the id's addresses as a GID and a service id.
struct ServiceAddress {
  const UcmaSockaddr& address;
  const std::optional<Gid>& gid;
};

void StoreService(const UcmaId& id, const ServiceAddress& service,
                  __kernel_sockaddr_storage& out) {
  IbSockaddr ib{.family = kIbFamily};
  if (id.on_device()) ib.pkey = kPkey;
  if (service.gid) ib.address = *service.gid;
  const uint64_t service_id =
      uint64_t{id.space} << 16 | service.address.endpoint.port;
  ib.service_id = htobe64(service_id);
  if (service.address.family == kIbFamily) {
    service.address.Write(BytesOf(out));
  } else {
    std::memcpy(&out, &ib, sizeof(ib));
  }
}

ib_uverbs_ah_attr AddressHandle(const UcmaPath& path, int gid_index) {
  ib_uverbs_ah_attr handle{};
  StoreGid(path.destination, handle.grh.dgid);
  handle.grh.flow_label = path.flow_label;
  handle.grh.sgid_index = static_cast<uint8_t>(gid_index);
  handle.grh.hop_limit = path.hop_limit;
  handle.grh.traffic_class = path.traffic_class;
  handle.is_global = 1;
  handle.port_num = kPort;
  return handle;
}

// What all forms of it have.
ib_uverbs_qp_attr QpIn(uint32_t qp_state) {
  ib_uverbs_qp_attr attr{};
  attr.qp_attr_mask = IBV_QP_STATE;
  attr.qp_state = qp_state;
  attr.port_num = kPort;
  return attr;
}

ib_uverbs_qp_attr InitQp(uint32_t access) {
  ib_uverbs_qp_attr attr = QpIn(IBV_QPS_INIT);
  attr.qp_attr_mask |= IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
  attr.qp_access_flags = access;
  return attr;
}

ib_uverbs_qp_attr DatagramQp(uint32_t qp_state) {
  ib_uverbs_qp_attr attr = QpIn(qp_state);
  attr.qp_attr_mask |= IBV_QP_QKEY;
  attr.qkey = kUdpQkey;
  if (qp_state == IBV_QPS_INIT) {
    attr.qp_attr_mask |= IBV_QP_PKEY_INDEX | IBV_QP_PORT;
  }
  if (qp_state == IBV_QPS_RTS) attr.qp_attr_mask |= IBV_QP_SQ_PSN;
  return attr;
}

ib_uverbs_qp_attr ConnectedInit(const CmQpParams& params) {
  uint32_t access = IBV_ACCESS_REMOTE_WRITE;
  if (params.remote_read_and_atomic) {
    access |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  }
  return InitQp(access);
}

ib_uverbs_qp_attr ConnectedRtr(const UcmaId& id, const CmQpParams& params,
                               int gid_index) {
  ib_uverbs_qp_attr attr = QpIn(IBV_QPS_RTR);
  attr.qp_attr_mask |=
      IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  attr.path_mtu = params.path_mtu;
  attr.rq_psn = params.rq_psn.value();
  attr.dest_qp_num = ToUint(params.remote_qpn);
  attr.ah_attr = AddressHandle({.source = params.source,
                                .destination = params.destination,
                                .flow_label = params.flow_label,
                                .traffic_class = params.traffic_class,
                                .hop_limit = params.hop_limit},
                               gid_index);
  if (id.type == UcmaQpType::kRc) {
    attr.qp_attr_mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
    attr.max_dest_rd_atomic = params.max_dest_rd_atomic;
    attr.min_rnr_timer = params.min_rnr_timer;
  }
  return attr;
}

ib_uverbs_qp_attr ConnectedRts(const UcmaId& id, const CmQpParams& params) {
  ib_uverbs_qp_attr attr = QpIn(IBV_QPS_RTS);
  attr.qp_attr_mask |= IBV_QP_SQ_PSN;
  attr.sq_psn = params.sq_psn.value();
  if (id.type == UcmaQpType::kRc) {
    attr.qp_attr_mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                         IBV_QP_MAX_QP_RD_ATOMIC;
    attr.max_rd_atomic = params.max_rd_atomic;
    attr.timeout = id.ack_timeout.value_or(params.ack_timeout);
    attr.retry_cnt = params.retry_count;
    attr.rnr_retry = params.rnr_retry_count;
  }
  return attr;
}

// Connection or datagram parameters: `Param` has a place for private data.
template <typename Param>
void FillPrivateData(const CmEvent& event, Param& param) {
  const size_t size = std::min(event.private_data.size(), size_t{UINT8_MAX});
  std::copy_n(event.private_data.begin(), size, param.private_data);
  param.private_data_len = static_cast<uint8_t>(size);
}

// RTU, DREQ and DREP have private data too, but Linux does not hand it on.
void FillConnection(const CmEvent& event, rdma_ucm_conn_param& param) {
  const CmPeerParams& peer = event.peer;
  switch (event.type) {
    case CmEventType::kConnectRequest:
      param.retry_count = peer.retry_count;
      [[fallthrough]];
    case CmEventType::kConnectResponse:
      param.qp_num = ToUint(peer.qpn);
      param.srq = peer.srq ? 1 : 0;
      param.responder_resources = peer.responder_resources;
      param.initiator_depth = peer.initiator_depth;
      param.flow_control = peer.flow_control ? 1 : 0;
      param.rnr_retry_count = peer.rnr_retry_count;
      [[fallthrough]];
    case CmEventType::kRejected:
      FillPrivateData(event, param);
      return;
    case CmEventType::kEstablished:
    case CmEventType::kUnreachable:
    case CmEventType::kDisconnected:
    case CmEventType::kTimewaitExit:
      return;
  }
}

void FillDatagram(const UcmaId& id, const CmEvent& event, int gid_index,
                  rdma_ucm_ud_param& param) {
  FillPrivateData(event, param);
  if (event.type != CmEventType::kEstablished) return;
  param.qp_num = ToUint(event.peer.qpn);
  param.qkey = ToUint(event.peer.qkey);
  if (id.path) param.ah_attr = AddressHandle(*id.path, gid_index);
}

UcmaEventType TypeOf(CmEventType type) {
  switch (type) {
    case CmEventType::kConnectRequest:
      return UcmaEventType::kConnectRequest;
    case CmEventType::kConnectResponse:
      return UcmaEventType::kConnectResponse;
    case CmEventType::kEstablished:
      return UcmaEventType::kEstablished;
    case CmEventType::kRejected:
      return UcmaEventType::kRejected;
    case CmEventType::kUnreachable:
      return UcmaEventType::kUnreachable;
    case CmEventType::kDisconnected:
      return UcmaEventType::kDisconnected;
    case CmEventType::kTimewaitExit:
      return UcmaEventType::kTimewaitExit;
  }
  return UcmaEventType::kUnreachable;
}

int StatusOf(const CmEvent& event) {
  if (event.timed_out) return -ETIMEDOUT;
  if (event.type == CmEventType::kRejected) {
    return static_cast<int>(event.reason);
  }
  return event.sidr_status;
}

}  // namespace

rdma_ucm_query_route_resp DescribeRoute(const UcmaId& id,
                                        const UcmaDevice& device) {
  rdma_ucm_query_route_resp answer{};
  FillDevice(id, device, answer);
  // An AF_IB address would not fit.
  if (id.local.family != kIbFamily) id.local.Write(BytesOf(answer.src_addr));
  id.remote.Write(BytesOf(answer.dst_addr));
  if (id.path) {
    answer.num_paths = 1;
    answer.ib_route[0] = UserPath(*id.path);
  } else if (id.on_device()) {
    StoreGid(*id.source, answer.ib_route[0].sgid);
    StoreGid(id.destination.value_or(Gid{}), answer.ib_route[0].dgid);
    answer.ib_route[0].pkey = kPkey;
  }
  return answer;
}

rdma_ucm_query_addr_resp DescribeAddresses(const UcmaId& id,
                                           const UcmaDevice& device) {
  rdma_ucm_query_addr_resp answer{};
  FillDevice(id, device, answer);
  if (id.on_device()) answer.pkey = kPkey;
  answer.src_size = static_cast<uint16_t>(id.local.size());
  answer.dst_size = static_cast<uint16_t>(id.remote.size());
  id.local.Write(BytesOf(answer.src_addr));
  id.remote.Write(BytesOf(answer.dst_addr));
  return answer;
}

rdma_ucm_query_addr_resp DescribeGids(const UcmaId& id,
                                      const UcmaDevice& device) {
  rdma_ucm_query_addr_resp answer{};
  FillDevice(id, device, answer);
  if (id.on_device()) answer.pkey = kPkey;
  answer.src_size = sizeof(IbSockaddr);
  answer.dst_size = sizeof(IbSockaddr);
  StoreService(id, {id.local, id.source}, answer.src_addr);
  StoreService(id, {id.remote, id.destination}, answer.dst_addr);
  return answer;
}

// The subnet administrator's form of a path record (IBA vol. 1, 15.2.5.16).
ib_path_rec_data DescribePath(const UcmaPath& path) {
  ib_path_rec_data answer{};
  answer.flags = kPathFlags;
  ByteWriter record(std::as_writable_bytes(std::span(answer.path_rec)));
  record.WriteBe64(0);  // service id
  record.WriteBytes(path.destination);
  record.WriteBytes(path.source);
  record.WriteBe32(0);  // LIDs
  record.WriteBe32(path.flow_label << 8 | path.hop_limit);
  record.WriteU8(path.traffic_class);
  record.WriteU8(kReversible);
  record.WriteBe16(kPkey);
  record.WriteBe16(0);  // QoS class, service level
  record.WriteU8(static_cast<uint8_t>(kExactly << 6 | path.mtu));
  record.WriteU8(kExactly << 6);  // rate: the port's
  record.WriteU8(static_cast<uint8_t>(kExactly << 6 | path.packet_life_time));
  return answer;
}

// Linux gives what INIT takes for any state of a QP that is not connected yet.
ib_uverbs_qp_attr DescribeQp(const UcmaId& id, uint32_t qp_state) {
  if (id.datagram()) return DatagramQp(qp_state);
  ib_uverbs_qp_attr attr = InitQp(0);
  attr.qp_state = qp_state;
  return attr;
}

ib_uverbs_qp_attr DescribeQp(const UcmaId& id, QpStage stage,
                             const CmQpParams& params, int gid_index) {
  switch (stage) {
    case QpStage::kInit:
      return ConnectedInit(params);
    case QpStage::kRtr:
      return ConnectedRtr(id, params, gid_index);
    case QpStage::kRts:
      return ConnectedRts(id, params);
  }
  return {};
}

rdma_ucm_event_resp DescribeEvent(const UcmaId& id, UcmaEventType type,
                                  int status) {
  rdma_ucm_event_resp answer{};
  answer.uid = id.uid;
  answer.id = id.number;
  answer.event = static_cast<uint32_t>(type);
  answer.status = static_cast<uint32_t>(status);
  return answer;
}

// A group of the other family cannot be reached from the id's address.
rdma_ucm_event_resp DescribeJoin(const UcmaId& id, const UcmaGroup& joined,
                                 int gid_index) {
  const int error = gid_index < 0                                ? -ENODEV
                    : IsIpv4(*id.source) != IsIpv4(joined.group) ? -EINVAL
                                                                 : 0;
  rdma_ucm_event_resp answer =
      DescribeEvent(id,
                    error == 0 ? UcmaEventType::kMulticastJoin
                               : UcmaEventType::kMulticastError,
                    error);
  answer.id = joined.number;
  answer.uid = joined.uid;
  if (error != 0) return answer;
  rdma_ucm_ud_param& param = answer.param.ud;
  param.qp_num = ToUint(kMulticastQpn);
  param.qkey = kUdpQkey;
  param.ah_attr = AddressHandle({.source = *id.source,
                                 .destination = joined.group,
                                 .traffic_class = id.tos,
                                 .hop_limit = kGroupHopLimit},
                                gid_index);
  return answer;
}

rdma_ucm_event_resp DescribeEvent(const UcmaId& id, const CmEvent& event,
                                  int gid_index) {
  rdma_ucm_event_resp answer =
      DescribeEvent(id, TypeOf(event.type), StatusOf(event));
  if (id.datagram()) {
    FillDatagram(id, event, gid_index, answer.param.ud);
  } else {
    FillConnection(event, answer.param.conn);
  }
  return answer;
}

}  // namespace nd::soft

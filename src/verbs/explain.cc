#include "verbs/explain.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace nd::verbs {
namespace {

// The name and the value of an entry come from one word.
#define ND_ENTRY(name, meaning, cause, cure) \
  Explanation { #name, name, meaning, cause, cure }

constexpr Explanation kWc[] = {
    ND_ENTRY(IBV_WC_SUCCESS, "the work request was carried out",
             "nothing went wrong", "none needed"),
    ND_ENTRY(IBV_WC_LOC_LEN_ERR,
             "a message is longer than the local buffers or the port allow",
             "the peer sent more than the receive it met can hold (the "
             "receiver gets this status, the sender REM_INV_REQ_ERR); a send "
             "longer than the port's max_msg_sz",
             "make receives as large as the largest message that the peer may "
             "send; split larger ones"),
    ND_ENTRY(IBV_WC_LOC_QP_OP_ERR,
             "the QP could not carry the request out, whatever the memory",
             "an opcode that this QP type or device does not have; more SGEs "
             "or inline bytes than the QP was made with; an internal fault of "
             "the device",
             "check the request against the QP's limits and the device's "
             "capabilities; vendor_err may say more"),
    ND_ENTRY(IBV_WC_LOC_EEC_OP_ERR,
             "an end-to-end context could not carry the request out",
             "reliable datagrams only, which no current device has",
             "not expected: update the device's driver and firmware"),
    ND_ENTRY(IBV_WC_LOC_PROT_ERR, "a local buffer is not what its L_Key covers",
             "the address range reaches beyond the memory region; the region "
             "was deregistered or is of another PD; a wrong L_Key; a receive "
             "or READ into a region without IBV_ACCESS_LOCAL_WRITE",
             "check each SGE: its address, its length, and that its region "
             "lives until the completion was polled"),
    ND_ENTRY(IBV_WC_WR_FLUSH_ERR,
             "the request was not carried out: its QP is in the error state",
             "a consequence, not a cause: an earlier completion of this QP "
             "failed, the connection was closed, or the QP was moved to ERR",
             "look for the first completion of this QP that failed with "
             "another status, or for a DISCONNECTED event"),
    ND_ENTRY(IBV_WC_MW_BIND_ERR, "a memory window could not be bound",
             "the region lacks IBV_ACCESS_MW_BIND, or LOCAL_WRITE for a "
             "window with remote write; the range reaches beyond the region; "
             "window, region and QP are of different PDs; a type 2 window "
             "that is still bound",
             "register the region with the rights that its windows need; "
             "invalidate a type 2 window before it is bound anew"),
    ND_ENTRY(IBV_WC_BAD_RESP_ERR, "the peer answered with a wrong packet",
             "a fault in the peer's device or in a software device; the peer "
             "takes this QP for another one",
             "check that both ends agree on QP numbers and PSNs; update "
             "firmware and drivers; capture the packets"),
    ND_ENTRY(IBV_WC_LOC_ACCESS_ERR,
             "the peer's request was refused here for want of rights",
             "an RDMA WRITE with immediate from the peer named an R_Key or "
             "range that this side does not grant",
             "check the region's access flags and the address and key that "
             "the peer was given"),
    ND_ENTRY(IBV_WC_REM_INV_REQ_ERR, "the peer takes the request for invalid",
             "the message is longer than the receive that it met; an "
             "operation that the peer's QP does not allow (RDMA or atomic "
             "without the right in qp_access_flags); an atomic whose address "
             "is no multiple of 8; more READs outstanding than agreed; the "
             "two ends disagree on the path MTU",
             "compare message size, receive size and MTU of both ends, and "
             "the peer's qp_access_flags"),
    ND_ENTRY(IBV_WC_REM_ACCESS_ERR,
             "the peer's memory may not be accessed in this way",
             "a wrong or stale R_Key; the range reaches beyond the region; "
             "the region or the peer's QP does not grant remote read, write "
             "or atomic; the peer has deregistered it; region and QP of the "
             "peer are of different PDs",
             "check the address, length and key that the peer published, and "
             "the access flags of its region and of its QP"),
    ND_ENTRY(IBV_WC_REM_OP_ERR, "the peer could not complete the operation",
             "the peer's QP or its receive failed locally: a bad L_Key in the "
             "receive that was posted there; a fault of its device",
             "look at the completions and asynchronous events of the peer"),
    ND_ENTRY(
        IBV_WC_RETRY_EXC_ERR, "no answer from the peer after all retries",
        "the peer's process died or its QP is in the error state or not yet "
        "in RTR; wrong destination GID, QP number or path MTU; packets are "
        "lost: no PFC or ECN on a RoCE network, a switch with a smaller MTU, "
        "a firewall on UDP port 4791; an ACK timeout too short for a loaded "
        "peer",
        "see whether the peer lives and what its QP says; try a path MTU of "
        "1024; look at the drop and pause counters of NICs and switches; "
        "raise the ACK timeout or the retry count"),
    ND_ENTRY(IBV_WC_RNR_RETRY_EXC_ERR,
             "the peer had no receive posted, after all retries",
             "the peer posts receives too late or too few for what is sent; "
             "its SRQ ran dry; rnr_retry is small or min_rnr_timer short",
             "post receives before the connection is made and keep account "
             "of them (credits); rnr_retry 7 waits for ever"),
    ND_ENTRY(IBV_WC_LOC_RDD_VIOL_ERR,
             "the reliable datagram domains do not match",
             "reliable datagrams only, which no current device has",
             "not expected: update the device's driver and firmware"),
    ND_ENTRY(IBV_WC_REM_INV_RD_REQ_ERR,
             "the peer takes a reliable datagram for invalid",
             "reliable datagrams only, which no current device has",
             "not expected: update the device's driver and firmware"),
    ND_ENTRY(IBV_WC_REM_ABORT_ERR, "the peer aborted the operation",
             "the peer's QP was moved to reset or error while the request was "
             "under way (XRC or reliable datagrams)",
             "look at what the peer did with its QP"),
    ND_ENTRY(IBV_WC_INV_EECN_ERR, "an invalid end-to-end context number",
             "reliable datagrams only, which no current device has",
             "not expected: update the device's driver and firmware"),
    ND_ENTRY(IBV_WC_INV_EEC_STATE_ERR,
             "an end-to-end context in the wrong state",
             "reliable datagrams only, which no current device has",
             "not expected: update the device's driver and firmware"),
    ND_ENTRY(IBV_WC_FATAL_ERR, "the device failed",
             "a fault of the device or its driver; often an asynchronous "
             "event DEVICE_FATAL comes with it",
             "read the kernel's log; the device has to be reset, and "
             "everything on it made anew"),
    ND_ENTRY(IBV_WC_RESP_TIMEOUT_ERR, "the peer did not respond in time",
             "reliable datagrams, or a device that reports a lost response so",
             "treat as RETRY_EXC_ERR: look at the peer and at the network"),
    ND_ENTRY(IBV_WC_GENERAL_ERR, "an error that fits no other status",
             "a fault of the device or its driver",
             "vendor_err and the kernel's log may say more"),
    ND_ENTRY(IBV_WC_TM_ERR, "tag matching failed",
             "a wrong request on an SRQ with tag matching, or hardware and "
             "software disagree on the list of tags",
             "check the tag operations; synchronise with IBV_WR_TAG_SYNC"),
    ND_ENTRY(IBV_WC_TM_RNDV_INCOMPLETE,
             "a rendezvous was matched, but software has to finish it",
             "the device left the READ of a matched rendezvous message to the "
             "application",
             "read the data with the address and key of the message"),
};

constexpr Explanation kCmEvents[] = {
    ND_ENTRY(RDMA_CM_EVENT_ADDR_RESOLVED,
             "the address leads to a local RDMA device",
             "rdma_resolve_addr was successful", "none needed"),
    ND_ENTRY(RDMA_CM_EVENT_ADDR_ERROR,
             "no way to that address through an RDMA device",
             "no route; nobody answers ARP or neighbour discovery there; the "
             "route leaves through an interface without an RDMA device (a "
             "management network, the loopback)",
             "use the address of an RDMA interface; check `ip route get` and "
             "`rdma link`"),
    ND_ENTRY(RDMA_CM_EVENT_ROUTE_RESOLVED, "the path to the peer is known",
             "rdma_resolve_route was successful", "none needed"),
    ND_ENTRY(RDMA_CM_EVENT_ROUTE_ERROR, "no path to the peer",
             "InfiniBand: the subnet manager does not answer or knows no "
             "path; RoCE: the interface went away or has no GID for the "
             "address",
             "see whether the subnet manager runs, and that the port is "
             "active and its GID table has the address"),
    ND_ENTRY(RDMA_CM_EVENT_CONNECT_REQUEST, "a peer wants to connect",
             "its REQ arrived at a listener", "accept or reject it"),
    ND_ENTRY(RDMA_CM_EVENT_CONNECT_RESPONSE, "the peer accepted",
             "its REP arrived, for a QP that librdmacm does not own",
             "move the QP to RTS and establish the connection"),
    ND_ENTRY(RDMA_CM_EVENT_CONNECT_ERROR,
             "the connection could not be completed",
             "a QP could not be moved to RTR or RTS: attributes that the "
             "device refuses, or the QP is gone",
             "check the QP's state and the attributes; the status is a "
             "negative errno"),
    ND_ENTRY(RDMA_CM_EVENT_UNREACHABLE,
             "the peer does not answer connection messages",
             "the host is down or has no RDMA device at that address; the "
             "network drops UDP port 4791 (RoCE) or the path is broken; the "
             "peer's process does not read its connection requests",
             "ping the address; check firewalls, VLAN and MTU between the "
             "hosts; see whether the server is stuck"),
    ND_ENTRY(RDMA_CM_EVENT_REJECTED, "the peer refused the connection",
             "the status is the reject reason of the IB CM; 8: nobody listens "
             "at that port, 28: the application there said no",
             "see the explanation of the reject reason"),
    ND_ENTRY(RDMA_CM_EVENT_ESTABLISHED, "the connection stands",
             "the last message of the handshake arrived", "none needed"),
    ND_ENTRY(RDMA_CM_EVENT_DISCONNECTED, "the connection ended",
             "the peer disconnected, its process ended, or it answered this "
             "side's disconnect; status -ETIMEDOUT: it did not answer",
             "disconnect this side too, flush its QP and destroy both"),
    ND_ENTRY(RDMA_CM_EVENT_DEVICE_REMOVAL, "the RDMA device is going away",
             "its driver is unloaded, it was unplugged or reset, or its "
             "network interface was removed",
             "destroy everything on that device, the kernel waits for it; "
             "connect anew through another one"),
    ND_ENTRY(RDMA_CM_EVENT_MULTICAST_JOIN, "the multicast group was joined",
             "rdma_join_multicast was successful", "none needed"),
    ND_ENTRY(RDMA_CM_EVENT_MULTICAST_ERROR,
             "the multicast group could not be joined, or was lost",
             "the subnet manager refused, or a port event ended the "
             "membership",
             "join again; see whether the subnet manager runs"),
    ND_ENTRY(RDMA_CM_EVENT_ADDR_CHANGE,
             "the hardware address of the local interface changed",
             "a bond failed over to another interface",
             "connect anew, so that the traffic follows the bond"),
    ND_ENTRY(RDMA_CM_EVENT_TIMEWAIT_EXIT,
             "late packets of the ended connection are gone",
             "the timewait period after a disconnect passed",
             "none needed: the QP number may be used again"),
};

constexpr Explanation kAsyncEvents[] = {
    ND_ENTRY(IBV_EVENT_CQ_ERR, "a completion queue failed",
             "it overflowed: more work was posted than it has entries for",
             "size the CQ for all requests of all its QPs; destroy and make "
             "it anew, with its QPs"),
    ND_ENTRY(IBV_EVENT_QP_FATAL, "a QP failed for good",
             "its work queue or CQ could not be accessed; a fault of the "
             "device",
             "destroy and make it anew; the kernel's log may say more"),
    ND_ENTRY(IBV_EVENT_QP_REQ_ERR, "a QP received an invalid request",
             "the peer sent something that no completion here could report: "
             "an unknown opcode, a wrong length, too many READs",
             "compare the settings of both ends: path MTU, "
             "max_dest_rd_atomic, access flags"),
    ND_ENTRY(IBV_EVENT_QP_ACCESS_ERR,
             "a QP received a request that it has no right to",
             "the peer used a wrong or stale R_Key, or a range or right that "
             "was not granted",
             "check which address and key the peer was given, and the access "
             "flags"),
    ND_ENTRY(IBV_EVENT_COMM_EST,
             "data arrived before the connection was established",
             "the RTU was lost or is late, which is harmless",
             "tell the CM: NotifyCommunicationEstablished"),
    ND_ENTRY(IBV_EVENT_SQ_DRAINED, "the send queue is drained",
             "the QP was moved to SQD and what was under way is done",
             "none needed"),
    ND_ENTRY(IBV_EVENT_PATH_MIG, "the QP moved to its alternate path",
             "automatic path migration: the primary path failed, or the peer "
             "migrated",
             "load a new alternate path"),
    ND_ENTRY(IBV_EVENT_PATH_MIG_ERR,
             "the QP could not move to its alternate path",
             "the alternate path is not armed or not valid",
             "check the alternate path's attributes"),
    ND_ENTRY(IBV_EVENT_DEVICE_FATAL, "the device failed",
             "a fault of hardware or firmware; the driver resets it",
             "destroy everything on it; the kernel's log says more"),
    ND_ENTRY(IBV_EVENT_PORT_ACTIVE, "a port can carry traffic",
             "its link came up", "none needed"),
    ND_ENTRY(IBV_EVENT_PORT_ERR, "a port can no longer carry traffic",
             "its link went down: a cable, a switch, or the interface was "
             "set down",
             "connections last if the link is back before their retries are "
             "used up; check the link"),
    ND_ENTRY(IBV_EVENT_LID_CHANGE, "a port's LID changed",
             "the subnet manager was restarted or reconfigured",
             "connections to the old LID break: make them anew"),
    ND_ENTRY(IBV_EVENT_PKEY_CHANGE, "a port's P_Key table changed",
             "the subnet manager or an administrator changed partitions",
             "QPs that use a P_Key which is gone have to be made anew"),
    ND_ENTRY(IBV_EVENT_SM_CHANGE, "another subnet manager took over",
             "the master subnet manager was restarted or replaced",
             "multicast memberships and subscriptions may be lost"),
    ND_ENTRY(IBV_EVENT_SRQ_ERR, "a shared receive queue failed",
             "a fault of the device, or its memory could not be accessed",
             "destroy and make it anew, with its QPs"),
    ND_ENTRY(IBV_EVENT_SRQ_LIMIT_REACHED,
             "a shared receive queue has fewer receives than its limit",
             "receives are used up faster than they are posted",
             "post receives and set the limit again: it fires once"),
    ND_ENTRY(IBV_EVENT_QP_LAST_WQE_REACHED,
             "a QP in error has taken its last receive from its SRQ",
             "the QP was moved to the error state",
             "none needed: the QP may be destroyed now"),
    ND_ENTRY(IBV_EVENT_CLIENT_REREGISTER,
             "the subnet manager asks for all subscriptions anew",
             "it was restarted and has lost them",
             "join multicast groups and subscribe again"),
    ND_ENTRY(IBV_EVENT_GID_CHANGE, "a port's GID table changed",
             "RoCE: an IP address of its interface was added or removed",
             "look GID indices up again: they may have moved"),
    ND_ENTRY(IBV_EVENT_WQ_FATAL, "a work queue of an RSS QP failed",
             "its CQ or memory could not be accessed; a fault of the device",
             "destroy and make it anew"),
};

// rdma-core has no names for the reject reasons, so the kernel's are taken
// (include/rdma/ib_cm.h).
constexpr Explanation kRejects[] = {
    {"IB_CM_REJ_NO_QP", 1, "the peer has no QP left", "its device is full",
     "close connections there"},
    {"IB_CM_REJ_NO_EEC", 2, "the peer has no end-to-end context left",
     "reliable datagrams only", "not expected from a current device"},
    {"IB_CM_REJ_NO_RESOURCES", 3, "the peer lacks resources",
     "memory, QPs or CQ entries are used up there",
     "close connections there, or try later"},
    {"IB_CM_REJ_TIMEOUT", 4, "the peer gave up waiting",
     "this side answered too late, a message was lost on the way, or the peer "
     "was told to stop connecting",
     "connect again; see whether the server is slow to accept"},
    {"IB_CM_REJ_UNSUPPORTED", 5, "the peer does not know such requests",
     "a transport or feature that its CM does not have",
     "compare the devices and rdma_cm settings of both ends"},
    {"IB_CM_REJ_INVALID_COMM_ID", 6, "the peer knows no such connection id",
     "it was restarted, or has ended this connection already", "connect again"},
    {"IB_CM_REJ_INVALID_COMM_INSTANCE", 7,
     "the two connection ids do not belong together",
     "a late message of an older connection, or a fault in a CM",
     "connect again"},
    {"IB_CM_REJ_INVALID_SERVICE_ID", 8, "nobody listens at that port",
     "the server does not run, or listens at another port, on another "
     "address, or in another port space",
     "start the server; compare address and port"},
    {"IB_CM_REJ_INVALID_TRANSPORT_TYPE", 9,
     "the peer does not offer that transport there",
     "RC, UC and UD of the two ends do not match",
     "use the same QP type and port space at both ends"},
    {"IB_CM_REJ_STALE_CONN", 10,
     "the peer still has an older connection from this QP number",
     "this process was restarted, and the device gave it the same QP number "
     "again; the peer has not noticed the end of the old connection",
     "connect again with a new QP: the peer drops the stale connection"},
    {"IB_CM_REJ_RDC_NOT_EXIST", 11, "the peer has no such RD channel",
     "reliable datagrams only", "not expected from a current device"},
    {"IB_CM_REJ_INVALID_GID", 12, "the peer does not own that GID",
     "the address moved to another host or port; a stale ARP entry or path "
     "record; RoCE v1 on one end and v2 on the other",
     "check the peer's GID table and this host's neighbour table"},
    {"IB_CM_REJ_INVALID_LID", 13, "the peer does not own that LID",
     "a stale path record after the subnet manager changed LIDs",
     "resolve the route anew"},
    {"IB_CM_REJ_INVALID_SL", 14, "the peer refuses that service level",
     "the subnet's quality of service settings differ between the ends",
     "compare the SL of the path with the peer's settings"},
    {"IB_CM_REJ_INVALID_TRAFFIC_CLASS", 15,
     "the peer refuses that traffic class",
     "the type of service that was set is not allowed there",
     "use another type of service"},
    {"IB_CM_REJ_INVALID_HOP_LIMIT", 16, "the peer refuses that hop limit",
     "the path record's hop limit does not reach it", "check the routing"},
    {"IB_CM_REJ_INVALID_PACKET_RATE", 17, "the peer refuses that packet rate",
     "its port is slower than the path says", "resolve the route anew"},
    {"IB_CM_REJ_INVALID_ALT_GID", 18,
     "the peer does not own the alternate path's GID",
     "the alternate path is out of date", "load another alternate path"},
    {"IB_CM_REJ_INVALID_ALT_LID", 19,
     "the peer does not own the alternate path's LID",
     "the alternate path is out of date", "load another alternate path"},
    {"IB_CM_REJ_INVALID_ALT_SL", 20,
     "the peer refuses the alternate path's service level",
     "the alternate path is not allowed there", "load another alternate path"},
    {"IB_CM_REJ_INVALID_ALT_TRAFFIC_CLASS", 21,
     "the peer refuses the alternate path's traffic class",
     "the alternate path is not allowed there", "load another alternate path"},
    {"IB_CM_REJ_INVALID_ALT_HOP_LIMIT", 22,
     "the peer refuses the alternate path's hop limit",
     "the alternate path is not allowed there", "load another alternate path"},
    {"IB_CM_REJ_INVALID_ALT_PACKET_RATE", 23,
     "the peer refuses the alternate path's packet rate",
     "the alternate path is not allowed there", "load another alternate path"},
    {"IB_CM_REJ_PORT_CM_REDIRECT", 24,
     "connect through another port and connection manager",
     "the peer redirects connections, its answer says where to",
     "rdma_cm does not follow: connect to the other address"},
    {"IB_CM_REJ_PORT_REDIRECT", 25, "connect through another port",
     "the peer redirects connections, its answer says where to",
     "rdma_cm does not follow: connect to the other address"},
    {"IB_CM_REJ_INVALID_MTU", 26, "the peer refuses that path MTU",
     "its port or its QP has a smaller MTU",
     "set the interfaces and switches of both ends to one MTU"},
    {"IB_CM_REJ_INSUFFICIENT_RESP_RESOURCES", 27,
     "the peer cannot serve that many READs and atomics at a time",
     "initiator_depth is larger than its device or settings allow",
     "ask for a smaller initiator_depth"},
    {"IB_CM_REJ_CONSUMER_DEFINED", 28, "the application there said no",
     "its reject's private data says why; without any: its backlog is full, "
     "it closed the request or its process ended before it answered, or its "
     "kernel disliked the request (another subnet, another interface)",
     "see the reason in the private data; without one, try again and look at "
     "the server"},
    {"IB_CM_REJ_INVALID_RNR_RETRY", 29, "the peer refuses that RNR retry count",
     "it does not allow so many retries", "use another rnr_retry_count"},
    {"IB_CM_REJ_DUPLICATE_LOCAL_COMM_ID", 30,
     "the peer has a request with this connection id already",
     "a late message of an older request, or a fault in a CM", "connect again"},
    {"IB_CM_REJ_INVALID_CLASS_VERSION", 31,
     "the peer speaks another version of the CM protocol",
     "a fault in a CM, or something that is no CM answered",
     "update drivers and firmware"},
    {"IB_CM_REJ_INVALID_FLOW_LABEL", 32, "the peer refuses that flow label",
     "the path's flow label is not allowed there", "resolve the route anew"},
    {"IB_CM_REJ_INVALID_ALT_FLOW_LABEL", 33,
     "the peer refuses the alternate path's flow label",
     "the alternate path is not allowed there", "load another alternate path"},
    {"IB_CM_REJ_REASON_34", 34, "a reason that Linux has no name for",
     "the peer's CM is not that of Linux", "see the peer's documentation"},
    {"IB_CM_REJ_VENDOR_OPTION_NOT_SUPPORTED", 35,
     "the peer does not have the vendor option that was asked for",
     "the two devices' enhanced connection establishment (ECE) do not match",
     "connect without the option"},
};

constexpr Explanation kUnknown = {
    "UNKNOWN", -1, "a value that this version does not know",
    "a device or rdma-core newer than nd", "see the device's documentation"};

// Values count up by one from that of the first entry.
template <size_t n>
constexpr bool InOrder(const Explanation (&table)[n], int first) {
  for (size_t i = 0; i < n; ++i) {
    if (table[i].value != first + static_cast<int>(i)) return false;
  }
  return true;
}
static_assert(InOrder(kWc, IBV_WC_SUCCESS));
static_assert(std::size(kWc) == IBV_WC_TM_RNDV_INCOMPLETE + 1);
static_assert(InOrder(kCmEvents, RDMA_CM_EVENT_ADDR_RESOLVED));
static_assert(std::size(kCmEvents) == RDMA_CM_EVENT_TIMEWAIT_EXIT + 1);
static_assert(InOrder(kAsyncEvents, IBV_EVENT_CQ_ERR));
static_assert(std::size(kAsyncEvents) == IBV_EVENT_WQ_FATAL + 1);
static_assert(InOrder(kRejects, 1));
static_assert(std::size(kRejects) == 35);

const Explanation& Lookup(std::span<const Explanation> table, int value) {
  const int index = value - table.front().value;
  if (index < 0 || index >= static_cast<int>(table.size())) return kUnknown;
  return table[index];
}

struct Table {
  absl::string_view prefix;  // of its names
  std::span<const Explanation> entries;
};
constexpr Table kTables[] = {
    {"IBV_WC_", kWc},
    {"RDMA_CM_EVENT_", kCmEvents},
    {"IBV_EVENT_", kAsyncEvents},
    {"IB_CM_REJ_", kRejects},
};

absl::string_view ShortName(const Table& table, const Explanation& entry) {
  return absl::StripPrefix(entry.name, table.prefix);
}

// "Retry exc-err" and "RETRY_EXC_ERR" are the same word.
std::string Normalize(absl::string_view text) {
  return absl::StrReplaceAll(
      absl::AsciiStrToUpper(absl::StripAsciiWhitespace(text)),
      {{" ", "_"}, {"-", "_"}, {":", ""}});
}

// What libibverbs prints for the entry, as logs of other programs have it.
std::string LibraryText(const Table& table, const Explanation& entry) {
  if (table.entries.data() == kWc) {
    return Normalize(
        ibv_wc_status_str(static_cast<ibv_wc_status>(entry.value)));
  }
  if (table.entries.data() == kAsyncEvents) {
    return Normalize(
        ibv_event_type_str(static_cast<ibv_event_type>(entry.value)));
  }
  return "";
}

const Explanation* FindByName(absl::string_view word) {
  for (const Table& table : kTables) {
    for (const Explanation& entry : table.entries) {
      if (word == entry.name || word == ShortName(table, entry) ||
          word == absl::StripSuffix(ShortName(table, entry), "_ERR") ||
          word == LibraryText(table, entry)) {
        return &entry;
      }
    }
  }
  return nullptr;
}

// "STATUS_12", "REJECT_8", "12". Null when `word` is no number of that kind.
const Explanation* FindByNumber(absl::string_view word) {
  struct Kind {
    absl::string_view prefix;
    std::span<const Explanation> entries;
  };
  static constexpr Kind kKinds[] = {
      {"REJECT_REASON_", kRejects},
      {"REJECT_", kRejects},
      {"REASON_", kRejects},
      {"REJ_", kRejects},
      {"CM_EVENT_", kCmEvents},
      {"CM_", kCmEvents},
      {"ASYNC_EVENT_", kAsyncEvents},
      {"ASYNC_", kAsyncEvents},
      {"WC_STATUS_", kWc},
      {"STATUS_", kWc},
      {"WC_", kWc},
      {"", kWc},
  };
  for (const Kind& kind : kKinds) {
    absl::string_view number = word;
    int value = 0;
    if (!absl::ConsumePrefix(&number, kind.prefix) ||
        !absl::SimpleAtoi(number, &value)) {
      continue;
    }
    const Explanation& entry = Lookup(kind.entries, value);
    return &entry == &kUnknown ? nullptr : &entry;
  }
  return nullptr;
}

// Levenshtein's: insertions, deletions and replacements that make `b` of `a`.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// Names that have `word` in them come first, then those spelled like it.
std::vector<absl::string_view> NearestNames(absl::string_view word) {
  std::vector<std::pair<size_t, absl::string_view>> ranked;
  for (const Table& table : kTables) {
    for (const Explanation& entry : table.entries) {
      const bool contains =
          word.size() >= 3 &&
          absl::string_view(entry.name).find(word) != absl::string_view::npos;
      const size_t distance =
          contains ? 0
                   : std::min(EditDistance(word, entry.name),
                              EditDistance(word, ShortName(table, entry)));
      ranked.emplace_back(distance, entry.name);
    }
  }
  constexpr size_t kNames = 3;
  std::partial_sort(ranked.begin(), ranked.begin() + kNames, ranked.end());
  std::vector<absl::string_view> names;
  for (size_t i = 0; i < kNames; ++i) names.push_back(ranked[i].second);
  return names;
}

}  // namespace

const Explanation& Explain(ibv_wc_status status) { return Lookup(kWc, status); }
const Explanation& Explain(rdma_cm_event_type event) {
  return Lookup(kCmEvents, event);
}
const Explanation& Explain(ibv_event_type event) {
  return Lookup(kAsyncEvents, event);
}
const Explanation& ExplainRejectReason(int reason) {
  return Lookup(kRejects, reason);
}

std::span<const Explanation> WcExplanations() { return kWc; }
std::span<const Explanation> CmEventExplanations() { return kCmEvents; }
std::span<const Explanation> AsyncEventExplanations() { return kAsyncEvents; }
std::span<const Explanation> RejectExplanations() { return kRejects; }

absl::StatusOr<Explanation> FindExplanation(absl::string_view text) {
  const std::string word = Normalize(text);
  if (word.empty()) return absl::InvalidArgumentError("no status named");
  if (const Explanation* entry = FindByName(word)) return *entry;
  if (const Explanation* entry = FindByNumber(word)) return *entry;
  return absl::NotFoundError(
      absl::StrCat("nothing is called \"", text, "\"; near it are ",
                   absl::StrJoin(NearestNames(word), ", ")));
}

}  // namespace nd::verbs

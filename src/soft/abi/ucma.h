// The kernel's half of rdma_cm: what /dev/infiniband/rdma_cm makes of the
// commands that librdmacm writes to it (the uAPI of Linux's ucma).
#ifndef ND_SOFT_ABI_UCMA_H_
#define ND_SOFT_ABI_UCMA_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "soft/abi/ucma_answers.h"
#include "soft/abi/ucma_host.h"
#include "soft/abi/ucma_id.h"
#include "soft/abi/ucma_request.h"

namespace nd::soft {

// Open files, the ids that were created through them, and their events. It
// answers and never waits: all that takes time is the manager's.
//
// One thread at a time. The host may call OnEvent, but nothing else, from
// within its Deliver.
class Ucma {
 public:
  // Ids of the process, requests not fetched included: librdmacm's own table
  // ends at 65,535.
  static constexpr size_t kMaxIds = 65535;
  // Of a file. What would make more is refused; what the peers of established
  // connections do is not, for it is little and bounded by kMaxIds.
  static constexpr size_t kMaxEvents = size_t{1} << 17;
  // Of multicast groups, by ids of the process.
  static constexpr size_t kMaxJoins = 65535;

  explicit Ucma(UcmaHost& host) : host_(host) {}
  Ucma(const Ucma&) = delete;
  Ucma& operator=(const Ucma&) = delete;

  UcmaFile Open();
  // With its ids; their peers are told.
  void Close(UcmaFile file);

  // One write(2): how many bytes it took, all, or -errno. The answer goes where
  // the command points; -EAGAIN: a GET_EVENT, and there is none.
  int64_t Command(UcmaFile file, std::span<const std::byte> bytes);
  // Whether the command is one that waits where its file blocks.
  static bool IsGetEvent(std::span<const std::byte> bytes);

  // The manager says so.
  void OnEvent(const CmEvent& event);

  // The device is gone: whoever uses it is told.
  void OnDeviceRemoval();

  size_t size() const { return ids_.size(); }

 private:
  struct Event {
    uint32_t owner = 0;    // whose events_reported counts it
    uint32_t request = 0;  // the new id of a kConnectRequest, or 0
    uint32_t join = 0;     // that counts it too, or 0
    rdma_ucm_event_resp answer{};
  };
  struct File {
    std::deque<Event> events;
  };
  // That an id joined a group. They have numbers of their own.
  struct Join {
    uint32_t owner = 0;  // the id
    uint32_t events_reported = 0;
  };

  int Run(UcmaFile file, uint32_t command, const UcmaRequest& request);
  // Each reads a command, finds its id, runs it, and writes its answer.
  template <typename In>
  int OnId(UcmaFile file, const UcmaRequest& request,
           int (Ucma::*run)(UcmaId&, const In&));
  template <typename In, typename Out>
  int OnId(UcmaFile file, const UcmaRequest& request,
           int (Ucma::*run)(UcmaId&, const In&, Out&));
  template <typename In, typename Out>
  int OnFile(UcmaFile file, const UcmaRequest& request,
             int (Ucma::*run)(UcmaFile, const In&, Out&));

  // The commands: 0 or -errno.
  int CreateId(UcmaFile file, const rdma_ucm_create_id& command,
               rdma_ucm_create_id_resp& answer);
  int DestroyId(UcmaId& id, const rdma_ucm_destroy_id& command,
                rdma_ucm_destroy_id_resp& answer);
  int BindIp(UcmaId& id, const rdma_ucm_bind_ip& command);
  int Bind(UcmaId& id, const rdma_ucm_bind& command);
  int ResolveIp(UcmaId& id, const rdma_ucm_resolve_ip& command);
  int ResolveAddr(UcmaId& id, const rdma_ucm_resolve_addr& command);
  int ResolveRoute(UcmaId& id, const rdma_ucm_resolve_route& command);
  int QueryRoute(UcmaId& id, const rdma_ucm_query& command,
                 rdma_ucm_query_route_resp& answer);
  int Query(UcmaFile file, const UcmaRequest& request);
  int QueryAddr(UcmaId& id, const rdma_ucm_query& command,
                rdma_ucm_query_addr_resp& answer);
  int QueryGid(UcmaId& id, const rdma_ucm_query& command,
               rdma_ucm_query_addr_resp& answer);
  int QueryPath(UcmaId& id, const rdma_ucm_query& command,
                UcmaPathAnswer& answer);
  int Connect(UcmaId& id, const rdma_ucm_connect& command);
  int Listen(UcmaId& id, const rdma_ucm_listen& command);
  int Accept(UcmaId& id, const rdma_ucm_accept& command);
  int Reject(UcmaId& id, const rdma_ucm_reject& command);
  int Disconnect(UcmaId& id, const rdma_ucm_disconnect& command);
  int InitQpAttr(UcmaId& id, const rdma_ucm_init_qp_attr& command,
                 ib_uverbs_qp_attr& answer);
  int GetEvent(UcmaFile file, const rdma_ucm_get_event& command,
               rdma_ucm_event_resp& answer);
  int SetOption(UcmaId& id, const rdma_ucm_set_option& command);
  int Notify(UcmaId& id, const rdma_ucm_notify& command);
  int MigrateId(UcmaFile file, const rdma_ucm_migrate_id& command,
                rdma_ucm_migrate_resp& answer);
  int JoinIpMcast(UcmaId& id, const rdma_ucm_join_ip_mcast& command,
                  rdma_ucm_create_id_resp& answer);
  int JoinMcast(UcmaId& id, const rdma_ucm_join_mcast& command,
                rdma_ucm_create_id_resp& answer);
  int LeaveMcast(UcmaFile file, const rdma_ucm_destroy_id& command,
                 rdma_ucm_destroy_id_resp& answer);

  // Parts of them.
  struct Resolution {
    const UcmaSockaddr* source = nullptr;  // null: any
    const UcmaSockaddr& destination;
  };
  int JoinGroup(UcmaId& id, const Gid& group, uint64_t uid,
                rdma_ucm_create_id_resp& answer);
  int BindTo(UcmaId& id, const UcmaSockaddr& address, bool announced);
  int FindLocalGid(const UcmaSockaddr& address, Gid& gid);
  int Resolve(UcmaId& id, const Resolution& resolution);
  UcmaPath PathOf(const UcmaId& id);
  int SetIdOption(UcmaId& id, uint32_t name, std::span<const std::byte> value);
  int SetIbPath(UcmaId& id, std::span<const std::byte> records);
  CmConnectOptions ConnectOptions(const UcmaId& id,
                                  const rdma_ucm_conn_param& param) const;
  absl::Status AcceptWith(UcmaId& id, const rdma_ucm_conn_param& param,
                          CmOutput& output);

  UcmaDevice Device() const;
  UcmaId* FindFetched(uint32_t number);
  // A new id of the file; null: there are too many.
  UcmaId* AddId(UcmaFile file);
  void Release(UcmaId& id, CmOutput& output);
  void SetHandle(UcmaId& id, CmHandle handle);
  void AddRequest(UcmaId& listener, const CmEvent& event);

  bool Full(UcmaFile file) const;
  void Push(const UcmaId& id, UcmaEventType type, int status = 0);
  void Push(UcmaFile file, const Event& event);
  // Takes the id's events out of its file: all, or those of one of its joins.
  std::vector<Event> TakeEvents(UcmaId& id, uint32_t join = 0);
  void Deliver(const CmOutput& output);

  UcmaHost& host_;
  uint64_t last_file_ = 0;
  absl::flat_hash_map<UcmaFile, File> files_;
  uint32_t last_id_ = 0;
  std::vector<uint32_t> free_ids_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<UcmaId>> ids_;
  absl::flat_hash_map<CmHandle, uint32_t> handles_;
  uint32_t last_join_ = 0;
  absl::flat_hash_map<uint32_t, Join> joins_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_H_

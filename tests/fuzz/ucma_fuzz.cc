// Two hosts whose programs write what the input says to the character device.
// For libFuzzer; as a plain test see soft/abi/ucma_fuzz_test.cc.
#include <cstdint>
#include <memory>
#include <span>

#include "fuzz/choices.h"
#include "soft/abi/ucma_world.h"

namespace nd::soft {
namespace {

constexpr size_t kMemory = 1024;  // that pointers lead to
constexpr uint16_t kListenedTo = 7000;
constexpr uint16_t kTcp = RDMA_PS_TCP;
constexpr uint16_t kUdp = RDMA_PS_UDP;

UcmaSockaddr ChooseAddress(Choices& choices) {
  constexpr Gid kAny4 = Mapped({});
  const Gid ips[] = {Ipv4(2), Ipv4(2), Ipv4(2), Ipv4(1),    kAny4,    kAny4,
                     Ipv6(2), Gid{},   Ipv4(9), kLoopback4, Ipv4(98), Ipv4(99)};
  const uint16_t port = static_cast<uint16_t>(7000 + choices.Below(3));
  UcmaSockaddr address = AddressOf(ips[choices.Below(std::size(ips))], port);
  if (choices.Below(16) == 0) address.family = kIbFamily;
  if (choices.Below(16) == 0) address.family = 0;
  return address;
}

rdma_ucm_conn_param ChooseParam(Choices& choices) {
  rdma_ucm_conn_param param = Program::Param(choices.Byte(), choices.Byte());
  param.private_data_len &= choices.Below(4) == 0 ? 0xff : 0x1f;
  param.valid = choices.Below(8) != 0;
  return param;
}

// A command of the input's own making, but for its pointers.
int64_t WriteAny(Choices& choices, Program& program,
                 std::span<std::byte, kMemory> memory) {
  const uint32_t command = choices.Below(28);
  std::vector<std::byte> body(choices.Byte() + choices.Byte());
  for (std::byte& each : body) {
    each = choices.Below(2) == 0 ? std::byte{0} : std::byte{choices.Byte()};
  }
  // All pointers are the first or second eight bytes; optlen is where it is.
  const uint64_t pointer =
      choices.Below(8) == 0 ? 0 : reinterpret_cast<uintptr_t>(memory.data());
  for (const size_t at : {0, 8}) {
    const bool create = command == RDMA_USER_CM_CMD_CREATE_ID;
    if ((at == 8) != create || body.size() < at + sizeof(pointer)) continue;
    std::memcpy(body.data() + at, &pointer, sizeof(pointer));
  }
  if (command == RDMA_USER_CM_CMD_SET_OPTION && body.size() >= 24) {
    const uint32_t size = choices.Byte();
    std::memcpy(body.data() + 20, &size, sizeof(size));
  }
  const rdma_ucm_cmd_hdr header{
      .cmd = command,
      .in = static_cast<uint16_t>(body.size()),
      .out = static_cast<uint16_t>(choices.Byte() * 4)};
  std::vector<std::byte> bytes(sizeof(header));
  std::memcpy(bytes.data(), &header, sizeof(header));
  bytes.insert(bytes.end(), body.begin(), body.end());
  return program.Write(bytes);
}

struct Query {
  Choices& choices;
  Program& program;
  uint32_t id;
};

void Ask(const Query& query) {
  rdma_ucm_query_route_resp route{};
  rdma_ucm_query_addr_resp address{};
  ib_uverbs_qp_attr attr{};
  switch (query.choices.Below(4)) {
    case 0:
      query.program.QueryRoute(query.id, route);
      return;
    case 1:
      query.program.InitQp(query.id, query.choices.Below(8), attr);
      return;
    default:
      query.program.Query(query.id, query.choices.Below(4), address);
      return;
  }
}

class Run {
 public:
  explicit Run(std::span<const uint8_t> input) : choices_(input) {
    for (size_t i = 0; i < programs_.size(); ++i) {
      programs_[i] = std::make_unique<Program>(HostOf(i));
    }
    for (size_t i = 0; i < programs_.size(); ++i) {
      Program& program = *programs_[i];
      const uint32_t id = program.Create(1, i < 2 ? kTcp : kUdp);
      program.Bind(id, AddressOf(Mapped({}), kListenedTo));
      program.Listen(id);
    }
  }

  void All() {
    if (choices_.Below(2) == 0) {
      world_.client.at_once =
          world_.server.at_once = [this] { world_.Settle(); };
    }
    while (!choices_.empty()) {
      Step();
      Check();
    }
    Finish();
  }

 private:
  FakeHost& HostOf(size_t program) {
    return program % 2 == 0 ? world_.client : world_.server;
  }

  void Step() {
    Program& program = *programs_[choices_.Below(4)];
    const uint32_t id = choices_.Below(24);
    switch (choices_.Below(40)) {
      case 0:
        program.Create(choices_.Below(4), RDMA_PS_TCP);
        return;
      case 1: {
        constexpr uint16_t kSpaces[] = {RDMA_PS_UDP, RDMA_PS_IB, RDMA_PS_TCP};
        uint32_t made = 0;
        program.Create(made, choices_.Below(4), kSpaces[choices_.Below(3)],
                       UcmaQpType{static_cast<uint8_t>(choices_.Below(6))});
        return;
      }
      case 2:
        program.Bind(id, ChooseAddress(choices_));
        return;
      case 3:
        program.Listen(id, choices_.Below(3));
        return;
      case 4:
      case 5:
        program.ResolveAddr(id, ChooseAddress(choices_));
        return;
      case 6:
      case 7:
        program.ResolveRoute(id, choices_.Byte());
        return;
      case 8:
      case 9:
      case 10:
        program.Connect(id, ChooseParam(choices_));
        return;
      case 11:
      case 12:
        program.Accept(id, choices_.Below(4), ChooseParam(choices_));
        return;
      case 13:
        program.Establish(id);
        return;
      case 14:
        program.Reject(id, choices_.Below(2) * 28, choices_.Byte());
        return;
      case 15:
        program.Disconnect(id);
        return;
      case 16:
        if (choices_.Below(4) == 0) program.Destroy(id);
        return;
      case 17:
        program.Migrate(id);
        return;
      case 18:
        Ask({choices_, program, id});
        return;
      case 19:
        program.SetOption(id, choices_.Below(5), choices_.Byte());
        program.SetOption(id, choices_.Below(5), int{choices_.Byte()});
        return;
      case 20:
        if (choices_.Below(4) == 0) WriteAny(choices_, program, memory_);
        return;
      case 21:
        world_.wire.silent = choices_.Below(8) == 0;
        if (choices_.Below(4) == 0) world_.Tick();
        return;
      case 22:
        Reopen(choices_.Below(4));
        return;
      case 23:
      case 24:
      case 25:
      case 26:
        ConnectAnew(program);
        return;
      case 27: {
        UcmaSockaddr group = ChooseAddress(choices_);
        if (choices_.Below(8) != 0) group.endpoint.ip[12] = 239;
        program.JoinMcast(id, choices_.Below(4), group,
                          static_cast<uint16_t>(choices_.Below(3)));
        return;
      }
      case 28:
        program.LeaveMcast(choices_.Below(8));
        return;
      default:
        world_.Settle();
        Answer(program);
        return;
    }
  }

  // To one of the listeners.
  void ConnectAnew(Program& program) {
    const bool datagram = choices_.Below(4) == 0;
    const uint32_t id =
        program.Create(1 + choices_.Below(3), datagram ? kUdp : kTcp);
    const Gid ip = choices_.Below(4) == 0 ? kLoopback4 : Ipv4(2);
    program.ResolveAddr(id, AddressOf(ip, kListenedTo));
    program.ResolveRoute(id);
    rdma_ucm_conn_param param = ChooseParam(choices_);
    param.qp_num = ++last_qpn_;
    program.Connect(id, param);
  }

  // What a program would do about its next event, or not quite.
  void Answer(Program& program) {
    const auto event = program.Next();
    if (!event) return;
    rdma_ucm_conn_param param = ChooseParam(choices_);
    param.qp_num = ++last_qpn_;
    const uint32_t decision = choices_.Below(16);
    switch (static_cast<UcmaEventType>(event->event)) {
      case UcmaEventType::kConnectRequest:
        if (decision == 0) program.Reject(event->id);
        if (decision == 1) program.Destroy(event->id);
        if (decision > 2) program.Accept(event->id, 1, param);
        return;
      case UcmaEventType::kConnectResponse:
        if (decision == 0) program.Reject(event->id);
        if (decision > 1) program.Establish(event->id);
        return;
      case UcmaEventType::kEstablished:
      case UcmaEventType::kDisconnected:
        if (decision < 8) program.Disconnect(event->id);
        if (decision == 9) program.Destroy(event->id);
        return;
      default:
        return;
    }
  }

  void Reopen(size_t number) {
    if (choices_.Below(16) != 0) return;
    programs_[number]->Close();
    Require(programs_[number]->Listen(1) == -EBADF, "a closed file works");
    programs_[number] = std::make_unique<Program>(HostOf(number));
  }

  void Check() {
    for (const auto& program : programs_) {
      Require(program->waiting() >= 0, "fewer than no events");
    }
  }

  void Finish() {
    for (const auto& program : programs_) {
      for (int left = program->waiting(); left > 0; --left) {
        Require(program->Next().has_value(), "an event is missing");
      }
      Require(!program->Next(), "one event too many");
    }
    for (const auto& program : programs_) program->Close();
    world_.wire.silent = false;
    world_.Settle();
    while (world_.Tick()) {
    }
    for (FakeHost* const host : {&world_.client, &world_.server}) {
      Require(host->ucma.size() == 0, "an id is left");
      Require(host->ports() == 0, "a port is left");
      Require(host->manager().size() == 0, "a connection is left");
    }
  }

  Choices choices_;
  World world_;
  uint32_t last_qpn_ = 0x1000;
  std::array<std::unique_ptr<Program>, 4> programs_;
  std::array<std::byte, kMemory> memory_{};
};

}  // namespace
}  // namespace nd::soft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::soft::Run(std::span(data, size)).All();
  return 0;
}

// What becomes of calls on the objects of real devices: libndsoft stands before
// a libibverbs whose devices are not ours, and which remembers its calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "soft/abi/fake_verbs.h"

#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

// Those without a header, or in newer ones than ours.
extern "C" {
void ibv_copy_ah_attr_from_kern(void* to, const void* from);
void ibv_copy_path_rec_from_kern(void* to, const void* from);
void ibv_copy_path_rec_to_kern(void* to, const void* from);
void ibv_copy_qp_attr_from_kern(void* to, const void* from);
const char* ibv_get_sysfs_path();
int ibv_read_sysfs_file(const char* dir, const char* file, char* to,
                        size_t size);
int ibv_dontfork_range(void* base, size_t size);
int ibv_dofork_range(void* base, size_t size);
int ibv_query_gid_type(ibv_context* context, uint8_t port, unsigned index,
                       int* type);
void* ibv_alloc_dmah(ibv_context* context, void* attr);
void* ibv_reg_mr_ex(ibv_pd* pd, void* attr);
int ibv_query_port_speed(ibv_context* context, uint32_t port, uint64_t* speed);
void* ibv_alloc_buf(ibv_pd* pd, size_t size, void** buffer);
void* ibv_reg_buf_mr(ibv_pd* pd, void* buffer, void* address, size_t length,
                     int access);
int _ibv_query_comp_cntr_caps(ibv_context* context, void* caps, size_t size);
void* ibv_create_comp_cntr(ibv_context* context, void* attr);
int ibv_qp_attach_comp_cntr(ibv_qp* qp, void* counter, void* attr);
}

namespace {

using testing::ElementsAre;

constexpr uintptr_t kAnswer = 0x7e57'1234'5678'9abd;

// Objects of real devices. Of most of what calls name besides, only the address
// matters.
ibv_device devices[2];

template <typename Object>
Object Of(ibv_context* context) {
  Object object{};
  object.context = context;
  return object;
}

ibv_context context = [] {
  ibv_context made{};
  made.device = &devices[0];
  return made;
}();
auto pd = Of<ibv_pd>(&context);
auto mr = Of<ibv_mr>(&context);
auto dm = Of<ibv_dm>(&context);
auto channel = Of<ibv_comp_channel>(&context);
auto cq = Of<ibv_cq>(&context);
auto qp = Of<ibv_qp>(&context);
auto srq = Of<ibv_srq>(&context);
auto wq = Of<ibv_wq>(&context);
auto ah = Of<ibv_ah>(&context);
ibv_async_event cq_event = {{.cq = &cq}, IBV_EVENT_CQ_ERR};
ibv_async_event qp_event = {{.qp = &qp}, IBV_EVENT_COMM_EST};
ibv_async_event srq_event = {{.srq = &srq}, IBV_EVENT_SRQ_LIMIT_REACHED};
ibv_async_event wq_event = {{.wq = &wq}, IBV_EVENT_WQ_FATAL};
ibv_async_event port_event = {{.port_num = 1}, IBV_EVENT_PORT_ERR};
std::byte memory[16];
void* const kThis = &memory[1];
void* const kThat = &memory[2];

template <typename T>
T* At(size_t offset) {
  return reinterpret_cast<T*>(&memory[offset]);
}

// The bytes that a value has, as the lower ones of a word.
template <typename T>
uintptr_t Word(T value) {
  // NOLINTNEXTLINE(bugprone-sizeof-expression): of a pointer is meant
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uintptr_t word = 0;
  std::memcpy(&word, &value, sizeof(T));  // NOLINT(bugprone-sizeof-expression)
  return word;
}
template <typename T>
uintptr_t Truncated(uintptr_t word) {
  // NOLINTNEXTLINE(bugprone-sizeof-expression): of a pointer is meant
  return word & (~uintptr_t{0} >> (64 - 8 * sizeof(T)));
}

struct Case {
  std::string symbol;
  std::function<void()> call;
};

// The real function is called, once, with these arguments, and gives its answer
// to the caller.
template <typename R, typename... Parameters, typename... Arguments>
Case Calls(const char* symbol, R (*function)(Parameters...),
           Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  static_assert(sizeof...(Parameters) <= kFakeArguments);
  return {
      symbol, [=] {
        fake_answer(kAnswer);
        const int before = fake_calls();
        if constexpr (std::is_void_v<R>) {
          function(Parameters(arguments)...);
        } else {
          EXPECT_EQ(Word(function(Parameters(arguments)...)),
                    Truncated<R>(kAnswer));
        }
        ASSERT_EQ(fake_calls(), before + 1);
        EXPECT_STREQ(fake_last_call()->symbol, symbol);
        [[maybe_unused]] const uintptr_t* next = fake_last_call()->arguments;
        EXPECT_EQ((std::vector<uintptr_t>{Truncated<Parameters>(*next++)...}),
                  (std::vector<uintptr_t>{Word(Parameters(arguments))...}));
      }};
}
#define ND_CALLS(function, ...) \
  Calls(#function, function __VA_OPT__(, ) __VA_ARGS__)

std::vector<Case> Cases() {
  return {
      ND_CALLS(ibv_get_device_name, &devices[1]),
      ND_CALLS(ibv_get_device_guid, &devices[1]),
      ND_CALLS(ibv_get_device_index, &devices[1]),
      ND_CALLS(ibv_open_device, &devices[1]),
      ND_CALLS(ibv_close_device, &context),
      ND_CALLS(ibv_query_device, &context, At<ibv_device_attr>(3)),
      ND_CALLS(ibv_query_port, &context, 0x91, At<_compat_ibv_port_attr>(4)),
      ND_CALLS(ibv_query_gid, &context, 0x92, -7, At<ibv_gid>(5)),
      ND_CALLS(_ibv_query_gid_ex, &context, 0x8000'0001, 0x8000'0002,
               At<ibv_gid_entry>(6), 0x8000'0003,
               size_t{0x9000'0000'0000'0004}),
      ND_CALLS(_ibv_query_gid_table, &context, At<ibv_gid_entry>(7),
               size_t{0x9000'0000'0000'0005}, 0x8000'0006,
               size_t{0x9000'0000'0000'0007}),
      ND_CALLS(ibv_query_gid_type, &context, 0x93, 0x8000'0008, At<int>(8)),
      ND_CALLS(ibv_query_pkey, &context, 0x94, -9, At<__be16>(9)),
      ND_CALLS(ibv_get_pkey_index, &context, 0x95, 0x9abc),
      ND_CALLS(ibv_query_port_speed, &context, 0x8000'0009, At<uint64_t>(3)),
      ND_CALLS(ibv_resolve_eth_l2_from_gid, &context, At<ibv_ah_attr>(1),
               At<uint8_t>(2), At<uint16_t>(3)),

      ND_CALLS(ibv_alloc_pd, &context),
      ND_CALLS(ibv_dealloc_pd, &pd),
      ND_CALLS(ibv_reg_mr, &pd, kThis, size_t{0x9000'0000'0000'0008}, -10),
      ND_CALLS(ibv_reg_mr_iova, &pd, kThis, size_t{0x9000'0000'0000'0009},
               uint64_t{0x9000'0000'0000'000a}, -11),
      ND_CALLS(ibv_reg_mr_iova2, &pd, kThis, size_t{0x9000'0000'0000'000b},
               uint64_t{0x9000'0000'0000'000c}, 0x8000'000du),
      ND_CALLS(ibv_reg_dmabuf_mr, &pd, uint64_t{0x9000'0000'0000'000e},
               size_t{0x9000'0000'0000'000f}, uint64_t{0x9000'0000'0000'0010},
               -12, -13),
      ND_CALLS(ibv_rereg_mr, &mr, -14, &pd, kThat,
               size_t{0x9000'0000'0000'0011}, -15),
      ND_CALLS(ibv_dereg_mr, &mr),
      ND_CALLS(ibv_reg_mr_ex, &pd, kThis),
      ND_CALLS(ibv_alloc_dmah, &context, kThis),
      ND_CALLS(ibv_alloc_buf, &pd, size_t{0x9000'0000'0000'0012}, At<void*>(8)),
      ND_CALLS(ibv_reg_buf_mr, &pd, kThis, kThat, size_t{0x9000'0000'0000'0013},
               -16),
      ND_CALLS(ibv_import_device, -17),
      ND_CALLS(ibv_import_pd, &context, 0x8000'0014),
      ND_CALLS(ibv_unimport_pd, &pd),
      ND_CALLS(ibv_import_mr, &pd, 0x8000'0015),
      ND_CALLS(ibv_unimport_mr, &mr),
      ND_CALLS(ibv_import_dm, &context, 0x8000'0016),
      ND_CALLS(ibv_unimport_dm, &dm),

      ND_CALLS(ibv_create_comp_channel, &context),
      ND_CALLS(ibv_destroy_comp_channel, &channel),
      ND_CALLS(ibv_create_cq, &context, -18, kThis, &channel, -19),
      ND_CALLS(ibv_resize_cq, &cq, -20),
      ND_CALLS(ibv_destroy_cq, &cq),
      ND_CALLS(ibv_get_cq_event, &channel, At<ibv_cq*>(8), At<void*>(0)),
      ND_CALLS(ibv_ack_cq_events, &cq, 0x8000'0017),
      ND_CALLS(ibv_get_async_event, &context, At<ibv_async_event>(1)),
      ND_CALLS(ibv_ack_async_event, &cq_event),
      ND_CALLS(ibv_ack_async_event, &qp_event),
      ND_CALLS(ibv_ack_async_event, &srq_event),
      ND_CALLS(ibv_ack_async_event, &wq_event),
      ND_CALLS(ibv_ack_async_event, &port_event),
      ND_CALLS(_ibv_query_comp_cntr_caps, &context, kThis,
               size_t{0x9000'0000'0000'0018}),
      ND_CALLS(ibv_create_comp_cntr, &context, kThis),

      ND_CALLS(ibv_create_qp, &pd, At<ibv_qp_init_attr>(1)),
      ND_CALLS(ibv_qp_to_qp_ex, &qp),
      ND_CALLS(ibv_modify_qp, &qp, At<ibv_qp_attr>(1), -21),
      ND_CALLS(ibv_query_qp, &qp, At<ibv_qp_attr>(1), -22,
               At<ibv_qp_init_attr>(2)),
      ND_CALLS(ibv_query_qp_data_in_order, &qp, IBV_WR_RDMA_READ, 0x8000'0019),
      ND_CALLS(ibv_destroy_qp, &qp),
      ND_CALLS(ibv_attach_mcast, &qp, At<const ibv_gid>(1), 0x9abd),
      ND_CALLS(ibv_detach_mcast, &qp, At<const ibv_gid>(1), 0x9abe),
      ND_CALLS(ibv_query_ece, &qp, At<ibv_ece>(1)),
      ND_CALLS(ibv_set_ece, &qp, At<ibv_ece>(1)),
      ND_CALLS(ibv_qp_attach_comp_cntr, &qp, kThis, kThat),
      ND_CALLS(ibv_create_srq, &pd, At<ibv_srq_init_attr>(1)),
      ND_CALLS(ibv_modify_srq, &srq, At<ibv_srq_attr>(1), -23),
      ND_CALLS(ibv_query_srq, &srq, At<ibv_srq_attr>(1)),
      ND_CALLS(ibv_destroy_srq, &srq),
      ND_CALLS(ibv_create_ah, &pd, At<ibv_ah_attr>(1)),
      ND_CALLS(ibv_init_ah_from_wc, &context, 0x96, At<ibv_wc>(1),
               At<ibv_grh>(2), At<ibv_ah_attr>(3)),
      ND_CALLS(ibv_create_ah_from_wc, &pd, At<ibv_wc>(1), At<ibv_grh>(2), 0x97),
      ND_CALLS(ibv_destroy_ah, &ah),

      // Without an object.
      ND_CALLS(ibv_dontfork_range, kThis, size_t{0x9000'0000'0000'0020}),
      ND_CALLS(ibv_dofork_range, kThis, size_t{0x9000'0000'0000'0021}),
      ND_CALLS(ibv_copy_ah_attr_from_kern, kThis, kThat),
      ND_CALLS(ibv_copy_path_rec_from_kern, kThis, kThat),
      ND_CALLS(ibv_copy_path_rec_to_kern, kThis, kThat),
      ND_CALLS(ibv_copy_qp_attr_from_kern, kThis, kThat),
      ND_CALLS(ibv_get_sysfs_path),
      ND_CALLS(ibv_read_sysfs_file, At<const char>(1), At<const char>(2),
               At<char>(3), size_t{0x9000'0000'0000'0022}),
      ND_CALLS(ibv_rate_to_mult, IBV_RATE_25_GBPS),
      ND_CALLS(mult_to_ibv_rate, -24),
      ND_CALLS(ibv_rate_to_mbps, IBV_RATE_25_GBPS),
      ND_CALLS(mbps_to_ibv_rate, -25),
      ND_CALLS(ibv_wc_status_str, IBV_WC_REM_OP_ERR),
      ND_CALLS(ibv_node_type_str, IBV_NODE_SWITCH),
      ND_CALLS(ibv_port_state_str, IBV_PORT_ARMED),
      ND_CALLS(ibv_event_type_str, IBV_EVENT_SM_CHANGE),
  };
}

// Those that depend on which devices there are have tests of their own below.
const std::set<std::string> kOthers = {"ibv_get_device_list",
                                       "ibv_free_device_list", "ibv_fork_init",
                                       "ibv_is_fork_initialized"};

TEST(Forwarded, EveryCallReachesTheRealLibraryAsItIs) {
  for (const Case& each : Cases()) {
    SCOPED_TRACE(each.symbol);
    each.call();
  }
}

TEST(Forwarded, EveryPublicSymbolIsAmongThem) {
  std::set<std::string> tested = kOthers;
  for (const Case& each : Cases()) tested.insert(each.symbol);
  std::set<std::string> symbols;
  for (auto* name = fake_symbols(); *name != nullptr; ++name) {
    symbols.insert(*name);
  }
  EXPECT_EQ(tested, symbols);
}

// What the list holds.
std::vector<std::string> Names(ibv_device** list) {
  std::vector<std::string> names;
  for (; *list != nullptr; ++list) names.emplace_back((*list)->name);
  return names;
}

// The real library has devices "real0" and "real1".
class DeviceListTest : public testing::Test {
 protected:
  void SetUp() override {
    std::strcpy(devices[0].name, "real0");
    std::strcpy(devices[1].name, "real1");
    fake_list_length(2);
    fake_answer(Word(real_list_.data()));
  }
  // Gives back ours; true: the real one went back where it came from.
  bool Frees(ibv_device** list) {
    const int before = fake_calls();
    ibv_free_device_list(list);
    return fake_calls() == before + 1 &&
           std::string("ibv_free_device_list") == fake_last_call()->symbol &&
           fake_last_call()->arguments[0] == Word(real_list_.data());
  }

  std::array<ibv_device*, 3> real_list_ = {&devices[0], &devices[1], nullptr};
};

TEST_F(DeviceListTest, WithRealDevicesForkIsTheRealLibrarysConcern) {
  EXPECT_EQ(Word(ibv_fork_init()), Truncated<int>(Word(real_list_.data())));
  EXPECT_STREQ(fake_last_call()->symbol, "ibv_fork_init");
  EXPECT_EQ(Word(ibv_is_fork_initialized()),
            Truncated<ibv_fork_status>(Word(real_list_.data())));
  EXPECT_STREQ(fake_last_call()->symbol, "ibv_is_fork_initialized");
}

// The environment has ND_DEVICE=soft.
using WantedDeviceList = DeviceListTest;

TEST_F(WantedDeviceList, HoldsTheRealDevicesAndOursBehindThem) {
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(count, 3);
  EXPECT_THAT(Names(list), ElementsAre("real0", "real1", "nd0"));
  EXPECT_EQ(list[0], &devices[0]);
  EXPECT_EQ(list[1], &devices[1]);
  const int before = fake_calls();
  EXPECT_STREQ(ibv_get_device_name(list[2]), "nd0");
  EXPECT_EQ(fake_calls(), before);
  EXPECT_TRUE(Frees(list));
}

TEST_F(WantedDeviceList, HoldsOursWhereTheRealLibraryHasNoList) {
  fake_answer(0);
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(count, 1);
  EXPECT_THAT(Names(list), ElementsAre("nd0"));
  const int before = fake_calls();
  ibv_free_device_list(list);
  EXPECT_EQ(fake_calls(), before);
}

// Ours needs nothing done for fork.
TEST_F(WantedDeviceList, WithoutRealDevicesForkIsSafe) {
  fake_list_length(0);
  EXPECT_EQ(ibv_fork_init(), 0);
  EXPECT_EQ(ibv_is_fork_initialized(), IBV_FORK_UNNEEDED);
  EXPECT_STREQ(fake_last_call()->symbol, "ibv_free_device_list");
}

// The environment has ND_DEVICE=none.
using UnwantedDeviceList = DeviceListTest;

TEST_F(UnwantedDeviceList, HoldsTheRealDevicesAlone) {
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(count, 2);
  EXPECT_THAT(Names(list), ElementsAre("real0", "real1"));
  EXPECT_TRUE(Frees(list));
}

}  // namespace

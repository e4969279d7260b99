#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ndping/rping/krping.h"

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;

KrpingOptions Parsed(absl::string_view text) {
  const auto options = ParseKrpingOptions(text);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.value_or(KrpingOptions());
}

void ExpectError(absl::string_view text, absl::StatusCode code,
                 absl::string_view part) {
  const auto options = ParseKrpingOptions(text);
  EXPECT_EQ(options.status().code(), code) << text;
  EXPECT_THAT(std::string(options.status().message()),
              HasSubstr(std::string(part)));
}

TEST(KrpingOptions, HaveKrpingsDefaults) {
  const KrpingOptions options = Parsed("server,addr=10.98.0.2,port=9999");
  EXPECT_TRUE(options.server);
  EXPECT_EQ(options.address.ToString(), "10.98.0.2:9999");
  EXPECT_EQ(options.count, 0u);
  EXPECT_EQ(options.size, 64u);
  EXPECT_EQ(options.txdepth, 64u);
  EXPECT_EQ(options.tos, 0);
  EXPECT_EQ(options.test, KrpingTest::kPing);
  EXPECT_FALSE(options.verbose || options.validate || options.poll ||
               options.duplex);
}

TEST(KrpingOptions, AreAllRead) {
  const KrpingOptions options = Parsed(
      "client,addr6=fd98::2,port=1,count=10,size=131072,verbose,validate,"
      "bw,duplex,poll,tos=0x20,txdepth=16");
  EXPECT_FALSE(options.server);
  EXPECT_EQ(options.address.ToString(), "[fd98::2]:1");
  EXPECT_EQ(options.count, 10u);
  EXPECT_EQ(options.size, 131072u);
  EXPECT_EQ(options.txdepth, 16u);
  EXPECT_EQ(options.tos, 32);
  EXPECT_EQ(options.test, KrpingTest::kBandwidth);
  EXPECT_TRUE(options.verbose && options.validate && options.poll &&
              options.duplex);
}

// The kernel's simple_strtoul takes any base, and empty options are skipped.
TEST(KrpingOptions, AreReadAsTheKernelDoes) {
  EXPECT_EQ(Parsed(",client,,addr=10.0.0.1,port=010,").address.port(), 8);
  EXPECT_EQ(Parsed("client,addr=10.0.0.1,port=1,size=0X40").size, 64u);
}

TEST(KrpingOptions, OfTheKernelAloneSayWhy) {
  const std::string base = "client,addr=10.0.0.1,port=1,";
  const auto code = absl::StatusCode::kUnimplemented;
  ExpectError(base + "server_inv", code, "server_inv: not from user space: ");
  ExpectError(base + "local_dma_lkey", code, "physical memory");
  ExpectError(base + "read_inv", code, "IB_WR_RDMA_READ_WITH_INV");
  ExpectError(base + "fr", code, "ndping register");
  ExpectError(base + "mem_mode=mr", code, "mem_mode: not from user space: ");
}

TEST(KrpingOptions, ThatAreWrongAreNamed) {
  const auto code = absl::StatusCode::kInvalidArgument;
  ExpectError("addr=10.0.0.1,port=1", code, "client or server is needed");
  ExpectError("client,server,addr=10.0.0.1,port=1", code, "server: ");
  ExpectError("client,port=1", code, "addr= or addr6= is needed");
  ExpectError("client,addr=10.0.0.1", code, "port= is needed");
  ExpectError("client,addr=fd98::2,port=1", code, "addr: 'fd98::2'");
  ExpectError("client,addr6=10.0.0.1,port=1", code, "addr6: '10.0.0.1'");
  ExpectError("client,addr=host,port=1", code, "addr: 'host'");
  ExpectError("client,addr=10.0.0.1,port=65536", code, "port: 65536");
  ExpectError("client,addr=10.0.0.1,port=1,size=0", code, "size: 0");
  ExpectError("client,addr=10.0.0.1,port=1,size=131073", code, "1 to 131072");
  ExpectError("client,addr=10.0.0.1,port=1,size=64K", code, "size: '64K'");
  ExpectError("client,addr=10.0.0.1,port=1,count=-1", code, "count: '-1'");
  ExpectError("client,addr=10.0.0.1,port=1,count", code, "count: a value");
  ExpectError("client,addr=10.0.0.1,port=1,verbose=1", code, "takes no value");
  ExpectError("client,addr=10.0.0.1,port=1,wlat,rlat,count=1", code, "rlat: ");
  ExpectError("client,addr=10.0.0.1,port=1,wlat", code, "count=");
  ExpectError("client,addr=10.0.0.1,port=1,duplex", code, "duplex: ");
  ExpectError("client,addr=10.0.0.1,port=1,speed=9", code, "speed: krping has");
}

TEST(KrpingFigures, ArePrintedAsKrpingDoes) {
  const KrpingFigures figures{.delta_ns = 2000000,
                              .iterations = 100,
                              .size = 64,
                              .cycle_iters = 100,
                              .sum_post = 7,
                              .sum_poll = 8,
                              .sum_last_poll = 9};
  EXPECT_EQ(FormatKrpingFigures(KrpingTest::kReadLatency, figures),
            "krping: delta nsec 2000000 iter 100 size 64\n"
            "krping: 20.00 us a READ\n");
  EXPECT_EQ(FormatKrpingFigures(KrpingTest::kWriteLatency, figures),
            "krping: delta nsec 2000000 iter 100 size 64 cycle_iters 100 "
            "sum_post 7 sum_poll 8 sum_last_poll 9\n"
            "krping: 10.00 us one way (sums in ns)\n");
  EXPECT_THAT(FormatKrpingFigures(KrpingTest::kBandwidth, figures),
              HasSubstr("krping: 0.003 GB/s"));
}

}  // namespace
}  // namespace nd::ndping

#include "ndping/report/progress.h"

#include <gtest/gtest.h>

#include <sstream>

namespace nd::ndping {
namespace {

using std::chrono::milliseconds;

v1::TestSpec TwoSizes() {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_BANDWIDTH);
  spec.add_sizes(64);
  spec.add_sizes(8192);
  spec.set_iterations(100'000);
  return spec;
}

TEST(DescribeProgress, SaysPhaseAmountAndTime) {
  v1::TestSpec spec = TwoSizes();
  EXPECT_EQ(DescribeProgress(spec, 1, 12'400, milliseconds(2500)),
            "size 8K (2 of 2): 12.4 K of 100 K messages, 2.5 s");
  spec.set_iterations(0);
  spec.mutable_sizes()->RemoveLast();
  EXPECT_EQ(DescribeProgress(spec, 0, 5, milliseconds(0)),
            "size 64: 5 messages, 0.0 s");
}

TEST(DescribeProgress, CountsConnections) {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_CONNECT);
  spec.set_connections(200);
  EXPECT_EQ(DescribeProgress(spec, 0, 50, milliseconds(1000)),
            "50 of 200 connections, 1.0 s");
}

TEST(ProgressLine, RewritesItsLineAndErasesItAtTheEnd) {
  std::ostringstream out;
  ProgressLine line(out, true);
  line.OnPhaseStart(TwoSizes(), 0);
  EXPECT_EQ(out.str(), "");
  line.OnProgress(0, 10, milliseconds(250));
  EXPECT_EQ(out.str(), "\rsize 64 (1 of 2): 10 of 100 K messages, 0.2 s\033[K");
  out.str("");
  line.OnPhaseEnd(PhaseResult());
  EXPECT_EQ(out.str(), "\r\033[K");
  out.str("");
  line.Erase();
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressLine, WritesNothingWhereThereIsNoTerminal) {
  std::ostringstream out;
  {
    ProgressLine line(out, false);
    line.OnPhaseStart(TwoSizes(), 0);
    line.OnProgress(0, 10, milliseconds(250));
    line.OnPhaseEnd(PhaseResult());
  }
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace nd::ndping

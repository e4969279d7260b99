// The line that says how far a test is, on a terminal.
#ifndef ND_NDPING_REPORT_PROGRESS_H_
#define ND_NDPING_REPORT_PROGRESS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "ndping/harness/harness_client.h"

namespace nd::ndping {

// "size 64 (3 of 18): 12.4 K of 100 K messages, 2.5 s"
std::string DescribeProgress(const v1::TestSpec& spec, uint32_t index,
                             uint64_t messages, Duration elapsed);

// Rewrites one line in place and erases it at the end of each phase, and when
// destroyed. Used by the thread that runs the test.
class ProgressLine : public TestObserver {
 public:
  // With `terminal` false nothing is ever written. `out` must outlive this.
  ProgressLine(std::ostream& out, bool terminal)
      : out_(out), terminal_(terminal) {}
  ~ProgressLine() override { Erase(); }

  void OnPhaseStart(const v1::TestSpec& spec, uint32_t index) override;
  void OnProgress(uint32_t index, uint64_t messages, Duration elapsed) override;
  void OnPhaseEnd(const PhaseResult& result) override;

  void Erase();

 private:
  std::ostream& out_;
  const bool terminal_;
  v1::TestSpec spec_;
  bool shown_ = false;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_REPORT_PROGRESS_H_

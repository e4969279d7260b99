#include "ndping/report/progress.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ndping/text/units.h"

namespace nd::ndping {

std::string DescribeProgress(const v1::TestSpec& spec, uint32_t index,
                             uint64_t messages, Duration elapsed) {
  const bool connect = spec.kind() == v1::TEST_KIND_CONNECT;
  std::string line;
  if (!connect && index < static_cast<uint32_t>(spec.sizes_size())) {
    line =
        absl::StrCat("size ", FormatSize(spec.sizes(static_cast<int>(index))));
    if (spec.sizes_size() > 1) {
      absl::StrAppend(&line, " (", index + 1, " of ", spec.sizes_size(), ")");
    }
    absl::StrAppend(&line, ": ");
  }
  absl::StrAppend(&line, FormatCount(static_cast<double>(messages)));
  const uint64_t all = connect ? spec.connections() : spec.iterations();
  if (all > 0) {
    absl::StrAppend(&line, " of ", FormatCount(static_cast<double>(all)));
  }
  const double seconds = std::chrono::duration<double>(elapsed).count();
  absl::StrAppendFormat(&line, " %s, %.1f s",
                        connect ? "connections" : "messages", seconds);
  return line;
}

void ProgressLine::OnPhaseStart(const v1::TestSpec& spec, uint32_t index) {
  (void)index;
  spec_ = spec;
}

void ProgressLine::OnProgress(uint32_t index, uint64_t messages,
                              Duration elapsed) {
  if (!terminal_) return;
  // ESC [ K clears what a longer line before this one left behind.
  out_ << "\r" << DescribeProgress(spec_, index, messages, elapsed) << "\033[K"
       << std::flush;
  shown_ = true;
}

void ProgressLine::OnPhaseEnd(const PhaseResult& result) {
  (void)result;
  Erase();
}

void ProgressLine::Erase() {
  if (!shown_) return;
  out_ << "\r\033[K" << std::flush;
  shown_ = false;
}

}  // namespace nd::ndping

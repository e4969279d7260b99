#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace nd {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::IsEmpty;

class CollectingSink final : public LogSink {
 public:
  void Write(const LogRecord& record) override {
    lines.push_back(std::string(LogLevelName(record.level)) + " " +
                    std::string(record.message));
    file = record.file;
    line = record.line;
    time = record.time;
  }

  std::vector<std::string> lines;
  std::string file;
  int line = 0;
  std::chrono::system_clock::time_point time;
};

// Leaves sink and level as they were found.
class Log : public ::testing::Test {
 protected:
  Log() { SetLogSink(sink_); }
  ~Log() override {
    SetLogSink(nullptr);
    SetLogLevel(level_);
  }

  const LogLevel level_ = GetLogLevel();
  const std::shared_ptr<CollectingSink> sink_ =
      std::make_shared<CollectingSink>();
};

TEST_F(Log, LevelIsWarningUnlessSet) {
  EXPECT_EQ(GetLogLevel(), LogLevel::kWarning);
}

TEST_F(Log, SinkReceivesMessagesOfTheLevelAndAbove) {
  ND_LOG(kInfo, "quiet");
  ND_LOG(kWarning, "port ", 1, " is down");
  ND_LOG(kError, "device lost");

  EXPECT_THAT(sink_->lines,
              ElementsAre("warning port 1 is down", "error device lost"));
}

TEST_F(Log, SettingTheLevelTakesEffectAtOnce) {
  SetLogLevel(LogLevel::kDebug);
  ND_LOG(kDebug, "heard");
  SetLogLevel(LogLevel::kError);
  ND_LOG(kWarning, "not heard");

  EXPECT_EQ(GetLogLevel(), LogLevel::kError);
  EXPECT_THAT(sink_->lines, ElementsAre("debug heard"));
}

TEST_F(Log, ArgumentsAreNotEvaluatedWhenTheLevelIsOff) {
  int evaluated = 0;
  const auto count = [&evaluated] { return ++evaluated; };

  ND_LOG(kDebug, "n = ", count());
  EXPECT_EQ(evaluated, 0);
  ND_LOG(kError, "n = ", count());
  EXPECT_EQ(evaluated, 1);
}

TEST_F(Log, RecordSaysWhereAndWhen) {
  const auto before = std::chrono::system_clock::now();
  ND_LOG(kError, "x");
  const int line = __LINE__ - 1;

  EXPECT_EQ(sink_->file, "base/log_test.cc");
  EXPECT_EQ(sink_->line, line);
  EXPECT_GE(sink_->time, before);
}

TEST_F(Log, IsOneStatement) {
  if (GetLogLevel() == LogLevel::kDebug)
    ND_LOG(kError, "then");
  else
    ND_LOG(kError, "else");

  EXPECT_THAT(sink_->lines, ElementsAre("error else"));
}

TEST_F(Log, NullSinkRestoresOneLineOnStderr) {
  SetLogSink(nullptr);

  testing::internal::CaptureStderr();
  ND_LOG(kError, "two\nlines");
  const std::string output = testing::internal::GetCapturedStderr();

  EXPECT_THAT(output, EndsWith("] two lines\n"));
  EXPECT_THAT(sink_->lines, IsEmpty());
}

TEST_F(Log, SinkMayReplaceItself) {
  class Once final : public LogSink {
   public:
    explicit Once(std::shared_ptr<LogSink> next) : next_(std::move(next)) {}
    void Write(const LogRecord&) override { SetLogSink(next_); }

   private:
    const std::shared_ptr<LogSink> next_;
  };
  SetLogSink(std::make_shared<Once>(sink_));

  ND_LOG(kError, "first");
  ND_LOG(kError, "second");

  EXPECT_THAT(sink_->lines, ElementsAre("error second"));
}

TEST_F(Log, EachRecordReachesOneSinkWhileSinksAreReplaced) {
  // Counts into `total`, and notices use after its end.
  class CountingSink final : public LogSink {
   public:
    explicit CountingSink(std::atomic<int>& total) : total_(total) {}
    ~CountingSink() override { alive_ = false; }
    void Write(const LogRecord&) override {
      if (alive_) ++total_;
    }

   private:
    bool alive_ = true;
    std::atomic<int>& total_;
  };
  constexpr int kLoggers = 2;
  constexpr int kEach = 2'000;
  std::atomic<int> total = 0;
  SetLogSink(std::make_shared<CountingSink>(total));

  {
    std::vector<std::jthread> loggers;
    loggers.reserve(kLoggers);
    for (int t = 0; t < kLoggers; ++t) {
      loggers.emplace_back([] {
        for (int i = 0; i < kEach; ++i) ND_LOG(kError, "i = ", i);
      });
    }
    for (int i = 0; i < kEach; ++i) {
      SetLogSink(std::make_shared<CountingSink>(total));
    }
  }

  EXPECT_EQ(total, kLoggers * kEach);
}

TEST(FormatLogRecord, IsOneLineWithTimeLevelAndPlace) {
  const LogRecord record = {
      .level = LogLevel::kWarning,
      .time = std::chrono::system_clock::time_point(
          std::chrono::microseconds(1'714'564'800'000'042)),
      .file = "verbs/cm_id.cc",
      .line = 42,
      .message = "peer says \x1b[31m\r\nhello"};

  EXPECT_EQ(FormatLogRecord(record),
            "2024-05-01T12:00:00.000042Z W verbs/cm_id.cc:42] "
            "peer says  [31m  hello");
}

TEST(ShortFile, IsTheLastFolderAndTheName) {
  using log_internal::ShortFile;
  EXPECT_STREQ(ShortFile("/a/b/src/base/log.cc"), "base/log.cc");
  EXPECT_STREQ(ShortFile("base/log.cc"), "base/log.cc");
  EXPECT_STREQ(ShortFile("log.cc"), "log.cc");
}

}  // namespace
}  // namespace nd

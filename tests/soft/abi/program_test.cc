#include "soft/abi/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace nd::soft {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ProgramTest : public ::testing::Test {
 protected:
  ~ProgramTest() override { std::filesystem::remove_all(directory_); }

  std::string File(const std::string& name, const std::string& content,
                   mode_t mode = 0755) const {
    std::string path = directory_ + "/" + name;
    std::ofstream(path) << content;
    chmod(path.c_str(), mode);
    return path;
  }
  std::string CopyOf(const std::string& program) const {
    std::string path = directory_ + "/copy";
    std::filesystem::copy_file(program, path);
    return path;
  }

  const std::string directory_ = [] {
    std::string name = testing::TempDir() + "ndsoft-XXXXXX";
    return std::string(mkdtemp(name.data()));
  }();
};

TEST_F(ProgramTest, IsLookedForAsAShellDoes) {
  const std::string tool = File("tool", "#!/bin/sh\n");
  EXPECT_EQ(FindProgram("tool", "/nowhere:" + directory_).path, tool);
  EXPECT_EQ(FindProgram(tool, "").path, tool);
  EXPECT_EQ(FindProgram("tool", "/nowhere").exit_status, 127);
  EXPECT_EQ(FindProgram(directory_ + "/none", "").exit_status, 127);
  EXPECT_EQ(FindProgram(directory_, "").exit_status, 126);
  EXPECT_EQ(FindProgram("", "/bin").exit_status, 127);
}

TEST_F(ProgramTest, OneThatMayNotBeRunIsPassedOver) {
  const std::string plain = File("tool", "", 0644);
  EXPECT_EQ(FindProgram("tool", directory_).exit_status, 126);
  EXPECT_EQ(FindProgram(plain, "").exit_status, 126);
}

TEST_F(ProgramTest, DynamicProgramsAndScriptsTakeAPreload) {
  EXPECT_THAT(PreloadProblem("/bin/ls"), IsEmpty());
  EXPECT_THAT(PreloadProblem(File("script", "#! /bin/sh -e\n")), IsEmpty());
}

TEST_F(ProgramTest, StaticProgramsDoNot) {
  EXPECT_THAT(PreloadProblem(ND_STATIC_PROGRAM), HasSubstr("static"));
  EXPECT_THAT(PreloadProblem(
                  File("script", std::string("#!") + ND_STATIC_PROGRAM + "\n")),
              HasSubstr("static"));
}

TEST_F(ProgramTest, ProgramsThatGiveRightsDoNot) {
  if (getuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  const std::string copy = CopyOf("/bin/true");
  ASSERT_EQ(chown(copy.c_str(), 65534, 65534), 0);
  chmod(copy.c_str(), 04755);
  EXPECT_THAT(PreloadProblem(copy), HasSubstr("setuid"));
  chmod(copy.c_str(), 02755);
  EXPECT_THAT(PreloadProblem(copy), HasSubstr("setgid"));
  chmod(copy.c_str(), 0755);
  EXPECT_THAT(PreloadProblem(copy), IsEmpty());
}

TEST_F(ProgramTest, WhatIsNoProgramIsToldSo) {
  EXPECT_THAT(PreloadProblem(File("text", "hello\n")), HasSubstr("neither"));
  EXPECT_THAT(PreloadProblem(File("empty", "")), HasSubstr("neither"));
  EXPECT_THAT(PreloadProblem(File("short", "\177ELF\2\1")), HasSubstr("short"));
  EXPECT_THAT(PreloadProblem(File("script", "#!/no/such\n")),
              HasSubstr("/no/such"));
  std::string other(64, '\0');
  other.replace(0, 6, "\177ELF\1\1");
  EXPECT_THAT(PreloadProblem(File("other", other)), HasSubstr("processor"));
}

TEST_F(ProgramTest, AScriptThatInterpretsItselfEnds) {
  const std::string path = directory_ + "/loop";
  File("loop", "#!" + path + "\n");
  EXPECT_THAT(PreloadProblem(path), HasSubstr("too many"));
}

}  // namespace
}  // namespace nd::soft

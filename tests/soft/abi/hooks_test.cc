// The hooks as a program meets them: this one is linked ahead of libc with a
// library that has them, and a stub of the device.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "soft/abi/runpath_caller.h"
#include "soft/abi/stub_device.h"

// What threads may do with readdir and dlerror is not the point here: they are
// what is tested, or tells why a test failed.
// NOLINTBEGIN(concurrency-mt-unsafe)
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

constexpr char kCm[] = "/dev/infiniband/rdma_cm";
constexpr char kDevice[] = "/sys/class/infiniband/nd0";

// What happened at the device since the test began.
class HooksTest : public ::testing::Test {
 protected:
  int Opened() const { return stub_counts().opened - before_.opened; }
  int Written() const { return stub_counts().written - before_.written; }
  int Closed() const { return stub_counts().closed - before_.closed; }

 private:
  const StubCounts before_ = stub_counts();
};

int OpenCm() { return open(kCm, O_RDWR | O_CLOEXEC); }

// The exit status of a child that does `f` and succeeds if that is true.
template <typename F>
int InChild(F f) {
  const pid_t child = fork();
  if (child == 0) _exit(f() ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

std::set<std::string> Names(const char* directory) {
  std::set<std::string> names;
  DIR* dir = opendir(directory);
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) names.insert(entry->d_name);
  closedir(dir);
  return names;
}

std::string Read(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

using CmDeviceHooks = HooksTest;

TEST_F(CmDeviceHooks, CommandsGoToTheDevice) {
  const int fd = OpenCm();
  ASSERT_GE(fd, 0);
  EXPECT_EQ(write(fd, "e123", 4), 4);
  EXPECT_EQ(Written(), 1);
  EXPECT_EQ(write(fd, &kRefuse, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(close(fd), 0);
  EXPECT_EQ(Closed(), 1);
}

TEST_F(CmDeviceHooks, ItIsACharacterDevice) {
  const int fd = OpenCm();
  struct stat by_fd = {};
  struct stat by_path = {};
  EXPECT_EQ(fstat(fd, &by_fd), 0);
  EXPECT_EQ(stat(kCm, &by_path), 0);
  EXPECT_TRUE(S_ISCHR(by_fd.st_mode));
  EXPECT_TRUE(S_ISCHR(by_path.st_mode));
  EXPECT_EQ(by_fd.st_rdev, by_path.st_rdev);
  struct statx extended = {};
  EXPECT_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &extended), 0);
  EXPECT_TRUE(S_ISCHR(extended.stx_mode));
  close(fd);
}

TEST_F(CmDeviceHooks, ItCanBePolled) {
  const int fd = OpenCm();
  pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&wait, 1, 0), 0);
  EXPECT_EQ(write(fd, &kRaiseEvent, 1), 1);
  EXPECT_EQ(poll(&wait, 1, 1000), 1);
  close(fd);
}

TEST_F(CmDeviceHooks, OtherFilesAreLibcs) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(write(ends[1], "ab", 2), 2);
  struct stat status = {};
  EXPECT_EQ(fstat(ends[0], &status), 0);
  EXPECT_TRUE(S_ISFIFO(status.st_mode));
  EXPECT_EQ(close(ends[0]), 0);
  EXPECT_EQ(close(ends[1]), 0);
  EXPECT_EQ(close(ends[1]), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(Opened() + Written() + Closed(), 0);
}

TEST_F(CmDeviceHooks, ANumberUsedAgainIsNotTheDevice) {
  const int fd = OpenCm();
  close(fd);
  ASSERT_EQ(open("/dev/null", O_WRONLY), fd);
  EXPECT_EQ(write(fd, "x", 1), 1);
  EXPECT_EQ(Written(), 0);
  close(fd);
  EXPECT_EQ(Closed(), 1);
}

TEST_F(CmDeviceHooks, Dup2OntoItClosesIt) {
  const int fd = OpenCm();
  const int null = open("/dev/null", O_WRONLY);
  EXPECT_EQ(dup2(null, fd), fd);
  EXPECT_EQ(Closed(), 1);
  EXPECT_EQ(write(fd, "x", 1), 1);
  EXPECT_EQ(Written(), 0);
  close(fd);
  close(null);
  EXPECT_EQ(Closed(), 1);
}

TEST_F(CmDeviceHooks, Dup2ThatFailsLeavesItOpen) {
  const int fd = OpenCm();
  EXPECT_EQ(dup2(-1, fd), -1);
  EXPECT_EQ(dup2(fd, fd), fd);
  EXPECT_EQ(Closed(), 0);
  EXPECT_EQ(write(fd, "e", 1), 1);
  EXPECT_EQ(Written(), 1);
  close(fd);
}

TEST_F(CmDeviceHooks, ADuplicateIsTheDeviceToo) {
  const int fd = OpenCm();
  const int copies[] = {dup(fd),
                        dup2(fd, 200),
                        dup3(fd, 201, O_CLOEXEC),
                        fcntl(fd, F_DUPFD, 202),
                        fcntl(fd, F_DUPFD_CLOEXEC, 203),
                        fcntl64(fd, F_DUPFD_CLOEXEC, 204)};
  close(fd);
  for (const int copy : copies) {
    ASSERT_GE(copy, 0);
    EXPECT_EQ(write(copy, "e123", 4), 4);
    EXPECT_EQ(close(copy), 0);
  }
  EXPECT_EQ(Written(), 6);
  EXPECT_EQ(Closed(), 7);
}

TEST_F(CmDeviceHooks, FcntlIsLibcs) {
  const int fd = OpenCm();
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 300);
  EXPECT_GE(copy, 300);
  EXPECT_EQ(fcntl(copy, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(copy, F_SETFD, 0), 0);
  EXPECT_EQ(fcntl(copy, F_GETFD), 0);
  EXPECT_EQ(fcntl(copy, F_SETFL, O_NONBLOCK), 0);
  EXPECT_TRUE((fcntl(copy, F_GETFL) & O_NONBLOCK) != 0);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  EXPECT_EQ(fcntl(copy, F_GETLK, &lock), 0);
  EXPECT_EQ(lock.l_type, F_UNLCK);
  EXPECT_EQ(fcntl(fd, F_DUPFD, INT_MAX), -1);
  EXPECT_EQ(errno, EINVAL);
  close(copy);
  close(fd);
  EXPECT_EQ(fcntl(copy, F_DUPFD, 0), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(CmDeviceHooks, ADuplicateOfAnotherFileIsNotTheDevice) {
  const int null = open("/dev/null", O_WRONLY);
  const int copy = fcntl(null, F_DUPFD, 0);
  EXPECT_EQ(write(copy, "x", 1), 1);
  EXPECT_EQ(Written(), 0);
  close(copy);
  close(null);
}

TEST_F(CmDeviceHooks, CloseRangeClosesIt) {
  const int fd = OpenCm();
  EXPECT_EQ(close_range(fd, fd, CLOSE_RANGE_CLOEXEC), 0);
  EXPECT_EQ(Closed(), 0);
  EXPECT_EQ(close_range(fd, fd, 0), 0);
  EXPECT_EQ(Closed(), 1);
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST_F(CmDeviceHooks, AChildsClosesLeaveTheParentsAlone) {
  const int fd = OpenCm();
  EXPECT_EQ(InChild([fd] {
              close(fd);
              closefrom(3);
              return fcntl(fd, F_GETFD) == -1;
            }),
            0);
  EXPECT_EQ(Closed(), 0);
  EXPECT_EQ(write(fd, "e", 1), 1);
  close(fd);
  EXPECT_EQ(Closed(), 1);
}

TEST_F(CmDeviceHooks, ToAChildAnInheritedOneIsAPlainFile) {
  const int fd = OpenCm();
  EXPECT_EQ(InChild([fd] {
              const uint64_t one = 1;
              struct stat status = {};
              return fstat(fd, &status) == 0 && !S_ISCHR(status.st_mode) &&
                     write(fd, &one, sizeof(one)) == sizeof(one);
            }),
            0);
  EXPECT_EQ(Written(), 0);
  close(fd);
}

TEST_F(CmDeviceHooks, AChildMayOpenItAfresh) {
  const int fd = OpenCm();
  EXPECT_EQ(InChild([] {
              const int own = OpenCm();
              return own >= 0 && write(own, "e", 1) == 1 && close(own) == 0;
            }),
            0);
  EXPECT_EQ(Opened(), 2);
  EXPECT_EQ(Written(), 1);
  EXPECT_EQ(Closed(), 1);
  close(fd);
}

// As libraries do that start programs: the child has the parent's memory.
TEST_F(CmDeviceHooks, AChildOfVforkClosesOnlyItsOwn) {
  const int fd = OpenCm();
  // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): it is the test
  const pid_t child = vfork();
  if (child == 0) {
    close(fd);  // NOLINT(clang-analyzer-unix.Vfork)
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(Closed(), 0);
  EXPECT_EQ(write(fd, "e", 1), 1);
  EXPECT_EQ(Written(), 1);
  close(fd);
}

// Its handler has not run, as when another's runs first.
TEST_F(CmDeviceHooks, AChildWithoutHandlersClosesOnlyItsOwn) {
  const int fd = OpenCm();
  const pid_t child = _Fork();
  if (child == 0) {
    close(fd);
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(Closed(), 0);
  close(fd);
}

// As in containers: parent and child are both the first of their namespace.
TEST_F(CmDeviceHooks, AChildWithItsParentsNumberClosesOnlyItsOwn) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a namespace";
  const int status = InChild([] {
    if (unshare(CLONE_NEWPID) != 0) return false;
    return InChild([] {
             const int fd = OpenCm();
             if (unshare(CLONE_NEWPID) != 0) return false;
             return InChild([fd] { return close(fd) == 0; }) == 0 &&
                    getpid() == 1 && write(fd, "e", 1) == 1;
           }) == 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Opened(), 1);
  EXPECT_EQ(Closed(), 0);
}

TEST_F(CmDeviceHooks, ManyThreadsAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 500;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([] {
      for (int round = 0; round < kRounds; ++round) {
        const int fd = OpenCm();
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        EXPECT_EQ(write(fd, "e", 1), 1);
        EXPECT_EQ(write(null, "e", 1), 1);
        close(null);
        close(fd);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Written(), kThreads * kRounds);
  EXPECT_EQ(Closed(), kThreads * kRounds);
}

// close and write are cancellation points, ours as well.
TEST_F(CmDeviceHooks, AThreadCanBeCancelledInWrite) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::vector<char> full(1 << 20);
  pthread_t thread;
  struct Job {
    int fd;
    std::vector<char>* bytes;
  } job = {ends[1], &full};
  pthread_create(
      &thread, nullptr,
      [](void* argument) -> void* {
        const Job& mine = *static_cast<Job*>(argument);
        while (write(mine.fd, mine.bytes->data(), mine.bytes->size()) > 0) {
        }
        return nullptr;
      },
      &job);
  pthread_cancel(thread);
  void* result = nullptr;
  pthread_join(thread, &result);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  close(ends[0]);
  close(ends[1]);
}

TEST(PathHooks, FilesAreRead) {
  EXPECT_EQ(Read(std::string(kDevice) + "/node_type"), "1: CA\n");
  EXPECT_EQ(Read("/sys/class/infiniband_verbs/abi_version"), "6\n");
  EXPECT_EQ(Read("/sys/class/misc/rdma_cm/abi_version"), "4\n");
  const int fd = open("/sys/class/infiniband/nd0/fw_ver", O_RDONLY);
  char text[16] = {};
  EXPECT_EQ(read(fd, text, sizeof(text)), 4);
  EXPECT_STREQ(text, "1.2\n");
  EXPECT_EQ(pwrite(fd, "x", 1, 0), -1);
  close(fd);
}

TEST(PathHooks, NothingCanBeWritten) {
  const std::string path = std::string(kDevice) + "/node_type";
  EXPECT_EQ(open(path.c_str(), O_RDWR), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(fopen(path.c_str(), "r+"), nullptr);
  EXPECT_EQ(access(path.c_str(), W_OK), -1);
  EXPECT_EQ(access(path.c_str(), R_OK), 0);
}

TEST(PathHooks, AMissingFileIsMissing) {
  EXPECT_EQ(open("/sys/class/infiniband/nd0/nothing", O_RDONLY), -1);
  EXPECT_EQ(errno, ENOENT);
  struct stat status;
  EXPECT_EQ(stat("/sys/class/infiniband/mlx5_0", &status), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST(PathHooks, TheUverbsDeviceIsThere) {
  struct stat status = {};
  EXPECT_EQ(stat("/dev/infiniband/uverbs7", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_EQ(access("/dev/infiniband/uverbs7", R_OK | W_OK), 0);
  EXPECT_EQ(faccessat(AT_FDCWD, "/dev/infiniband/uverbs7", R_OK, 0), 0);
}

TEST(PathHooks, DirectoriesAreListed) {
  EXPECT_THAT(Names("/sys/class/infiniband"), IsSupersetOf({".", "..", "nd0"}));
  EXPECT_THAT(Names("/dev/infiniband"), IsSupersetOf({"rdma_cm", "uverbs7"}));
  EXPECT_THAT(Names("/sys/class/infiniband/nd0/device/net"), Contains("lo"));
  EXPECT_THAT(Names("/"), IsSupersetOf({"dev", "sys"}));
  EXPECT_EQ(opendir("/sys/class/infiniband/nd0/node_type"), nullptr);
  EXPECT_EQ(errno, ENOTDIR);
}

TEST(PathHooks, AListingCanBeReadAgain) {
  DIR* dir = opendir("/sys/class/infiniband");
  ASSERT_NE(dir, nullptr);
  const std::string first = readdir(dir)->d_name;
  const long second_place = telldir(dir);
  const std::string second = readdir(dir)->d_name;
  rewinddir(dir);
  EXPECT_EQ(readdir(dir)->d_name, first);
  seekdir(dir, second_place);
  EXPECT_EQ(readdir(dir)->d_name, second);
  EXPECT_EQ(dirfd(dir), -1);
  EXPECT_EQ(closedir(dir), 0);
}

TEST(PathHooks, LinksLeadWhereTheyShould) {
  const char* link = "/sys/class/infiniband/nd0/device/net/lo";
  char text[64] = {};
  EXPECT_EQ(readlink(link, text, sizeof(text)), 17);
  EXPECT_STREQ(text, "/sys/class/net/lo");
  struct stat status = {};
  EXPECT_EQ(lstat(link, &status), 0);
  EXPECT_TRUE(S_ISLNK(status.st_mode));
  EXPECT_EQ(stat(link, &status), 0);  // libc's, of the kernel's directory
  EXPECT_TRUE(S_ISDIR(status.st_mode));
  EXPECT_EQ(Read(std::string(link) + "/address"), "00:00:00:00:00:00\n");
  EXPECT_EQ(readlink(kDevice, text, sizeof(text)), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(PathHooks, RealpathKnowsTheTree) {
  char path[PATH_MAX];
  EXPECT_STREQ(
      realpath("/sys/class/infiniband_verbs/uverbs7/device/../fw_ver", path),
      "/sys/class/infiniband/nd0/fw_ver");
  char* lo = realpath("/sys/class/infiniband/nd0/device/net/lo", nullptr);
  EXPECT_THAT(lo, EndsWith("/net/lo"));
  free(lo);
}

TEST(PathHooks, WhereTheDeviceIsNotWantedNothingIsThere) {
  stub_set_active(false);
  EXPECT_EQ(access(kDevice, F_OK), access("/sys/class/infiniband", F_OK));
  EXPECT_THAT(Names("/sys/class/infiniband"), Not(Contains("nd0")));
  void* real = dlopen("libibverbs.so.1", RTLD_NOW);
  ASSERT_NE(real, nullptr);
  EXPECT_EQ(dlsym(real, "stub_counts"), nullptr);
  dlclose(real);
  stub_set_active(true);
}

std::string FileOf(void* symbol) {
  Dl_info info = {};
  return dladdr(symbol, &info) != 0 ? info.dli_fname : "";
}

TEST(DlopenHook, LibibverbsIsOurs) {
  for (const char* name : {"libibverbs.so.1", "libibverbs.so",
                           "/usr/lib/x86_64-linux-gnu/libibverbs.so.1"}) {
    void* library = dlopen(name, RTLD_NOW);
    ASSERT_NE(library, nullptr) << dlerror();
    for (void* symbol :
         {dlvsym(library, "ibv_wc_status_str", "IBVERBS_1.1"),
          dlvsym(library, "ibv_query_port_speed", "IBVERBS_1.16"),
          dlsym(library, "ibv_rate_to_mult")}) {
      EXPECT_THAT(FileOf(symbol), HasSubstr("hooks_under_test"));
    }
    EXPECT_EQ(dlvsym(library, "ibv_wc_status_str", "IBVERBS_1.9"), nullptr);
    dlclose(library);
  }
}

TEST(DlopenHook, OurSymbolsReachTheRealLibrary) {
  void* library = dlopen("libibverbs.so.1", RTLD_NOW);
  using Function = const char*(int);
  auto* text = reinterpret_cast<Function*>(
      dlvsym(library, "ibv_wc_status_str", "IBVERBS_1.1"));
  ASSERT_NE(text, nullptr);
  EXPECT_STREQ(text(0), "success");
  dlclose(library);
}

TEST(DlopenHook, OtherLibrariesAreFoundByTheCallersRunpath) {
  EXPECT_TRUE(OpensByRunpath("libnd_test_plugin.so"));
  EXPECT_EQ(dlopen("libnd_test_plugin.so", RTLD_NOW), nullptr);
}

TEST(DlopenHook, NoNameIsTheProgram) {
  void* program = dlopen(nullptr, RTLD_NOW);
  EXPECT_NE(program, nullptr);
  dlclose(program);
}

// Declared by newer headers than ours.
extern "C" int ibv_query_port_speed(ibv_context*, uint32_t, uint64_t*);

TEST(ExportedStubs, RefuseObjectsOfTheSoftDevice) {
  ibv_device device = {};
  ibv_context context = {};
  context.device = &device;
  EXPECT_EQ(ibv_resolve_eth_l2_from_gid(&context, nullptr, nullptr, nullptr),
            EOPNOTSUPP);
  EXPECT_EQ(ibv_query_port_speed(&context, 1, nullptr), EOPNOTSUPP);
}

TEST(ExportedStubs, WhatTakesNoObjectIsTheRealLibrarys) {
  EXPECT_EQ(ibv_rate_to_mbps(IBV_RATE_100_GBPS), 103125);
  EXPECT_EQ(mbps_to_ibv_rate(103125), IBV_RATE_100_GBPS);
  EXPECT_STREQ(ibv_node_type_str(IBV_NODE_CA), "InfiniBand channel adapter");
  EXPECT_STREQ(ibv_port_state_str(IBV_PORT_ACTIVE), "active");
  EXPECT_STREQ(ibv_event_type_str(IBV_EVENT_PORT_ERR), "port error");
}

}  // namespace
// NOLINTEND(concurrency-mt-unsafe)

// libc's calls by path: what the device's tree knows is answered from there.
// A directory of ours cannot be opened but by opendir (dir_hooks.cc).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "soft/abi/fd_hooks.h"
#include "soft/abi/next.h"
#include "soft/abi/path_place.h"

namespace nd::soft {
namespace {

using Kind = PathNode::Kind;
using Place = PathView::Place;
using LastLink = PathView::LastLink;

constinit Next<int(const char*, int, ...)> next_open("open");
constinit Next<int(int, const char*, int, ...)> next_openat("openat");
constinit Next<FILE*(const char*, const char*)> next_fopen("fopen");
constinit Next<int(const char*, struct stat*)> next_stat("stat");
constinit Next<int(const char*, struct stat*)> next_lstat("lstat");
constinit Next<int(int, const char*, struct stat*, int)> next_fstatat(
    "fstatat");
constinit Next<int(int, const char*, struct stat*)> next_xstat("__xstat");
constinit Next<int(int, const char*, struct stat*)> next_lxstat("__lxstat");
constinit Next<int(int, int, const char*, struct stat*, int)> next_fxstatat(
    "__fxstatat");
constinit Next<int(int, const char*, int, unsigned, struct statx*)> next_statx(
    "statx");
constinit Next<int(const char*, int)> next_access("access");
constinit Next<int(const char*, int)> next_euidaccess("euidaccess");
constinit Next<int(int, const char*, int, int)> next_faccessat("faccessat");
constinit Next<ssize_t(const char*, char*, size_t)> next_readlink("readlink");
constinit Next<ssize_t(int, const char*, char*, size_t)> next_readlinkat(
    "readlinkat");
constinit Next<char*(const char*, char*)> next_realpath("realpath");

// So that the names with 64 are the same functions.
static_assert(sizeof(struct stat) == sizeof(struct stat64) &&
              sizeof(off_t) == sizeof(off64_t));

template <typename T>
T Fail(int error, T result) {
  errno = error;
  return result;
}

bool IsDirectory(const Place& place) {
  return place.node->kind == Kind::kDirectory ||
         place.node->kind == Kind::kShared;
}

LastLink LinkBy(int flags) {
  return flags & AT_SYMLINK_NOFOLLOW ? LastLink::kKeep : LastLink::kFollow;
}

// A file that reads as `content` and that nobody can change.
int MemoryFile(const std::string& content, bool close_on_exec) {
  const int fd = memfd_create(
      "sysfs", MFD_ALLOW_SEALING | (close_on_exec ? MFD_CLOEXEC : 0));
  if (fd < 0) return -1;
  const auto size = static_cast<ssize_t>(content.size());
  if (pwrite(fd, content.data(), content.size(), 0) != size ||
      fcntl(fd, F_ADD_SEALS,
            F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    const int error = errno;
    close(fd);
    return Fail(error, -1);
  }
  return fd;
}

int OpenPlace(const Place& place, int flags) {
  switch (place.node->kind) {
    case Kind::kFile:
      if ((flags & O_ACCMODE) != O_RDONLY) return Fail(EACCES, -1);
      if (flags & O_DIRECTORY) return Fail(ENOTDIR, -1);
      return MemoryFile(place.node->content, flags & O_CLOEXEC);
    case Kind::kDevice:
      if (flags & O_DIRECTORY) return Fail(ENOTDIR, -1);
      if (place.path == kRdmaCmPath) return OpenMarkedCmDevice(flags);
      return next_open("/dev/null", flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    case Kind::kDirectory:
    case Kind::kShared:
    case Kind::kLink:
      break;
  }
  return next_open(place.path.c_str(), flags);  // the kernel's, if it has one
}

template <typename Plain>
int Open(const char* path, int flags, Plain plain) {
  return OnPath(path, LastLink::kFollow, plain, [flags](const Place& place) {
    return OpenPlace(place, flags);
  });
}

int DoAccess(const Place& place, int mode) {
  const bool device = place.node->kind == Kind::kDevice;
  if ((mode & W_OK) && !device) return Fail(EACCES, -1);
  if ((mode & X_OK) && !IsDirectory(place)) return Fail(EACCES, -1);
  return 0;
}

mode_t ModeOf(const Place& place) {
  switch (place.node->kind) {
    case Kind::kDirectory:
    case Kind::kShared:
      return S_IFDIR | 0555;
    case Kind::kFile:
      return S_IFREG | 0444;
    case Kind::kLink:
      return S_IFLNK | 0777;
    case Kind::kDevice:
      return S_IFCHR | 0666;
  }
  return 0;
}

struct stat StatusOf(const Place& place) {
  const Kind kind = place.node->kind;
  struct stat status = {};
  status.st_mode = ModeOf(place);
  status.st_ino = std::hash<std::string>{}(place.path) | 1;
  status.st_nlink = IsDirectory(place) ? 2 : 1;
  status.st_blksize = 4096;
  if (kind == Kind::kFile) status.st_size = 4096;  // whatever it reads as
  if (kind == Kind::kLink) {
    status.st_size = static_cast<off_t>(place.node->content.size());
  }
  if (kind == Kind::kDevice) status.st_rdev = CmDeviceNumber();
  return status;
}

template <typename Plain>
int Stat(const char* path, LastLink last, struct stat* status, Plain plain) {
  return OnPath(path, last, plain, [status](const Place& place) {
    *status = StatusOf(place);
    return 0;
  });
}

int DoStatx(const Place& place, struct statx* out) {
  const struct stat status = StatusOf(place);
  *out = {};
  out->stx_mask = STATX_BASIC_STATS;
  out->stx_mode = static_cast<uint16_t>(status.st_mode);
  out->stx_ino = status.st_ino;
  out->stx_nlink = static_cast<uint32_t>(status.st_nlink);
  out->stx_blksize = static_cast<uint32_t>(status.st_blksize);
  out->stx_size = static_cast<uint64_t>(status.st_size);
  out->stx_rdev_major = major(status.st_rdev);
  out->stx_rdev_minor = minor(status.st_rdev);
  return 0;
}

template <typename Plain>
ssize_t Readlink(const char* path, char* to, size_t size, Plain plain) {
  return OnPath(path, LastLink::kKeep, plain, [=](const Place& place) {
    if (place.node->kind != Kind::kLink) return Fail<ssize_t>(EINVAL, -1);
    return static_cast<ssize_t>(place.node->content.copy(to, size));
  });
}

char* Realpath(const char* path, char* to) {
  const auto plain = [to](const char* p) { return next_realpath(p, to); };
  return OnPath(path, LastLink::kFollow, plain, [to](const Place& place) {
    if (to == nullptr) return strdup(place.path.c_str());
    if (place.path.size() >= PATH_MAX) {
      return Fail<char*>(ENAMETOOLONG, nullptr);
    }
    to[place.path.copy(to, PATH_MAX)] = 0;
    return to;
  });
}

}  // namespace

extern "C" {

// libc's take any number of arguments; on our processors a mode that is not
// there is an unused register.
int HookOpen(const char* path, int flags, mode_t mode) ND_HOOK("open");
int HookOpen(const char* path, int flags, mode_t mode) {
  return Open(path, flags,
              [=](const char* p) { return next_open(p, flags, mode); });
}
ND_HOOK_ALIAS("open64", "open");
ND_HOOK_ALIAS("__open", "open");
ND_HOOK_ALIAS("__open64", "open");
// Of _FORTIFY_SOURCE: libc's also check that flags ask for no mode.
ND_HOOK_ALIAS("__open_2", "open");
ND_HOOK_ALIAS("__open64_2", "open");

int HookOpenat(int dir, const char* path, int flags, mode_t mode)
    ND_HOOK("openat");
int HookOpenat(int dir, const char* path, int flags, mode_t mode) {
  return Open(path, flags,
              [=](const char* p) { return next_openat(dir, p, flags, mode); });
}
ND_HOOK_ALIAS("openat64", "openat");
ND_HOOK_ALIAS("__openat_2", "openat");
ND_HOOK_ALIAS("__openat64_2", "openat");

FILE* HookFopen(const char* path, const char* mode) ND_HOOK("fopen");
FILE* HookFopen(const char* path, const char* mode) {
  const auto plain = [mode](const char* p) { return next_fopen(p, mode); };
  return OnPath(
      path, LastLink::kFollow, plain, [&](const Place& place) -> FILE* {
        if (place.node->kind != Kind::kFile) return plain(place.path.c_str());
        const bool reads = mode[0] == 'r' && !std::strchr(mode, '+');
        const int fd =
            OpenPlace(place, (reads ? O_RDONLY : O_RDWR) |
                                 (std::strchr(mode, 'e') ? O_CLOEXEC : 0));
        return fd < 0 ? nullptr : fdopen(fd, mode);
      });
}
ND_HOOK_ALIAS("fopen64", "fopen");

int HookStat(const char* path, struct stat* status) ND_HOOK("stat");
int HookStat(const char* path, struct stat* status) {
  return Stat(path, LastLink::kFollow, status,
              [=](const char* p) { return next_stat(p, status); });
}
ND_HOOK_ALIAS("stat64", "stat");

int HookLstat(const char* path, struct stat* status) ND_HOOK("lstat");
int HookLstat(const char* path, struct stat* status) {
  return Stat(path, LastLink::kKeep, status,
              [=](const char* p) { return next_lstat(p, status); });
}
ND_HOOK_ALIAS("lstat64", "lstat");

int HookFstatat(int dir, const char* path, struct stat* status, int flags)
    ND_HOOK("fstatat");
int HookFstatat(int dir, const char* path, struct stat* status, int flags) {
  if (flags & AT_EMPTY_PATH && path != nullptr && *path == 0 && IsOurFd(dir)) {
    return fstat(dir, status);
  }
  return Stat(path, LinkBy(flags), status, [=](const char* p) {
    return next_fstatat(dir, p, status, flags);
  });
}
ND_HOOK_ALIAS("fstatat64", "fstatat");

// What programs call that were built with a glibc before 2.33.
int HookXstat(int version, const char* path, struct stat* status)
    ND_HOOK("__xstat");
int HookXstat(int version, const char* path, struct stat* status) {
  return Stat(path, LastLink::kFollow, status,
              [=](const char* p) { return next_xstat(version, p, status); });
}
ND_HOOK_ALIAS("__xstat64", "__xstat");

int HookLxstat(int version, const char* path, struct stat* status)
    ND_HOOK("__lxstat");
int HookLxstat(int version, const char* path, struct stat* status) {
  return Stat(path, LastLink::kKeep, status,
              [=](const char* p) { return next_lxstat(version, p, status); });
}
ND_HOOK_ALIAS("__lxstat64", "__lxstat");

int HookFxstatat(int version, int dir, const char* path, struct stat* status,
                 int flags) ND_HOOK("__fxstatat");
int HookFxstatat(int version, int dir, const char* path, struct stat* status,
                 int flags) {
  return Stat(path, LinkBy(flags), status, [=](const char* p) {
    return next_fxstatat(version, dir, p, status, flags);
  });
}
ND_HOOK_ALIAS("__fxstatat64", "__fxstatat");

int HookStatx(int dir, const char* path, int flags, unsigned mask,
              struct statx* out) ND_HOOK("statx");
int HookStatx(int dir, const char* path, int flags, unsigned mask,
              struct statx* out) {
  if (flags & AT_EMPTY_PATH && path != nullptr && *path == 0 && IsOurFd(dir)) {
    return DoStatx(Place{kRdmaCmPath, PathNode{Kind::kDevice, ""}}, out);
  }
  const auto plain = [=](const char* p) {
    return next_statx(dir, p, flags, mask, out);
  };
  return OnPath(path, LinkBy(flags), plain,
                [out](const Place& place) { return DoStatx(place, out); });
}

int HookAccess(const char* path, int mode) ND_HOOK("access");
int HookAccess(const char* path, int mode) {
  return OnPath(
      path, LastLink::kFollow,
      [mode](const char* p) { return next_access(p, mode); },
      [mode](const Place& place) { return DoAccess(place, mode); });
}

int HookEuidaccess(const char* path, int mode) ND_HOOK("euidaccess");
int HookEuidaccess(const char* path, int mode) {
  return OnPath(
      path, LastLink::kFollow,
      [mode](const char* p) { return next_euidaccess(p, mode); },
      [mode](const Place& place) { return DoAccess(place, mode); });
}
ND_HOOK_ALIAS("eaccess", "euidaccess");

int HookFaccessat(int dir, const char* path, int mode, int flags)
    ND_HOOK("faccessat");
int HookFaccessat(int dir, const char* path, int mode, int flags) {
  return OnPath(
      path, LinkBy(flags),
      [=](const char* p) { return next_faccessat(dir, p, mode, flags); },
      [mode](const Place& place) { return DoAccess(place, mode); });
}

ssize_t HookReadlink(const char* path, char* to, size_t size)
    ND_HOOK("readlink");
ssize_t HookReadlink(const char* path, char* to, size_t size) {
  return Readlink(path, to, size,
                  [=](const char* p) { return next_readlink(p, to, size); });
}
ND_HOOK_ALIAS("__readlink_chk", "readlink");

ssize_t HookReadlinkat(int dir, const char* path, char* to, size_t size)
    ND_HOOK("readlinkat");
ssize_t HookReadlinkat(int dir, const char* path, char* to, size_t size) {
  return Readlink(path, to, size, [=](const char* p) {
    return next_readlinkat(dir, p, to, size);
  });
}
ND_HOOK_ALIAS("__readlinkat_chk", "readlinkat");

char* HookRealpath(const char* path, char* to) ND_HOOK("realpath");
char* HookRealpath(const char* path, char* to) { return Realpath(path, to); }
ND_HOOK_ALIAS("__realpath_chk", "realpath");

char* HookCanonicalize(const char* path) ND_HOOK("canonicalize_file_name");
char* HookCanonicalize(const char* path) { return Realpath(path, nullptr); }

}  // extern "C"
}  // namespace nd::soft

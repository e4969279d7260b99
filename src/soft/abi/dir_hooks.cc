// Handles on directories of the device's tree: opendir and what takes its
// handle. Where the kernel has the directory too, its entries are there as
// well.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "soft/abi/next.h"
#include "soft/abi/path_place.h"

namespace nd::soft {
namespace {

using Kind = PathNode::Kind;

constinit Next<DIR*(const char*)> next_opendir("opendir");
constinit Next<dirent*(DIR*)> next_readdir("readdir");
constinit Next<int(DIR*, dirent*, dirent**)> next_readdir_r("readdir_r");
constinit Next<int(DIR*)> next_closedir("closedir");
constinit Next<int(DIR*)> next_dirfd("dirfd");
constinit Next<void(DIR*)> next_rewinddir("rewinddir");
constinit Next<long(DIR*)> next_telldir("telldir");
constinit Next<void(DIR*, long)> next_seekdir("seekdir");

static_assert(sizeof(dirent) == sizeof(dirent64));

// Tells our handles from libc's, which begin with a descriptor and a lock.
constexpr uint64_t kMagic = 0x5f646e5f7269645f;

struct Handle {
  uint64_t magic = kMagic;
  std::vector<dirent> entries;
  size_t next = 0;
};

Handle* OursOrNull(DIR* dir) {
  uint64_t magic;
  std::memcpy(&magic, static_cast<const void*>(dir), sizeof(magic));
  return magic == kMagic ? reinterpret_cast<Handle*>(dir) : nullptr;
}

unsigned char TypeOf(Kind kind) {
  switch (kind) {
    case Kind::kDirectory:
    case Kind::kShared:
      return DT_DIR;
    case Kind::kFile:
      return DT_REG;
    case Kind::kLink:
      return DT_LNK;
    case Kind::kDevice:
      return DT_CHR;
  }
  return DT_UNKNOWN;
}

void Append(Handle& handle, const std::string& path, const std::string& name,
            unsigned char type) {
  dirent entry = {};
  entry.d_ino = std::hash<std::string>{}(path + "/" + name) | 1;
  entry.d_off = static_cast<off_t>(handle.entries.size()) + 1;
  entry.d_reclen = sizeof(entry);
  entry.d_type = type;
  std::strncpy(entry.d_name, name.c_str(), sizeof(entry.d_name) - 1);
  handle.entries.push_back(entry);
}

bool Has(const Handle& handle, const char* name) {
  return std::ranges::any_of(handle.entries, [name](const dirent& entry) {
    return std::strcmp(entry.d_name, name) == 0;
  });
}

// The kernel's entries that are not ours.
void AppendKernels(Handle& handle, const std::string& path) {
  DIR* dir = next_opendir(path.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = next_readdir(dir)) {
    if (!Has(handle, entry->d_name)) {
      Append(handle, path, entry->d_name, entry->d_type);
    }
  }
  next_closedir(dir);
}

DIR* OpenDirectory(const PathView::Place& place) {
  const Kind kind = place.node->kind;
  if (kind != Kind::kDirectory && kind != Kind::kShared) {
    errno = ENOTDIR;
    return nullptr;
  }
  const int saved = errno;
  auto* handle = new Handle;
  for (const char* name : {".", ".."}) {
    Append(*handle, place.path, name, DT_DIR);
  }
  for (const PathView::Entry& entry : ListPlace(place.path)) {
    Append(*handle, place.path, entry.name, TypeOf(entry.kind));
  }
  if (kind == Kind::kShared) AppendKernels(*handle, place.path);
  errno = saved;
  return reinterpret_cast<DIR*>(handle);
}

dirent* NextEntry(Handle& handle) {
  if (handle.next == handle.entries.size()) return nullptr;
  return &handle.entries[handle.next++];
}

}  // namespace

extern "C" {

DIR* HookOpendir(const char* path) ND_HOOK("opendir");
DIR* HookOpendir(const char* path) {
  return OnPath(
      path, PathView::LastLink::kFollow,
      [](const char* p) { return next_opendir(p); }, OpenDirectory);
}

dirent* HookReaddir(DIR* dir) ND_HOOK("readdir");
dirent* HookReaddir(DIR* dir) {
  Handle* ours = OursOrNull(dir);
  return ours ? NextEntry(*ours) : next_readdir(dir);
}
ND_HOOK_ALIAS("readdir64", "readdir");

int HookReaddirR(DIR* dir, dirent* to, dirent** result) ND_HOOK("readdir_r");
int HookReaddirR(DIR* dir, dirent* to, dirent** result) {
  Handle* ours = OursOrNull(dir);
  if (ours == nullptr) return next_readdir_r(dir, to, result);
  const dirent* entry = NextEntry(*ours);
  if (entry != nullptr) *to = *entry;
  *result = entry != nullptr ? to : nullptr;
  return 0;
}
ND_HOOK_ALIAS("readdir64_r", "readdir_r");

int HookClosedir(DIR* dir) ND_HOOK("closedir");
int HookClosedir(DIR* dir) {
  Handle* ours = OursOrNull(dir);
  if (ours == nullptr) return next_closedir(dir);
  delete ours;
  return 0;
}

int HookDirfd(DIR* dir) ND_HOOK("dirfd");
int HookDirfd(DIR* dir) {
  if (OursOrNull(dir) == nullptr) return next_dirfd(dir);
  errno = ENOTSUP;  // as POSIX has it for a handle without a descriptor
  return -1;
}

void HookRewinddir(DIR* dir) ND_HOOK("rewinddir");
void HookRewinddir(DIR* dir) {
  Handle* ours = OursOrNull(dir);
  if (ours == nullptr) return next_rewinddir(dir);
  ours->next = 0;
}

long HookTelldir(DIR* dir) ND_HOOK("telldir");
long HookTelldir(DIR* dir) {
  const Handle* ours = OursOrNull(dir);
  return ours ? static_cast<long>(ours->next) : next_telldir(dir);
}

void HookSeekdir(DIR* dir, long where) ND_HOOK("seekdir");
void HookSeekdir(DIR* dir, long where) {
  Handle* ours = OursOrNull(dir);
  if (ours == nullptr) return next_seekdir(dir, where);
  ours->next = std::min(static_cast<size_t>(where), ours->entries.size());
}

}  // extern "C"
}  // namespace nd::soft

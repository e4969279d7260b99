// A device that is opened by the command descriptor of one of its contexts, and
// objects found by their handles; within one process.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "soft/abi/forward.h"
#include "soft/abi/objects.h"
#include "soft/abi/process.h"

namespace nd::soft {
namespace {

// What a command descriptor's file says.
struct Identity {
  pid_t pid = 0;
  const Device* device = nullptr;

  bool operator==(const Identity&) const = default;
};

Identity IdentityOf(const Device& device) {
  return {.pid = getpid(), .device = &device};
}

struct Importable {
  Lock mutex;
  std::unordered_map<uint32_t, SoftPd*> pds ABSL_GUARDED_BY(mutex);
};

// Lives as long as the process: applications may use verbs until it ends.
Importable& TheImportable() {
  static auto* const importable = new Importable;
  return *importable;
}

}  // namespace

// Without one there is nothing to import, that is all.
Fd MakeCommandFd(const Device& device) {
  Fd fd(memfd_create("nd_device", MFD_CLOEXEC));
  const Identity identity = IdentityOf(device);
  if (fd.valid()) (void)!pwrite(fd.get(), &identity, sizeof(identity), 0);
  return fd;
}

void AddImportable(SoftPd& pd) {
  Importable& importable = TheImportable();
  Holding lock(importable.mutex);
  importable.pds[pd.verbs.handle] = &pd;
}

bool RemoveImportable(SoftPd& pd) {
  Importable& importable = TheImportable();
  Holding lock(importable.mutex);
  const auto in_use = [](const auto& import) { return import->users != 0; };
  if (pd.users != 0 || std::ranges::any_of(pd.imports, in_use)) return false;
  importable.pds.erase(pd.verbs.handle);
  return true;
}

}  // namespace nd::soft

using namespace nd::soft;  // NOLINT: what follows is C

extern "C" {

// The descriptor is the new context's from then on.
ibv_context* ibv_import_device(int cmd_fd) {
  SoftProcess* const process = SoftProcess::Current();
  Identity identity;
  const bool ours =
      process != nullptr &&
      pread(cmd_fd, &identity, sizeof(identity), 0) == sizeof(identity) &&
      identity == IdentityOf(process->device());
  if (ours) return MakeContext(process->device(), nd::Fd(cmd_fd));
  auto* const real =
      Real<decltype(ibv_import_device)>("ibv_import_device", "IBVERBS_1.10");
  if (real != nullptr) return real(cmd_fd);
  errno = ENOSYS;
  return nullptr;
}

ibv_pd* ibv_import_pd(ibv_context* context, uint32_t handle) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_import_pd, "1.10")(context, handle);
  }
  Importable& importable = TheImportable();
  nd::Holding lock(importable.mutex);
  const auto found = importable.pds.find(handle);
  if (found == importable.pds.end()) {
    errno = EINVAL;
    return nullptr;
  }
  SoftPd& original = *found->second;
  auto pd = std::make_unique<SoftPd>();
  pd->verbs = {.context = context, .handle = handle};
  pd->id = original.id;
  pd->imported_from = &original;
  return &original.imports.emplace_back(std::move(pd))->verbs;
}

// What was made with it goes on to name it.
void ibv_unimport_pd(ibv_pd* pd) {
  if (!IsSoft(pd->context)) ND_FORWARD(ibv_unimport_pd, "1.10")(pd);
}

// Where it lies and how long it is, its importer has to know.
ibv_mr* ibv_import_mr(ibv_pd* pd, uint32_t handle) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_import_mr, "1.10")(pd, handle);
  }
  if (absl::IsNotFound(DeviceOf(pd->context).ChangeMemory(handle, {}))) {
    errno = EINVAL;
    return nullptr;
  }
  ++SoftCast<SoftPd>(pd)->users;
  auto* const mr = new SoftMr;
  mr->verbs = {.context = pd->context,
               .pd = pd,
               .addr = nullptr,
               .length = 0,
               .handle = handle,
               .lkey = handle,
               .rkey = handle};
  return &mr->verbs;
}

void ibv_unimport_mr(ibv_mr* mr) {
  if (!IsSoft(mr->context)) return ND_FORWARD(ibv_unimport_mr, "1.10")(mr);
  --SoftCast<SoftPd>(mr->pd)->users;
  delete SoftCast<SoftMr>(mr);
}

}  // extern "C"

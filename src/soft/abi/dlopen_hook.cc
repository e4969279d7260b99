// dlopen of libibverbs by name finds us instead. Others go on to the next
// dlopen by a jump, so that to it the caller is who called us: the caller's
// RUNPATH and namespace decide what is found.
#include <dlfcn.h>
#include <link.h>

#include <cstring>

#include "soft/abi/hooks_off.h"
#include "soft/abi/next.h"
#include "soft/abi/soft_device.h"

namespace nd::soft {
namespace {

constinit Next<void*(const char*, int)> next_dlopen("dlopen");

bool IsLibibverbs(const char* file) {
  if (file == nullptr) return false;
  const char* slash = std::strrchr(file, '/');
  const char* name = slash != nullptr ? slash + 1 : file;
  return std::strcmp(name, "libibverbs.so.1") == 0 ||
         std::strcmp(name, "libibverbs.so") == 0;
}

// The path of the library that this is linked into; null: the program itself,
// which dlopen knows by that.
const char* OwnFile() {
  Dl_info info;
  link_map* own = nullptr;
  const bool found =
      dladdr1(&next_dlopen, &info, reinterpret_cast<void**>(&own),
              RTLD_DL_LINKMAP) != 0;
  return found && *own->l_name != 0 ? own->l_name : nullptr;
}

struct DlopenArguments {
  const char* file;
  long mode;
};

}  // namespace

// What to jump to; may change what it is called with.
extern "C" [[gnu::visibility("hidden"), gnu::used]] void* nd_soft_dlopen_target(
    DlopenArguments* arguments) {
  if (IsLibibverbs(arguments->file) && !HooksOff::Active() && SoftIsActive()) {
    arguments->file = OwnFile();
  }
  return reinterpret_cast<void*>(next_dlopen.get());
}

}  // namespace nd::soft

#if defined(__x86_64__)
asm(R"(
  .pushsection .text
  .globl dlopen
  .type dlopen, %function
dlopen:
  .cfi_startproc
  endbr64
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  movq %rsp, %rdi
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  call nd_soft_dlopen_target
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  jmp *%rax
  .cfi_endproc
  .size dlopen, . - dlopen
  .popsection
)");
#elif defined(__aarch64__)
asm(R"(
  .pushsection .text
  .globl dlopen
  .type dlopen, %function
dlopen:
  .cfi_startproc
  hint #34
  stp x0, x1, [sp, #-32]!
  .cfi_def_cfa_offset 32
  str x30, [sp, #16]
  .cfi_offset x30, -16
  mov x0, sp
  bl nd_soft_dlopen_target
  mov x16, x0
  ldr x30, [sp, #16]
  .cfi_restore x30
  ldp x0, x1, [sp], #32
  .cfi_def_cfa_offset 0
  br x16
  .cfi_endproc
  .size dlopen, . - dlopen
  .popsection
)");
#else
#error "dlopen's hook is not written for this processor"
#endif

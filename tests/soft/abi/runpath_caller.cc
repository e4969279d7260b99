#include "soft/abi/runpath_caller.h"

#include <dlfcn.h>

bool OpensByRunpath(const char* library) {
  void* handle = dlopen(library, RTLD_NOW);
  if (handle != nullptr) dlclose(handle);
  return handle != nullptr;
}

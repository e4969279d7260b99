// The variables of the process's environment.
#ifndef ND_BASE_ENVIRONMENT_H_
#define ND_BASE_ENVIRONMENT_H_

#include <cstdlib>

namespace nd {

// The value of `name`, empty where it is not set; it lasts until somebody
// changes the variable.
inline const char* Environment(const char* name) {
  // Threads may read side by side. What they must not do is change it
  // meanwhile, and nothing here does.
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace nd

#endif  // ND_BASE_ENVIRONMENT_H_

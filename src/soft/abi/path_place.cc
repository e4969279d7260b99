#include "soft/abi/path_place.h"

#include <cerrno>
#include <cstring>

#include "soft/abi/hooks_off.h"
#include "soft/abi/soft_device.h"

namespace nd::soft {
namespace {

std::optional<PathView> CurrentView() {
  if (HooksOff::Active()) return std::nullopt;
  const int saved = errno;
  const HooksOff off;
  std::optional<PathView> view;
  if (SoftIsActive()) {
    if (const auto facts = CurrentPathFacts()) view.emplace(*facts);
  }
  errno = saved;
  return view;
}

}  // namespace

bool MayBeOurs(const char* path) {
  if (path == nullptr || path[0] != '/') return false;
  for (const char* prefix : kPathViewPrefixes) {
    if (std::strncmp(path, prefix, std::strlen(prefix)) == 0) return true;
  }
  return false;
}

std::optional<PathView::Place> FindPlace(const char* path,
                                         PathView::LastLink last) {
  const std::optional<PathView> view = CurrentView();
  return view ? view->Find(path, last) : std::nullopt;
}

std::vector<PathView::Entry> ListPlace(const std::string& directory) {
  const std::optional<PathView> view = CurrentView();
  return view ? view->List(directory) : std::vector<PathView::Entry>();
}

}  // namespace nd::soft

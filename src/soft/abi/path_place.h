// What the hooks by path do alike: look where the path leads, then choose.
#ifndef ND_SOFT_ABI_PATH_PLACE_H_
#define ND_SOFT_ABI_PATH_PLACE_H_

#include <optional>
#include <string>
#include <vector>

#include "soft/abi/path_view.h"

namespace nd::soft {

// Whether the tree may have the path. No allocation; nothing of a sanitizer,
// for which it may be too early.
bool MayBeOurs(const char* path);

// PathView::Find in the tree of the moment; nothing while hooks are off.
std::optional<PathView::Place> FindPlace(const char* path,
                                         PathView::LastLink last);
std::vector<PathView::Entry> ListPlace(const std::string& directory);

// `plain(path)` where libc is to answer, `ours(place)` where we are.
template <typename Plain, typename Ours>
auto OnPath(const char* path, PathView::LastLink last, Plain plain, Ours ours) {
  if (!MayBeOurs(path)) return plain(path);
  const std::optional<PathView::Place> place = FindPlace(path, last);
  if (!place) return plain(path);
  if (!place->node) return plain(place->path.c_str());
  return ours(*place);
}

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_PATH_PLACE_H_

// The device's files under /sys/class and /dev/infiniband, which no kernel has.
#ifndef ND_SOFT_ABI_PATH_VIEW_H_
#define ND_SOFT_ABI_PATH_VIEW_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nd::soft {

// All that is in the tree begins with one of these.
inline constexpr const char* kPathViewPrefixes[] = {
    "/sys/class/infiniband",  // and infiniband_verbs
    "/sys/class/misc/rdma_cm", "/dev/infiniband"};
inline constexpr char kRdmaCmPath[] = "/dev/infiniband/rdma_cm";

// What the tree says of the device.
struct PathFacts {
  struct Gid {
    std::array<uint8_t, 16> raw{};
    std::string type;    // "IB/RoCE v1" or "RoCE v2"
    std::string netdev;  // empty: the entry is unused

    bool operator==(const Gid&) const = default;
  };

  std::string name;         // ibv_device::name
  std::string uverbs_name;  // ibv_device::dev_name
  uint64_t node_guid = 0;   // its first byte is the uppermost
  std::string firmware_version;
  std::string netdev{};
  bool port_is_active = true;
  std::string rate = "100 Gb/sec (4X EDR)";
  uint32_t capability_mask = 0x00010000;
  std::vector<Gid> gids{};  // by index
};

struct PathNode {
  enum class Kind : uint8_t {
    kDirectory,
    kShared,  // a directory in which the kernel may have entries too
    kFile,
    kLink,
    kDevice,
  };

  Kind kind;
  std::string content;  // of a file; where a link leads

  bool operator==(const PathNode&) const = default;
};

// Immutable.
class PathView {
 public:
  explicit PathView(const PathFacts& facts);

  enum class LastLink : bool { kKeep, kFollow };
  struct Place {
    std::string path;              // absolute, without links of ours
    std::optional<PathNode> node;  // none: one of our links leads out to `path`
  };
  // Where an absolute path leads to. Nothing: it is no business of ours.
  std::optional<Place> Find(std::string_view path, LastLink last) const;

  struct Entry {
    std::string name;
    PathNode::Kind kind;

    bool operator==(const Entry&) const = default;
  };
  // Of a directory, without "." and "..", by name.
  std::vector<Entry> List(const std::string& directory) const;

 private:
  void Directory(const std::string& path);
  void Add(const std::string& path, PathNode::Kind kind, std::string content);
  void AddDevice(const PathFacts& facts);
  void AddPort(const PathFacts& facts);

  std::map<std::string, PathNode> nodes_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_PATH_VIEW_H_

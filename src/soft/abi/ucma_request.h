// One command of rdma_cm's character device, and the room for its answer.
#ifndef ND_SOFT_ABI_UCMA_REQUEST_H_
#define ND_SOFT_ABI_UCMA_REQUEST_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace nd::soft {

// What the shortest form of a structure has that the kernel knows: what was
// added later may be missing.
template <typename T>
constexpr size_t LeastSize() {
  if constexpr (requires(T value) { value.param; }) {
    return offsetof(T, reserved);  // rdma_ucm_event_resp
  } else if constexpr (requires(T value) { value.ece; }) {
    return offsetof(T, ece);
  } else if constexpr (requires(T value) { value.ibdev_index; }) {
    return offsetof(T, ibdev_index);
  } else if constexpr (requires(T value) { value.path; }) {
    return offsetof(T, path);  // UcmaPathAnswer
  } else {
    return sizeof(T);
  }
}

// Memory of the application's, which it vouches for unless it is null.
inline std::byte* ApplicationMemory(uint64_t address) {
  return reinterpret_cast<std::byte*>(static_cast<uintptr_t>(address));
}

struct UcmaRequest {
  std::span<const std::byte> body{};
  size_t room = 0;  // for the answer

  // Zeros for what the application does not know of yet; nothing where it
  // leaves out more.
  template <typename Command>
  std::optional<Command> Read() const {
    if (body.size() < LeastSize<Command>()) return std::nullopt;
    Command command{};
    std::memcpy(&command, body.data(), std::min(body.size(), sizeof(command)));
    return command;
  }

  // 0, or the error that there is no answering there.
  template <typename Answer>
  int CheckRoom() const {
    return room < LeastSize<Answer>() ? -ENOSPC : 0;
  }

  // As much of it as there is room for.
  template <typename Answer>
  void Write(uint64_t response, const Answer& answer) const {
    std::memcpy(ApplicationMemory(response), &answer,
                std::min(room, sizeof(answer)));
  }
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_REQUEST_H_

// Registration without a device: gives each registration keys of its own, and
// counts.
#ifndef ND_TESTS_TRANSPORT_MEMORY_FAKE_REGISTRAR_H_
#define ND_TESTS_TRANSPORT_MEMORY_FAKE_REGISTRAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "transport/memory/registrar.h"

namespace nd::transport {

class FakeRegistrar final : public Registrar {
 public:
  absl::StatusOr<std::unique_ptr<Registration>> Register(
      std::span<std::byte> memory, unsigned access) override {
    if (current == max_current) {
      return absl::ResourceExhaustedError("no more regions");
    }
    last_memory = memory;
    last_access = access;
    ++current;
    ++made;
    return std::make_unique<Fake>(*this, made);
  }

  size_t max_current = SIZE_MAX;
  size_t current = 0;
  uint32_t made = 0;  // the latest has this as its lkey
  std::span<std::byte> last_memory{};
  unsigned last_access = 0;

 private:
  class Fake final : public Registration {
   public:
    Fake(FakeRegistrar& registrar, uint32_t number)
        : Registration({.lkey = number, .rkey = number + 1000}),
          registrar_(registrar) {}
    ~Fake() override { --registrar_.current; }

   private:
    FakeRegistrar& registrar_;
  };
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_MEMORY_FAKE_REGISTRAR_H_

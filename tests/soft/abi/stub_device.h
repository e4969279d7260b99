// What the stub of the device in hooks_under_test says of itself.
#ifndef TESTS_SOFT_ABI_STUB_DEVICE_H_
#define TESTS_SOFT_ABI_STUB_DEVICE_H_

// By all processes since the library's first call of the device.
struct StubCounts {
  int opened;
  int written;
  int closed;
};

// The bytes that the stub takes for commands.
inline constexpr char kRaiseEvent = 'e';
inline constexpr char kRefuse = 'r';  // EINVAL

extern "C" {
StubCounts stub_counts();
void stub_set_active(bool active);
}

#endif  // TESTS_SOFT_ABI_STUB_DEVICE_H_

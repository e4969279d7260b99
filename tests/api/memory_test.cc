#include "api/memory.h"

#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <array>
#include <memory>

#include "nd/memory.h"
#include "transport/memory/fake_registrar.h"

namespace nd {
namespace {

class RegisteredMemoryTest : public testing::Test {
 protected:
  RegisteredMemory Register(MemoryUse use) {
    return RegisteredMemory(
        api::RegisteredMemory::Register(registrar_, memory_, use).value());
  }

  std::array<std::byte, 100> memory_{};
  const std::shared_ptr<transport::FakeRegistrar> registrar_ =
      std::make_shared<transport::FakeRegistrar>();
};

TEST_F(RegisteredMemoryTest, OperationsNameItByItsKeys) {
  const RegisteredMemory memory = Register(MemoryUse::kPeerWrites);
  EXPECT_EQ(registrar_->last_access,
            unsigned{IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE});
  const SendPiece source = memory.Source(10, 20);
  EXPECT_EQ(source.bytes.data(), memory_.data() + 10);
  EXPECT_EQ(source.bytes.size(), 20u);
  EXPECT_TRUE(source.registered);
  EXPECT_EQ(source.lkey, 1u);
  const ReceiveOperation::Into target = memory.Target(0, 100);
  EXPECT_TRUE(target.registered);
  EXPECT_EQ(target.rkey, 1001u);
  const AccessOperation::Memory sink = memory.Sink(100, 0);
  EXPECT_TRUE(sink.registered);
  EXPECT_EQ(sink.lkey, 1u);
}

// What is received into it is then registered for the message alone.
TEST_F(RegisteredMemoryTest, ThePeerGetsNoKeyOfLocalMemory) {
  const RegisteredMemory memory = Register(MemoryUse::kLocal);
  EXPECT_EQ(registrar_->last_access, unsigned{IBV_ACCESS_LOCAL_WRITE});
  EXPECT_FALSE(memory.Target(0, 100).registered);
}

TEST_F(RegisteredMemoryTest, ItIsRegisteredForAsLongAsItIsThere) {
  RegisteredMemory memory = Register(MemoryUse::kLocal);
  EXPECT_EQ(registrar_->current, 1u);
  memory = RegisteredMemory();
  EXPECT_EQ(registrar_->current, 0u);
  EXPECT_FALSE(memory);
}

TEST_F(RegisteredMemoryTest, AnErrorOfTheDevicesIsTold) {
  registrar_->max_current = 0;
  EXPECT_EQ(
      api::RegisteredMemory::Register(registrar_, memory_, MemoryUse::kLocal)
          .status()
          .code(),
      absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace nd

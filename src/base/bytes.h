// Cursors that read and write wire bytes: bounds-checked, in either byte order.
#ifndef ND_BASE_BYTES_H_
#define ND_BASE_BYTES_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/byte_order.h"

namespace nd {

// Reads a byte string from front to back. A read past the end yields zeros and
// fails the reader for good: a parser reads all its fields and then asks ok()
// once. Refers to the bytes, does not own them. One thread at a time.
class ByteReader {
  // First in the class: clang evaluates a member template at compile time only
  // where its body has been seen.
  template <typename T, std::endian kOrder, size_t kSize = sizeof(T)>
  constexpr T Read() {
    const auto view = ReadView(kSize);
    if (view.empty()) return 0;
    return static_cast<T>(LoadUint<kOrder>(view.template first<kSize>()));
  }

 public:
  constexpr explicit ByteReader(std::span<const std::byte> bytes)
      : rest_(bytes) {}
  explicit ByteReader(std::span<const uint8_t> bytes)
      : rest_(std::as_bytes(bytes)) {}

  constexpr uint8_t ReadU8() { return Read<uint8_t, std::endian::big>(); }
  constexpr uint16_t ReadBe16() { return Read<uint16_t, std::endian::big>(); }
  constexpr uint32_t ReadBe24() {
    return Read<uint32_t, std::endian::big, 3>();
  }
  constexpr uint32_t ReadBe32() { return Read<uint32_t, std::endian::big>(); }
  constexpr uint64_t ReadBe64() { return Read<uint64_t, std::endian::big>(); }
  constexpr uint16_t ReadLe16() {
    return Read<uint16_t, std::endian::little>();
  }
  constexpr uint32_t ReadLe32() {
    return Read<uint32_t, std::endian::little>();
  }
  constexpr uint64_t ReadLe64() {
    return Read<uint64_t, std::endian::little>();
  }

  // Copies the next out.size() bytes; past the end, all of `out` is zeros.
  constexpr void ReadBytes(std::span<std::byte> out) {
    if (std::ranges::copy(ReadView(out.size()), out.begin()).out != out.end()) {
      std::ranges::fill(out, std::byte{0});
    }
  }
  void ReadBytes(std::span<uint8_t> out) {
    ReadBytes(std::as_writable_bytes(out));
  }

  // The next `size` bytes in place, not copied; past the end, an empty span.
  constexpr std::span<const std::byte> ReadView(size_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const auto view = rest_.first(size);
    rest_ = rest_.subspan(size);
    return view;
  }

  constexpr void Skip(size_t size) { ReadView(size); }

  // Bytes not read yet; zero once the reader has failed.
  constexpr size_t remaining() const { return rest_.size(); }

  // False once a read went past the end.
  [[nodiscard]] constexpr bool ok() const { return ok_; }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

// Writes a byte string from front to back. A field that does not fit is not
// written at all and fails the writer for good: a serialiser writes all its
// fields and then asks ok() once. Refers to the bytes, does not own them. One
// thread at a time.
class ByteWriter {
  // First in the class: see ByteReader.
  template <std::endian kOrder, size_t kSize>
  constexpr void Write(uint64_t value) {
    const auto field = Reserve(kSize);
    if (!field.empty()) {
      StoreUint<kOrder>(field.template first<kSize>(), value);
    }
  }

 public:
  constexpr explicit ByteWriter(std::span<std::byte> bytes) : bytes_(bytes) {}
  explicit ByteWriter(std::span<uint8_t> bytes)
      : bytes_(std::as_writable_bytes(bytes)) {}

  constexpr void WriteU8(uint8_t value) { Write<std::endian::big, 1>(value); }
  constexpr void WriteBe16(uint16_t value) {
    Write<std::endian::big, 2>(value);
  }
  // The upper eight bits of `value` are dropped.
  constexpr void WriteBe24(uint32_t value) {
    Write<std::endian::big, 3>(value);
  }
  constexpr void WriteBe32(uint32_t value) {
    Write<std::endian::big, 4>(value);
  }
  constexpr void WriteBe64(uint64_t value) {
    Write<std::endian::big, 8>(value);
  }
  constexpr void WriteLe16(uint16_t value) {
    Write<std::endian::little, 2>(value);
  }
  constexpr void WriteLe32(uint32_t value) {
    Write<std::endian::little, 4>(value);
  }
  constexpr void WriteLe64(uint64_t value) {
    Write<std::endian::little, 8>(value);
  }

  constexpr void WriteBytes(std::span<const std::byte> bytes) {
    const auto field = Reserve(bytes.size());
    if (!field.empty()) std::ranges::copy(bytes, field.begin());
  }
  void WriteBytes(std::span<const uint8_t> bytes) {
    WriteBytes(std::as_bytes(bytes));
  }
  constexpr void WriteZeros(size_t size) {
    std::ranges::fill(Reserve(size), std::byte{0});
  }

  // The next `size` bytes, to be filled in; an empty span if they do not fit.
  constexpr std::span<std::byte> Reserve(size_t size) {
    if (size > remaining()) {
      ok_ = false;
      return {};
    }
    const auto field = bytes_.subspan(position_, size);
    position_ += size;
    return field;
  }

  // What has been written so far.
  constexpr std::span<std::byte> written() const {
    return bytes_.first(position_);
  }

  // Room left; zero once the writer has failed.
  constexpr size_t remaining() const {
    return ok_ ? bytes_.size() - position_ : 0;
  }

  // False once a field did not fit.
  [[nodiscard]] constexpr bool ok() const { return ok_; }

 private:
  std::span<std::byte> bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace nd

#endif  // ND_BASE_BYTES_H_

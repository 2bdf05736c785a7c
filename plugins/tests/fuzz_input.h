// A fuzzer's bytes, taken from the front; zeros where there are none left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace sn_deploy::testing {

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  template <typename T>
  T take() {
    T value = {};
    const std::size_t size = left_ < sizeof value ? left_ : sizeof value;
    if (size > 0) std::memcpy(&value, data_, size);
    data_ += size;
    left_ -= size;
    return value;
  }
  // 0 to most.
  std::uint32_t up_to(std::uint32_t most) { return take<std::uint8_t>() % (most + 1); }
  bool coin() { return (take<std::uint8_t>() & 1U) != 0; }

  // Mostly what nets have; now and then what arithmetic may trip over.
  std::int64_t extent() {
    constexpr std::int64_t kOdd[] = {-1,
                                     INT64_MIN,
                                     INT64_MAX,
                                     INT64_MAX - 3,
                                     std::int64_t{1} << 31,
                                     (std::int64_t{1} << 31) - 1,
                                     std::int64_t{1} << 32,
                                     std::int64_t{1} << 62,
                                     -7};
    const auto drawn = take<std::uint8_t>();
    if (drawn < 240) return drawn % 20;
    if (drawn < 249) return kOdd[drawn - 240];
    return take<std::int64_t>();
  }

  std::string text(std::size_t most) {
    std::string made(up_to(static_cast<std::uint32_t>(most)), '\0');
    for (char& letter : made) letter = static_cast<char>(take<std::uint8_t>() | 1U);
    return made;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace sn_deploy::testing

// What the tests of the CPU kernels share: cases, threads, and the error of a result in units of what rounding may
// cost.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <thread>
#include <vector>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "cpu/switch_norm.h"
#include "tests/reference.h"

namespace sn_deploy::cpu {

inline void PrintTo(const Kernels* kernels, std::ostream* out) { *out << kernels->name; }

using sn_deploy::testing::Layer;
using sn_deploy::testing::reference;
using Bytes = std::vector<std::uint8_t>;

struct Case {
  Problem problem;
  Layer layer;
  std::vector<float> x, residual;  // representable in the problem's type

  Weights weights() const { return {layer.mean_in, layer.mean_ln, layer.var_in, layer.var_ln}; }
};

template <typename T>
Bytes stored(const std::vector<float>& values) {
  Bytes bytes(values.size() * sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    from_float(values[i], &value);
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return bytes;
}

template <typename T>
std::vector<float> read(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = to_float(value);
  }
  return values;
}

inline Bytes stored_as(DataType type, const std::vector<float>& values) {
  if (type == DataType::kFloat16) return stored<Half>(values);
  if (type == DataType::kBfloat16) return stored<Bfloat16>(values);
  return stored<float>(values);
}

inline std::vector<float> read_as(DataType type, const Bytes& bytes) {
  if (type == DataType::kFloat16) return read<Half>(bytes);
  if (type == DataType::kBfloat16) return read<Bfloat16>(bytes);
  return read<float>(bytes);
}

inline Case make_case(const Problem& problem, double mean = 0.0, double deviation = 1.0) {
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  Case made;
  made.problem = problem;
  std::vector<double> means;
  for (std::int64_t c = 0; c < problem.channels; ++c) {
    means.push_back(mean + deviation * normal(generator));
    made.layer.scale.push_back(static_cast<float>(1.0 + 0.2 * normal(generator)));
    made.layer.bias.push_back(static_cast<float>(normal(generator)));
    made.layer.mean_offset.push_back(static_cast<float>(0.2 * mean));
    made.layer.var_offset.push_back(static_cast<float>(0.2 * deviation * deviation + 1e-5));
  }
  for (std::int64_t n = 0; n < problem.batch; ++n) {
    for (const double own : means) {
      for (std::int64_t i = 0; i < problem.spatial; ++i) {
        made.x.push_back(static_cast<float>(own + deviation * normal(generator)));
        made.residual.push_back(static_cast<float>(normal(generator)));
      }
    }
  }
  made.x = read_as(problem.type, stored_as(problem.type, made.x));
  made.residual = read_as(problem.type, stored_as(problem.type, made.residual));
  return made;
}

// The same with a layer that has chosen BN: no statistic of the input has a weight.
inline Case without_statistics(Case made) {
  made.layer.mean_in = made.layer.mean_ln = made.layer.var_in = made.layer.var_ln = 0.0F;
  return made;
}

inline Parallel reversed() {
  const auto run = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    for (std::size_t i = tasks; i-- > 0;) task(context, i);
    return true;
  };
  return {run, nullptr};
}

inline Parallel four_threads() {
  const auto run = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([=] {
        for (std::size_t i = t; i < tasks; i += 4) task(context, i);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return true;
  };
  return {run, nullptr};
}

inline Parallel broken() {
  return {[](void*, void (*)(void*, std::size_t), void*, std::size_t) { return false; }, nullptr};
}

enum class Place { kSeparate, kInX, kInResidual };

// A copy that begins one byte past any alignment.
template <typename T>
class Shifted {
 public:
  explicit Shifted(const std::vector<T>& values) : bytes_(values.size() * sizeof(T) + 64 + 1) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    start_ = bytes_.data() + (64 - address % 64) % 64 + 1;
    if (!values.empty()) std::memcpy(start_, values.data(), values.size() * sizeof(T));
    size_ = values.size();
  }
  Shifted(const Shifted&) = delete;
  Shifted& operator=(const Shifted&) = delete;

  T* data() { return reinterpret_cast<T*>(start_); }
  std::vector<T> values() const {
    std::vector<T> copy(size_);
    if (size_ != 0) std::memcpy(copy.data(), start_, size_ * sizeof(T));
    return copy;
  }

 private:
  Bytes bytes_;
  std::uint8_t* start_ = nullptr;
  std::size_t size_ = 0;
};

// Status and Y of `call(tensors)` with every tensor at an odd address; x and residual as they are stored.
template <typename T, typename CallWith>
std::vector<T> at_odd_addresses(const Layer& layer, const std::vector<T>& x, const std::vector<T>& residual,
                                CallWith call) {
  Shifted<T> shifted_x(x), shifted_residual(residual), y(std::vector<T>(x.size()));
  Shifted<float> scale(layer.scale), bias(layer.bias), mean(layer.mean_offset), var(layer.var_offset);
  call(
      Tensors{shifted_x.data(), scale.data(), bias.data(), mean.data(), var.data(), shifted_residual.data(), y.data()});
  return y.values();
}

// Half the spacing of the type's numbers, relative to them.
inline double roundoff(DataType type) {
  if (type == DataType::kFloat32) return 0x1p-24;
  return type == DataType::kFloat16 ? 0x1p-11 : 0x1p-8;
}

// The largest error in units of what float32 arithmetic and the rounding of Y may cost.
inline double error(const Case& of, Epilogue epilogue, const Bytes& bytes) {
  const std::vector<float> y = read_as(of.problem.type, bytes);
  const std::vector<double> exact = reference(of.problem, of.layer, epilogue, of.x, of.residual);
  double deviation = std::sqrt(static_cast<double>(of.layer.var_offset[0]) * 5);
  double largest = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double arithmetic = 4 * 0x1p-24 * (std::abs(static_cast<double>(of.x[i])) / deviation + 8);
    const double allowed = arithmetic + roundoff(of.problem.type) * std::abs(exact[i]) + 0x1p-25;
    const double off = std::abs(static_cast<double>(y[i]) - exact[i]) / allowed;
    largest = std::max(largest, std::isnan(off) ? std::numeric_limits<double>::infinity() : off);
  }
  return largest;
}

inline std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (const InstructionSet set : {InstructionSet::kBaseline, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (kernels_of(set) != nullptr) all.push_back(kernels_of(set));
  }
  return all;
}

constexpr Epilogue kEveryEpilogue[] = {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu};

}  // namespace sn_deploy::cpu

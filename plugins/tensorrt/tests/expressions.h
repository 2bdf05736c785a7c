// The shape arithmetic that TensorRT hands to a plugin.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <deque>
#include <limits>

namespace sn_deploy::tensorrt::test {

// Extents, known and unknown, and the builder that TensorRT would hand over with them.
class Expressions final : public nvinfer1::IExprBuilder, private nvinfer1::apiv::VExprBuilder {
 public:
  Expressions() { mImpl = this; }
  ~Expressions() noexcept override = default;
  // -1 stands for an extent that isn't known.
  template <typename Extents>
  nvinfer1::DimsExprs shape(const Extents& extents) {
    nvinfer1::DimsExprs result = {};
    for (const std::int64_t extent : extents) result.d[result.nbDims++] = constant(extent);
    return result;
  }

 private:
  class Extent final : public nvinfer1::IDimensionExpr, private nvinfer1::apiv::VDimensionExpr {
   public:
    explicit Extent(std::int64_t value) : value_(value) { mImpl = this; }
    ~Extent() noexcept override = default;

   private:
    bool isConstant() const override { return value_ >= 0; }
    std::int64_t getConstantValue() const override {
      return value_ >= 0 ? value_ : std::numeric_limits<std::int64_t>::min();
    }
    bool isSizeTensor() const override { return false; }
    std::int64_t value_;
  };

  const nvinfer1::IDimensionExpr* constant(std::int64_t value) override { return &extents_.emplace_back(value); }
  // Of those that are known, the one operation that a plugin has need of.
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation kind, const nvinfer1::IDimensionExpr& first,
                                            const nvinfer1::IDimensionExpr& second) override {
    if (kind != nvinfer1::DimensionOperation::kCEIL_DIV) return nullptr;
    if (!first.isConstant() || !second.isConstant()) return constant(-1);
    const std::int64_t divisor = second.getConstantValue();
    return constant((first.getConstantValue() + divisor - 1) / divisor);
  }
  const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }
  std::deque<Extent> extents_;
};

}  // namespace sn_deploy::tensorrt::test

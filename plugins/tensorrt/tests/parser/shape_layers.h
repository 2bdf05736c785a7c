// Layers that compute shapes and small matrices of them, as `sn-deploy export` needs for adaptive pooling of any size.
// Each gives its output the type and the shape that TensorRT's documentation promises; an unknown extent is -1. The
// parser makes settings after it adds a layer, so an output gets its shape anew after each.
#pragma once

#include "fake_network.h"

namespace sn_deploy::tensorrt::test {

using nvinfer1::Dims;

inline Dims unknown(std::int64_t rank) noexcept {
  Dims dims = {};
  dims.nbDims = static_cast<std::int32_t>(rank);
  for (std::int32_t i = 0; i < dims.nbDims; ++i) dims.d[i] = -1;
  return dims;
}

// Of two extents that are equal, 1 or unknown; an unknown one beside a known one above 1 is that one.
inline std::int64_t broadcast(std::int64_t a, std::int64_t b) noexcept { return a == 1 || (a == -1 && b != 1) ? b : a; }

inline Dims transposed(const Dims& dims, const nvinfer1::Permutation& by) noexcept {
  Dims result = dims;
  for (std::int32_t i = 0; i < dims.nbDims; ++i) result.d[i] = dims.d[by.order[i]];
  return result;
}

template <typename Interface, typename Stub, nvinfer1::LayerType kind>
class FakeShapeLayerBase : public Interface, protected Stub {
 public:
  FakeShapeLayerBase() {
    this->mLayer = &layer;
    this->mImpl = this;
    layer.changed = [this] { this->shape_output(); };
  }
  ~FakeShapeLayerBase() noexcept override = default;
  virtual void shape_output() noexcept {}
  FakeLayer layer{kind};

 protected:
  Dims dims_of(std::size_t input) const noexcept { return layer.inputs[input]->getDimensions(); }
  bool has(std::size_t input) const noexcept { return layer.inputs.size() > input && layer.inputs[input] != nullptr; }
  void give(const Dims& dims) noexcept { layer.outputs[0]->setDimensions(dims); }
};

class FakeShapeLayer final
    : public FakeShapeLayerBase<nvinfer1::IShapeLayer, nvinfer1::apiv::StubVShapeLayer, nvinfer1::LayerType::kSHAPE> {};

class FakeIdentityLayer final : public FakeShapeLayerBase<nvinfer1::IIdentityLayer, nvinfer1::apiv::StubVIdentityLayer,
                                                          nvinfer1::LayerType::kIDENTITY> {};

class FakeUnaryLayer final
    : public FakeShapeLayerBase<nvinfer1::IUnaryLayer, nvinfer1::apiv::StubVUnaryLayer, nvinfer1::LayerType::kUNARY> {};

class FakeElementWiseLayer final
    : public FakeShapeLayerBase<nvinfer1::IElementWiseLayer, nvinfer1::apiv::StubVElementWiseLayer,
                                nvinfer1::LayerType::kELEMENTWISE> {
 public:
  explicit FakeElementWiseLayer(nvinfer1::ElementWiseOperation operation) : operation_(operation) {}
  void shape_output() noexcept override {
    Dims dims = dims_of(0);
    for (std::int32_t i = 0; i < dims.nbDims; ++i) dims.d[i] = broadcast(dims.d[i], dims_of(1).d[i]);
    give(dims);
  }

 private:
  nvinfer1::ElementWiseOperation getOperation() const noexcept override { return operation_; }
  nvinfer1::ElementWiseOperation operation_;
};

class FakeReduceLayer final : public FakeShapeLayerBase<nvinfer1::IReduceLayer, nvinfer1::apiv::StubVReduceLayer,
                                                        nvinfer1::LayerType::kREDUCE> {
 public:
  FakeReduceLayer(std::uint32_t axes, bool keep) : axes_(axes), keep_(keep) {}
  void shape_output() noexcept override {
    const Dims dims = dims_of(0);
    Dims result = {};
    for (std::int32_t i = 0; i < dims.nbDims; ++i) {
      const bool reduced = (axes_ >> i & 1U) != 0;
      if (!reduced || keep_) result.d[result.nbDims++] = reduced ? 1 : dims.d[i];
    }
    give(result);
  }

 private:
  std::uint32_t axes_;
  bool keep_;
};

class FakeMatrixMultiplyLayer final
    : public FakeShapeLayerBase<nvinfer1::IMatrixMultiplyLayer, nvinfer1::apiv::StubVMatrixMultiplyLayer,
                                nvinfer1::LayerType::kMATRIX_MULTIPLY> {
 public:
  void shape_output() noexcept override {
    Dims dims = dims_of(0);
    const Dims other = dims_of(1);
    for (std::int32_t i = 0; i + 2 < dims.nbDims; ++i) dims.d[i] = broadcast(dims.d[i], other.d[i]);
    dims.d[dims.nbDims - 1] = other.d[dims.nbDims - 1];
    give(dims);
  }
};

class FakeGatherLayer final : public FakeShapeLayerBase<nvinfer1::IGatherLayer, nvinfer1::apiv::StubVGatherLayer,
                                                        nvinfer1::LayerType::kGATHER> {
 public:
  explicit FakeGatherLayer(std::int32_t axis) : axis_(axis) {}
  void shape_output() noexcept override {
    const Dims data = dims_of(0), indices = dims_of(1);
    Dims result = {};
    for (std::int32_t i = 0; i < axis_; ++i) result.d[result.nbDims++] = data.d[i];
    for (std::int32_t i = 0; i < indices.nbDims; ++i) result.d[result.nbDims++] = indices.d[i];
    for (std::int32_t i = axis_ + 1; i < data.nbDims; ++i) result.d[result.nbDims++] = data.d[i];
    give(result);
  }

 private:
  void setGatherAxis(std::int32_t axis) noexcept override {
    axis_ = axis;
    shape_output();
  }
  std::int32_t getGatherAxis() const noexcept override { return axis_; }
  std::int32_t axis_;
};

// A shape that isn't known when the layer is added comes as a tensor, whose length is the rank.
class FakeFillLayer final
    : public FakeShapeLayerBase<nvinfer1::IFillLayer, nvinfer1::apiv::StubVFillLayer, nvinfer1::LayerType::kFILL> {
 public:
  FakeFillLayer(const Dims& dims, nvinfer1::DataType type) : dims_(dims), type_(type) {}
  void shape_output() noexcept override { give(has(0) ? unknown(dims_of(0).d[0]) : dims_); }

 private:
  nvinfer1::DataType getToType() const noexcept override { return type_; }
  void setToType(nvinfer1::DataType to) noexcept override {
    type_ = to;
    static_cast<FakeTensor*>(layer.outputs[0])->become(to);
  }
  Dims getDimensions() const noexcept override { return dims_; }
  Dims dims_;
  nvinfer1::DataType type_;
};

class FakeSliceLayer final
    : public FakeShapeLayerBase<nvinfer1::ISliceLayer, nvinfer1::apiv::StubVSliceLayer, nvinfer1::LayerType::kSLICE> {
 public:
  explicit FakeSliceLayer(const Dims& size) : size_(size) {}
  void shape_output() noexcept override { give(has(2) ? unknown(dims_of(0).nbDims) : size_); }

 private:
  Dims size_;
};

class FakeConcatenationLayer final
    : public FakeShapeLayerBase<nvinfer1::IConcatenationLayer, nvinfer1::apiv::StubVConcatenationLayer,
                                nvinfer1::LayerType::kCONCATENATION> {
 public:
  void shape_output() noexcept override {
    Dims dims = dims_of(0);
    for (std::size_t i = 1; i < layer.inputs.size(); ++i) {
      const std::int64_t extent = dims_of(i).d[axis_];
      dims.d[axis_] = dims.d[axis_] < 0 || extent < 0 ? -1 : dims.d[axis_] + extent;
    }
    give(dims);
  }

 private:
  void setAxis(std::int32_t axis) noexcept override {
    axis_ = axis;
    shape_output();
  }
  std::int32_t getAxis() const noexcept override { return axis_; }
  std::int32_t axis_ = 0;
};

class FakeSqueezeLayer final : public FakeShapeLayerBase<nvinfer1::ISqueezeLayer, nvinfer1::apiv::StubVSqueezeLayer,
                                                         nvinfer1::LayerType::kSQUEEZE> {};

class FakeUnsqueezeLayer final
    : public FakeShapeLayerBase<nvinfer1::IUnsqueezeLayer, nvinfer1::apiv::StubVUnsqueezeLayer,
                                nvinfer1::LayerType::kUNSQUEEZE> {};

class FakeShuffleLayer final : public FakeShapeLayerBase<nvinfer1::IShuffleLayer, nvinfer1::apiv::StubVShuffleLayer,
                                                         nvinfer1::LayerType::kSHUFFLE> {
 public:
  FakeShuffleLayer() {
    for (std::int32_t i = 0; i < Dims::MAX_DIMS; ++i) first_.order[i] = second_.order[i] = i;
  }
  void shape_output() noexcept override {
    Dims dims = transposed(dims_of(0), first_);
    if (has(1)) {
      dims = unknown(dims_of(1).d[0]);
    } else if (reshapes_) {
      dims = reshaped(dims);
    }
    give(transposed(dims, second_));
  }

 private:
  void setFirstTranspose(const nvinfer1::Permutation& by) noexcept override {
    first_ = by;
    shape_output();
  }
  const nvinfer1::Permutation& getFirstTranspose() const noexcept override { return first_; }
  void setSecondTranspose(const nvinfer1::Permutation& by) noexcept override {
    second_ = by;
    shape_output();
  }
  const nvinfer1::Permutation& getSecondTranspose() const noexcept override { return second_; }
  void setReshapeDimensions(const Dims& dims) noexcept override {
    reshape_ = dims;
    reshapes_ = true;
    shape_output();
  }
  Dims getReshapeDimensions() const noexcept override { return reshape_; }
  void setZeroIsPlaceholder(bool is) noexcept override {
    zero_is_placeholder_ = is;
    shape_output();
  }
  bool getZeroIsPlaceholder() const noexcept override { return zero_is_placeholder_; }
  Dims reshaped(const Dims& from) const noexcept {
    Dims dims = reshape_;
    std::int64_t all = 1, known = 1;
    for (std::int32_t i = 0; i < from.nbDims; ++i) all = all < 0 || from.d[i] < 0 ? -1 : all * from.d[i];
    for (std::int32_t i = 0; i < dims.nbDims; ++i) {
      if (dims.d[i] == 0 && zero_is_placeholder_) dims.d[i] = from.d[i];
      if (dims.d[i] > 0) known *= dims.d[i];
    }
    for (std::int32_t i = 0; i < dims.nbDims; ++i) {
      if (dims.d[i] == -1 && all > 0) dims.d[i] = all / known;
    }
    return dims;
  }
  nvinfer1::Permutation first_{}, second_{};
  Dims reshape_{};
  bool reshapes_ = false, zero_is_placeholder_ = true;
};

}  // namespace sn_deploy::tensorrt::test

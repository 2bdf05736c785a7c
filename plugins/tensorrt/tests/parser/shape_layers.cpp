#include "shape_layers.h"

namespace sn_deploy::tensorrt::test {

using nvinfer1::DataType;
using nvinfer1::ElementWiseOperation;
using nvinfer1::ITensor;
using nvinfer1::MatrixOperation;

nvinfer1::IShapeLayer* FakeNetwork::addShape(ITensor& input) noexcept {
  const Dims dims = {1, {input.getDimensions().nbDims}};
  return add(std::make_shared<FakeShapeLayer>(), {&input}, "shape", DataType::kINT64, dims);
}

nvinfer1::IIdentityLayer* FakeNetwork::addIdentity(ITensor& input) noexcept {
  return add(std::make_shared<FakeIdentityLayer>(), {&input}, "identity", input.getType(), input.getDimensions());
}

nvinfer1::IUnaryLayer* FakeNetwork::addUnary(ITensor& input, nvinfer1::UnaryOperation) noexcept {
  return add(std::make_shared<FakeUnaryLayer>(), {&input}, "unary", input.getType(), input.getDimensions());
}

// Both of one rank and, in a strongly typed network, of one type; of truth values for the logical operations.
nvinfer1::IElementWiseLayer* FakeNetwork::addElementWise(ITensor& a, ITensor& b, ElementWiseOperation op) noexcept {
  if (a.getType() != b.getType() || a.getDimensions().nbDims != b.getDimensions().nbDims) return nullptr;
  const bool logical =
      op == ElementWiseOperation::kAND || op == ElementWiseOperation::kOR || op == ElementWiseOperation::kXOR;
  if (logical != (a.getType() == DataType::kBOOL)) return nullptr;
  const bool compares =
      op == ElementWiseOperation::kEQUAL || op == ElementWiseOperation::kGREATER || op == ElementWiseOperation::kLESS;
  const DataType type = compares ? DataType::kBOOL : a.getType();
  auto* added = add(std::make_shared<FakeElementWiseLayer>(op), {&a, &b}, "elementwise", type, a.getDimensions());
  added->shape_output();
  return added;
}

nvinfer1::IReduceLayer* FakeNetwork::addReduce(ITensor& input, nvinfer1::ReduceOperation, std::uint32_t axes,
                                               bool keep) noexcept {
  auto* added = add(std::make_shared<FakeReduceLayer>(axes, keep), {&input}, "reduce", input.getType(), Dims{});
  added->shape_output();
  return added;
}

// Floating point, of one type and one rank, and as many columns as rows where both are known.
nvinfer1::IMatrixMultiplyLayer* FakeNetwork::addMatrixMultiply(ITensor& a, MatrixOperation op_a, ITensor& b,
                                                               MatrixOperation op_b) noexcept {
  const Dims rows = a.getDimensions(), columns = b.getDimensions();
  if (op_a != MatrixOperation::kNONE || op_b != MatrixOperation::kNONE || a.getType() != b.getType()) return nullptr;
  if (a.getType() != DataType::kFLOAT && a.getType() != DataType::kHALF && a.getType() != DataType::kBF16) {
    return nullptr;
  }
  if (rows.nbDims < 2 || rows.nbDims != columns.nbDims) return nullptr;
  const std::int64_t inner = rows.d[rows.nbDims - 1], other = columns.d[columns.nbDims - 2];
  if (inner >= 0 && other >= 0 && inner != other) return nullptr;
  auto* added = add(std::make_shared<FakeMatrixMultiplyLayer>(), {&a, &b}, "matmul", a.getType(), rows);
  added->shape_output();
  return added;
}

nvinfer1::IGatherLayer* FakeNetwork::addGather(ITensor& data, ITensor& indices, std::int32_t axis) noexcept {
  auto* added = add(std::make_shared<FakeGatherLayer>(axis), {&data, &indices}, "gather", data.getType(), Dims{});
  added->shape_output();
  return added;
}

nvinfer1::IGatherLayer* FakeNetwork::addGatherV2(ITensor& data, ITensor& indices, nvinfer1::GatherMode mode) noexcept {
  return mode == nvinfer1::GatherMode::kDEFAULT ? addGather(data, indices, 0) : nullptr;
}

nvinfer1::IFillLayer* FakeNetwork::addFillV2(const Dims& dims, nvinfer1::FillOperation, DataType type) noexcept {
  return add(std::make_shared<FakeFillLayer>(dims, type), {}, "fill", type, dims);
}

nvinfer1::ISliceLayer* FakeNetwork::addSlice(ITensor& input, const Dims&, const Dims& size, const Dims&) noexcept {
  return add(std::make_shared<FakeSliceLayer>(size), {&input}, "slice", input.getType(), size);
}

nvinfer1::IConcatenationLayer* FakeNetwork::addConcatenation(ITensor* const* given, std::int32_t count) noexcept {
  const std::vector<ITensor*> parts(given, given + count);
  auto* added = add(std::make_shared<FakeConcatenationLayer>(), parts, "concatenation", parts[0]->getType(), Dims{});
  added->shape_output();
  return added;
}

// The axes are a constant of the network, counted in `rank` axes.
static std::vector<bool> axes_of(const ITensor& axes, std::int32_t rank) {
  std::vector<bool> found(static_cast<std::size_t>(rank), false);
  for (const std::int64_t axis : static_cast<const FakeTensor&>(axes).values) {
    found[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)] = true;
  }
  return found;
}

nvinfer1::ISqueezeLayer* FakeNetwork::addSqueeze(ITensor& input, ITensor& axes) noexcept {
  const Dims from = input.getDimensions();
  const std::vector<bool> squeezed = axes_of(axes, from.nbDims);
  Dims dims = {};
  for (std::int32_t i = 0; i < from.nbDims; ++i) {
    if (!squeezed[static_cast<std::size_t>(i)]) dims.d[dims.nbDims++] = from.d[i];
  }
  return add(std::make_shared<FakeSqueezeLayer>(), {&input, &axes}, "squeeze", input.getType(), dims);
}

nvinfer1::IUnsqueezeLayer* FakeNetwork::addUnsqueeze(ITensor& input, ITensor& axes) noexcept {
  const Dims from = input.getDimensions();
  const auto more = static_cast<std::int32_t>(static_cast<FakeTensor&>(axes).values.size());
  const std::vector<bool> made = axes_of(axes, from.nbDims + more);
  Dims dims = {};
  std::int32_t next = 0;
  for (const bool is_new : made) dims.d[dims.nbDims++] = is_new ? 1 : from.d[next++];
  return add(std::make_shared<FakeUnsqueezeLayer>(), {&input, &axes}, "unsqueeze", input.getType(), dims);
}

nvinfer1::IShuffleLayer* FakeNetwork::addShuffle(ITensor& input) noexcept {
  return add(std::make_shared<FakeShuffleLayer>(), {&input}, "shuffle", input.getType(), input.getDimensions());
}

}  // namespace sn_deploy::tensorrt::test

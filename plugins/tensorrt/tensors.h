// What TensorRT says of a node's tensors, as the problem that the kernels are asked to solve.
#pragma once

#include <NvInferRuntime.h>

#include "core/problem.h"
#include "sn_deploy/cuda.h"
#include "tensorrt/fields.h"
#include "tensorrt/op.h"

namespace sn_deploy::tensorrt {

// Whether X, the residual and Y may have this type and format. X is of `rank`: the vectors of kHWC and kHWC8 lie along
// the third axis from the end, those of kDHWC and kDHWC8 along the fourth, which is C only for rank 4 and rank 5.
bool supports(nvinfer1::DataType type, nvinfer1::TensorFormat format, std::int32_t rank) noexcept;

// False for types that no kernel takes.
bool data_type_from_trt(nvinfer1::DataType type, DataType* result) noexcept;

// Checks the tensors of one call and states the problem; every extent must be known. `problem` is set only with true;
// with false, the reason is in the log.
bool problem_from_tensors(const Op& op, const Attributes& attributes, const nvinfer1::PluginTensorDesc* inputs,
                          std::int32_t input_count, SnCudaProblem* problem) noexcept;

}  // namespace sn_deploy::tensorrt

// TensorRT's logger, wherever this library was loaded from.
#pragma once

#include <NvInferRuntime.h>

namespace sn_deploy::tensorrt {

// From setLoggerFinder; may be null.
void use_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Logs one error, printf-style, cut at 1024 bytes. With no logger anywhere, it goes to standard error: a refusal
// without a reason helps nobody.
void log_error(const char* format, ...) noexcept __attribute__((format(printf, 1, 2)));

}  // namespace sn_deploy::tensorrt

#include "tensorrt/log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

#include "tensorrt/process.h"

namespace sn_deploy::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

nvinfer1::ILogger* find_logger() noexcept {
  nvinfer1::ILoggerFinder* finder = logger_finder.load();
  nvinfer1::ILogger* logger = nullptr;
  if (finder != nullptr) {
    try {
      logger = finder->findLogger();  // TensorRT's code, and not noexcept
    } catch (...) {
      logger = nullptr;
    }
  }
  return logger != nullptr ? logger : process_logger();
}

}  // namespace

void use_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder.store(finder); }

void log_error(const char* format, ...) noexcept {
  constexpr int kBytes = 1024;
  char message[kBytes];
  va_list arguments;
  va_start(arguments, format);
  const int written = std::vsnprintf(message, kBytes, format, arguments);
  va_end(arguments);
  if (written < 0) return;
  nvinfer1::ILogger* logger = find_logger();
  if (logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message);
  } else {
    std::fprintf(stderr, "%s\n", message);
  }
}

}  // namespace sn_deploy::tensorrt

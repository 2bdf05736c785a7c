#include "onnxruntime/status.h"

#include <cstdarg>
#include <cstdio>

namespace sn_deploy::ort {

OrtStatus* invalid(const Where& where, const char* format, ...) {
  char message[512];
  const int length = std::snprintf(message, sizeof message, "%s::%s '%s': ", where.domain, where.op, where.node);
  if (length > 0 && length < static_cast<int>(sizeof message)) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message + length, sizeof message - static_cast<std::size_t>(length), format, arguments);
    va_end(arguments);
  }
  return where.api->CreateStatus(ORT_INVALID_ARGUMENT, message);
}

}  // namespace sn_deploy::ort

#include "tensorrt/fields.h"

#include <cmath>
#include <cstring>

#include "tensorrt/log.h"

namespace sn_deploy::tensorrt {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

namespace {

const char* name_of(PluginFieldType type) { return type == PluginFieldType::kFLOAT32 ? "kFLOAT32" : "kINT32"; }

// The index of a field's name, or -1.
std::int32_t find(const PluginField (&known)[kFieldCount], const char* name) {
  for (std::int32_t i = 0; i < kFieldCount; ++i) {
    if (std::strcmp(known[i].name, name) == 0) return i;
  }
  return -1;
}

bool has_one_value(const char* op, const PluginField& field, const PluginField& known) {
  if (field.type != known.type) {
    log_error("%s: field %s has type %d; expected %s (%d)", op, known.name, static_cast<int>(field.type),
              name_of(known.type), static_cast<int>(known.type));
    return false;
  }
  if (field.length != 1) {
    log_error("%s: field %s has %d values; expected 1", op, known.name, field.length);
    return false;
  }
  if (field.data == nullptr) {
    log_error("%s: field %s has no data", op, known.name);
    return false;
  }
  return true;
}

// Copies a value that is known to be of the right type. By bytes: TensorRT promises no alignment.
bool copy_value(const char* op, const PluginField& field, const PluginField& known) {
  if (known.type == PluginFieldType::kINT32) {
    std::int32_t ddof = 0;
    std::memcpy(&ddof, field.data, sizeof ddof);
    if (ddof != 0 && ddof != 1) {
      log_error("%s: field ddof is %d; expected 0 (biased variance) or 1 (unbiased)", op, ddof);
      return false;
    }
  } else {
    float weight = 0.0F;
    std::memcpy(&weight, field.data, sizeof weight);
    if (!std::isfinite(weight)) {
      log_error("%s: field %s is %g; expected a finite number", op, known.name, static_cast<double>(weight));
      return false;
    }
  }
  std::memcpy(const_cast<void*>(known.data), field.data, 4);  // `known` points into parse's own Attributes
  return true;
}

}  // namespace

void describe(const Attributes& attributes, PluginField (&fields)[kFieldCount]) noexcept {
  fields[0] = PluginField("mean_in", &attributes.mean_in, PluginFieldType::kFLOAT32, 1);
  fields[1] = PluginField("mean_ln", &attributes.mean_ln, PluginFieldType::kFLOAT32, 1);
  fields[2] = PluginField("var_in", &attributes.var_in, PluginFieldType::kFLOAT32, 1);
  fields[3] = PluginField("var_ln", &attributes.var_ln, PluginFieldType::kFLOAT32, 1);
  fields[4] = PluginField("ddof", &attributes.ddof, PluginFieldType::kINT32, 1);
}

bool parse(const char* op, const PluginFieldCollection* collection, Attributes* attributes) noexcept {
  if (collection == nullptr || collection->nbFields < 0 ||
      (collection->nbFields > 0 && collection->fields == nullptr)) {
    log_error("%s: no fields were given", op);
    return false;
  }
  Attributes parsed;
  PluginField known[kFieldCount];
  describe(parsed, known);
  bool seen[kFieldCount] = {};
  for (std::int32_t i = 0; i < collection->nbFields; ++i) {
    const PluginField& field = collection->fields[i];
    const std::int32_t index = field.name != nullptr ? find(known, field.name) : -1;
    if (index < 0) {
      log_error("%s: unknown field %s; expected mean_in, mean_ln, var_in, var_ln and ddof", op,
                field.name != nullptr ? field.name : "without a name");
      return false;
    }
    if (seen[index]) {
      log_error("%s: field %s is given twice", op, field.name);
      return false;
    }
    seen[index] = true;
    if (!has_one_value(op, field, known[index]) || !copy_value(op, field, known[index])) return false;
  }
  for (std::int32_t i = 0; i < kFieldCount; ++i) {
    if (!seen[i]) {
      log_error("%s: field %s is missing", op, known[i].name);
      return false;
    }
  }
  *attributes = parsed;
  return true;
}

}  // namespace sn_deploy::tensorrt

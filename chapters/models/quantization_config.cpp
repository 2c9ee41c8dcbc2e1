#include "chapters/models/quantization_config.hpp"

#include "common/files/error.hpp"

namespace kv {
namespace {

void require_block_scales(const Json& quantization) {
  if (!quantization.has("weight_block_size"))
    throw Error(quantization.where() + ": fp8 is supported with weight_block_size only");
  const Json size = quantization.at("weight_block_size");
  if (size.length() != 2 || size.at(index_t{0}).size() != 128 || size.at(index_t{1}).size() != 128)
    throw Error(size.where() + " is not [128, 128], the only blocks that are read here");
}

void require_text(const Json& object, std::string_view key, std::string_view expected) {
  const Json value = object.at(key);
  if (value.text() != expected)
    throw Error(value.where() + " is '" + value.text() + "'; of compressed-tensors, only 8-bit integers with one scale per "
                "output and no zero points are supported (format int-quantized, type int, strategy channel, symmetric)");
}

void refuse_scheme(const Json& value, const std::string& found) {
  throw Error(value.where() + " is " + found + "; of cache schemes, only static scales for 8-bit floats are supported "
              "(num_bits 8, type float, strategy tensor, symmetric, not dynamic)");
}

void require_static_scales(const Json& scheme) {
  const Json bits = scheme.at("num_bits"), symmetric = scheme.at("symmetric"), dynamic = scheme.at("dynamic");
  for (const auto& [key, expected] : {std::pair{"type", "float"}, std::pair{"strategy", "tensor"}})
    if (const Json value = scheme.at(key); value.text() != expected) refuse_scheme(value, "'" + value.text() + "'");
  if (bits.size() != 8) refuse_scheme(bits, std::to_string(bits.size()));
  if (!symmetric.flag()) refuse_scheme(symmetric, "false");
  if (dynamic.flag()) refuse_scheme(dynamic, "true");
}

void require_row_scales(const Json& quantization) {
  if (quantization.has("kv_cache_scheme")) require_static_scales(quantization.at("kv_cache_scheme"));
  if (quantization.has("transform_config") && !quantization.at("transform_config").keys().empty())
    throw Error(quantization.at("transform_config").where() + " is set; transformed weights are not supported");
  const Json groups = quantization.at("config_groups");
  if (groups.keys().empty()) return;  // weights are not rounded
  require_text(quantization, "format", "int-quantized");
  for (const std::string& key : groups.keys()) {
    const Json group = groups.at(key), weights = group.at("weights");
    if (group.has("format")) require_text(group, "format", "int-quantized");
    require_text(weights, "type", "int");
    require_text(weights, "strategy", "channel");
    if (weights.at("num_bits").size() != 8)
      throw Error(weights.at("num_bits").where() + " is " + std::to_string(weights.at("num_bits").size()) + "; only 8 is supported");
    if (!weights.at("symmetric").flag())
      throw Error(weights.at("symmetric").where() + " is false; zero points are not supported");
  }
}

}  // namespace

bool has_cache_scales(const Json& config) {
  return config.has("quantization_config") && config.at("quantization_config").has("kv_cache_scheme");
}

void require_known_quantization(const Json& config) {
  if (!config.has("quantization_config")) return;
  const Json quantization = config.at("quantization_config"), method = quantization.at("quant_method");
  if (method.text() == "fp8") return require_block_scales(quantization);
  if (method.text() == "compressed-tensors") return require_row_scales(quantization);
  throw Error(method.where() + " is '" + method.text() + "'; of quantised checkpoints, fp8 with weight_block_size and "
              "8-bit integers of compressed-tensors are supported");
}

}  // namespace kv

#include "chapters/models/cache_scales.hpp"

#include <cmath>

#include "chapters/models/quantization_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

float scale(const Checkpoint& checkpoint, const std::string& name) {
  const float value = checkpoint.vector(name, 1)(0);
  if (std::isfinite(value) && value > 0.0f) return value;
  throw Error(checkpoint.directory().string() + ": tensor '" + name + "' is " +
              std::to_string(value) + "; a scale is a positive number");
}

}  // namespace

std::optional<CacheScales> cache_scales(const Checkpoint& checkpoint, index_t layer) {
  if (!has_cache_scales(checkpoint.config())) return std::nullopt;
  const std::string attention = "model.layers." + std::to_string(layer) + ".self_attn.";
  return CacheScales{scale(checkpoint, attention + "k_scale"),
                     scale(checkpoint, attention + "v_scale")};
}

}  // namespace kv

#include "chapters/models/rope_config.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "chapters/models/config_field.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr Range factors{1e-3, 1e6};

void require_whole_heads_turn(const Json& object) {
  const char* const key = "partial_rotary_factor";
  if (object.has(key) && object.at(key).number() != 1.0)
    throw Error(object.at(key).where() + " is not 1; this option is not supported");
}

/// What a config says about RoPE: rope_scaling, or else the newer rope_parameters, or nothing.
struct Fields {
  std::optional<Json> object;
  std::string kind = "default";

  explicit Fields(const Json& config) {
    require_whole_heads_turn(config);
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (!object && config.has(key) && !config.at(key).keys().empty()) object = config.at(key);
    if (!object) return;
    require_whole_heads_turn(*object);
    kind = text_field(*object, "rope_type", text_field(*object, "type", "default"));
    for (const std::string& key : object->keys())
      if (object->at(key).is_object())
        throw Error(object->at(key).where() + ": another RoPE for some layers is not supported");
  }
  double number(std::string_view key, Range range, std::optional<double> absent = {}) const {
    return number_field(*object, key, range, absent);
  }
  /// How much longer texts may be than at training.
  double factor() const { return number("factor", factors); }
};

double theta_of(const Json& config, const Fields& fields) {
  constexpr Range range{1.0, 1e30};
  const bool inside = fields.object && fields.object->has("rope_theta");  // wins over the one beside the object
  return inside ? fields.number("rope_theta", range) : number_field(config, "rope_theta", range);
}

/// The length the model was trained at, before it was stretched.
double original_length(const Json& config, const Fields& fields) {
  const char* const key = "original_max_position_embeddings";
  const bool beside = config.has(key);  // wins over the one in the object
  if (beside || fields.object->has(key)) return static_cast<double>(size_field(beside ? config : *fields.object, key));
  return static_cast<double>(size_field(config, "max_position_embeddings"));
}

/// m, a factor of the logarithm of YaRN's magnitudes; 0 where it is not given.
double magnitude_field(const Fields& fields, std::string_view key) { return fields.number(key, {0.0, 1e3}, 0.0); }

/// YaRN's factor on cos and sin. DeepSeek gives two numbers and takes the quotient.
double yarn_table_magnitude(const Fields& fields) {
  if (fields.object->has("attention_factor")) return fields.number("attention_factor", factors);
  const double m = magnitude_field(fields, "mscale"), all = magnitude_field(fields, "mscale_all_dim");
  if (m != 0.0 && all != 0.0) return yarn_magnitude(fields.factor(), m) / yarn_magnitude(fields.factor(), all);
  return yarn_magnitude(fields.factor(), 1.0);
}

std::vector<double> llama3(std::vector<double> frequencies, const Json& config, const Fields& fields) {
  const double low = fields.number("low_freq_factor", factors), high = fields.number("high_freq_factor", factors);
  if (!(low < high)) throw Error(fields.object->where() + ": low_freq_factor must be smaller than high_freq_factor");
  return llama3_frequencies(std::move(frequencies), fields.factor(), low, high, original_length(config, fields));
}

std::vector<double> yarn(std::vector<double> frequencies, double theta, const Json& config, const Fields& fields) {
  if (fields.object->has("truncate") && !fields.object->at("truncate").flag())
    throw Error(fields.object->at("truncate").where() + " is false; a YaRN ramp between fractions of a pair is not supported");
  return yarn_frequencies(std::move(frequencies), theta, fields.factor(), original_length(config, fields),
                          fields.number("beta_fast", factors, 32.0), fields.number("beta_slow", factors, 1.0));
}

}  // namespace

Rope rope_config(const Json& config, index_t width) {
  const Fields fields(config);
  if (width == 0 || width % 2 != 0)
    throw Error(config.where() + ": the rotated part of a head (head_dim, qk_rope_head_dim) is " + std::to_string(width) +
                " wide; RoPE turns pairs, so it must be even and positive");
  const double theta = theta_of(config, fields);
  std::vector<double> frequencies = rope_frequencies(width, theta);
  Rope rope;
  if (fields.kind == "linear") {
    for (double& frequency : frequencies) frequency /= fields.factor();
  } else if (fields.kind == "llama3") {
    frequencies = llama3(std::move(frequencies), config, fields);
  } else if (fields.kind == "yarn") {
    frequencies = yarn(std::move(frequencies), theta, config, fields);
    rope.magnitude = static_cast<float>(yarn_table_magnitude(fields));
  } else if (fields.kind != "default") {
    throw Error(fields.object->where() + ": RoPE scaling '" + fields.kind + "' is not supported (default, linear, llama3, yarn)");
  }
  for (const double frequency : frequencies) {
    if (!std::isfinite(frequency)) throw Error(config.where() + ": the RoPE fields give a frequency that is not finite");
    rope.frequencies.push_back(static_cast<float>(frequency));
  }
  return rope;
}

index_t context_length(const Json& config) {
  const index_t given = size_field(config, "max_position_embeddings");
  const Fields fields(config);
  if (fields.kind != "yarn" && fields.kind != "linear") return given;
  const double reach = std::min(std::floor(fields.factor() * original_length(config, fields)), 0x1p31 - 1);
  return std::max(given, static_cast<index_t>(reach));
}

float softmax_factor(const Json& config) {
  const Fields fields(config);
  if (fields.kind == "default") return 1.0f;
  const double all = magnitude_field(fields, "mscale_all_dim");
  const double m = all == 0.0 ? 1.0 : yarn_magnitude(fields.factor(), all);
  return static_cast<float>(m * m);
}

}  // namespace kv

#include "common/tensor/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/files/error.hpp"

namespace kv {
namespace {

double number_or(const Json& object, std::string_view key, double fallback) {
  return object.has(key) ? object.at(key).number() : fallback;
}

/// The newer spelling keeps the scaling kind and rope_theta together in one object.
bool uses_new_spelling(const Json& config) { return config.has("rope_parameters"); }

std::string scaling_kind(const Json& scaling) {
  if (scaling.has("rope_type")) return scaling.at("rope_type").text();
  return scaling.has("type") ? scaling.at("type").text() : "default";
}

double rope_theta(const Json& config) {
  if (config.has("rope_theta")) return config.at("rope_theta").number();
  if (uses_new_spelling(config)) return config.at("rope_parameters").at("rope_theta").number();
  return 10000.0;  // the default of every family here
}

/// The length the model was trained at, before it was stretched.
double original_length(const Json& config, const Json& scaling) {
  if (scaling.has("original_max_position_embeddings"))
    return scaling.at("original_max_position_embeddings").number();
  return config.at("max_position_embeddings").number();
}

/// YaRN's factor on cos and sin. DeepSeek gives two numbers and takes the quotient.
double yarn_table_magnitude(const Json& scaling) {
  const double factor = scaling.at("factor").number();
  if (scaling.has("attention_factor")) return scaling.at("attention_factor").number();
  if (scaling.has("mscale") && scaling.has("mscale_all_dim"))
    return yarn_magnitude(factor, scaling.at("mscale").number()) /
           yarn_magnitude(factor, scaling.at("mscale_all_dim").number());
  return yarn_magnitude(factor, 1.0);
}

}  // namespace

// [table]
RopeTable Rope::table(std::span<const index_t> positions) const {
  RopeTable table{empty<2>({positions.size(), frequencies.size()}), empty<2>({positions.size(), frequencies.size()})};
  for (index_t n = 0; n < positions.size(); ++n)
    for (index_t i = 0; i < frequencies.size(); ++i) {
      const float angle = static_cast<float>(positions[n]) * frequencies[i];
      table.cos(n, i) = magnitude * static_cast<float>(std::cos(static_cast<double>(angle)));
      table.sin(n, i) = magnitude * static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  return table;
}
// [table]

// [frequencies]
std::vector<double> rope_frequencies(index_t width, double theta) {
  std::vector<double> result;
  for (index_t i = 0; i < width / 2; ++i)
    result.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  return result;
}
// [frequencies]

std::vector<double> llama3_frequencies(std::vector<double> plain, double factor, double low_frequency_factor,
                                       double high_frequency_factor, double original_length) {
  for (double& frequency : plain) {
    const double turns = original_length * frequency / (2.0 * std::numbers::pi);  // within the original length
    const double keep = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
    frequency *= std::lerp(1.0 / factor, 1.0, std::clamp(keep, 0.0, 1.0));
  }
  return plain;
}

std::vector<double> yarn_frequencies(std::vector<double> plain, double theta, double factor, double original_length,
                                     double beta_fast, double beta_slow) {
  const double width = 2.0 * static_cast<double>(plain.size());
  const auto pair_that_turns = [&](double times) {
    return width * std::log(original_length / (times * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
  };
  const double low = std::max(std::floor(pair_that_turns(beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_that_turns(beta_slow)), width - 1.0);
  if (low == high) high += 0.001;  // the published code's guard against dividing by zero
  for (index_t i = 0; i < plain.size(); ++i) {
    const double stretch = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    plain[i] *= std::lerp(1.0, 1.0 / factor, stretch);
  }
  return plain;
}

double yarn_magnitude(double scale, double m) { return scale <= 1.0 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; }

bool has_rope_scaling(const Json& config) { return config.has("rope_scaling") || uses_new_spelling(config); }

Json rope_scaling(const Json& config) {
  return config.at(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
}

Rope read_rope(const Json& config, index_t width) {
  if (width == 0 || width % 2 != 0)
    throw Error(config.where() + ": the rotated part of a head is " + std::to_string(width) +
                " wide; RoPE turns pairs, so it must be even and positive");
  const double theta = rope_theta(config);
  if (!(theta > 1.0) || !std::isfinite(theta))
    throw Error(config.where() + ": rope_theta must be a finite number above 1");
  std::vector<double> frequencies = rope_frequencies(width, theta);
  Rope rope;
  if (has_rope_scaling(config)) {
    const Json scaling = rope_scaling(config);
    const std::string kind = scaling_kind(scaling);
    if (kind == "linear") {
      for (double& frequency : frequencies) frequency /= scaling.at("factor").number();
    } else if (kind == "llama3") {
      frequencies = llama3_frequencies(std::move(frequencies), scaling.at("factor").number(),
                                       scaling.at("low_freq_factor").number(), scaling.at("high_freq_factor").number(),
                                       original_length(config, scaling));
    } else if (kind == "yarn") {
      if (scaling.has("truncate") && !scaling.at("truncate").flag())
        throw Error(scaling.at("truncate").where() + " is false; a YaRN ramp between fractions of a pair is not supported");
      frequencies = yarn_frequencies(std::move(frequencies), theta, scaling.at("factor").number(),
                                     original_length(config, scaling), number_or(scaling, "beta_fast", 32.0),
                                     number_or(scaling, "beta_slow", 1.0));
      rope.magnitude = static_cast<float>(yarn_table_magnitude(scaling));
    } else if (kind != "default") {
      throw Error(scaling.where() + ": RoPE scaling '" + kind + "' is not supported (default, linear, llama3, yarn)");
    }
  }
  for (const double frequency : frequencies) {
    if (!std::isfinite(frequency)) throw Error(config.where() + ": the RoPE fields give a frequency that is not finite");
    rope.frequencies.push_back(static_cast<float>(frequency));
  }
  return rope;
}

// [half_split]
void rotate_half_split(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  const index_t half = x.size() / 2;
  for (index_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}
// [half_split]

void rotate_interleaved(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  for (index_t i = 0; i < x.size() / 2; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace kv

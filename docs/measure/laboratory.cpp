#include "docs/measure/laboratory.hpp"

#include <fstream>
#include <random>

#include "common/text/table.hpp"

namespace kv::book {
namespace {

ModelShape read_shape(const Checkpoint& checkpoint) {
  const ModelSizes sizes = model_sizes(checkpoint.config());
  const HeadSizes heads = head_sizes(attention_tensors(checkpoint, 0));
  return {sizes.layers, sizes.width, heads.query_heads, heads.key_value_heads, heads.key_width,
          sizes.feed_forward_width, sizes.vocabulary};
}

}  // namespace

Laboratory::Laboratory(const std::filesystem::path& model)
    : checkpoint_(model),
      shape_(read_shape(checkpoint_)),
      context_(model_sizes(checkpoint_.config()).context) {}

std::string Laboratory::description() const {
  const auto& [L, M, H, G, D, F, V] = shape_;
  return checkpoint_.directory().filename().string() + ": L " + std::to_string(L) + ", M " + std::to_string(M) + ", H " +
         std::to_string(H) + ", G " + std::to_string(G) + ", D " + std::to_string(D) + ", F " + std::to_string(F) + ", V " +
         grouped(V) + ", weights in " + std::string(name(checkpoint_.entry("model.norm.weight").type)) +
         ", activations and cache in f32";
}

Decoder Laboratory::decoder(std::string_view stage, index_t sequences) const {
  return make_decoder(checkpoint_, find_stage(stage), {.sequences = sequences, .capacity = context_});
}

std::vector<Token> Laboratory::tokens(index_t count) const {
  std::mt19937_64 random(1);
  std::vector<Token> result(count);
  for (Token& token : result) token = static_cast<Token>(random() % shape_.vocabulary);
  return result;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

Flops count_flops(const ModelShape& shape, index_t T, index_t S) {
  const auto& [L, M, H, G, D, F, V] = shape;
  const double pairs = static_cast<double>(T) * static_cast<double>(S - T) + static_cast<double>(T * (T + 1)) / 2;
  return {.projections = static_cast<double>(L * 2 * T * M * (2 * H * D + 2 * G * D)),
          .attention = static_cast<double>(L * 4 * H * D) * pairs,
          .feed_forward = static_cast<double>(L * 6 * T * M * F),
          .head = static_cast<double>(2 * M * V)};
}

}  // namespace kv::book

#include "chapters/models/cache_bytes.hpp"

#include <algorithm>

#include "chapters/models/family.hpp"
#include "chapters/models/config_field.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"

namespace kv {

namespace {

std::string heads_text(index_t heads) { return "(" + std::to_string(heads) + (heads == 1 ? " head)" : " heads)"); }

std::vector<Layout> grouped_layouts(const HeadSizes& sizes) {
  const index_t H = sizes.query_heads, G = sizes.key_value_heads, both = sizes.key_width + sizes.value_width;
  std::vector<Layout> result{{"MHA " + heads_text(H), H * both, G == H}};
  if (G != H && G != 1) result.push_back({"GQA-" + std::to_string(G), G * both, true});
  result.push_back({"MQA (1 head)", both, G == 1});
  return result;
}

/// 8 groups as in published models, or as many as divide the heads.
index_t usual_groups(index_t heads) {
  index_t groups = std::min<index_t>(8, heads - 1);
  while (groups > 1 && heads % groups != 0) --groups;
  return groups;
}

/// What other layouts would cost with the same heads; those need no room for a rotated part beside the plain one.
std::vector<Layout> latent_layouts(const LatentSizes& sizes) {
  const index_t H = sizes.heads, plain = sizes.plain_width + sizes.value_width, G = usual_groups(H);
  std::vector<Layout> result{{"MLA, full K/V " + heads_text(H), H * (sizes.key_width() + sizes.value_width), false},
                             {"MHA " + heads_text(H), H * plain, false}};
  if (G > 1) result.push_back({"GQA-" + std::to_string(G), G * plain, false});
  result.push_back({"MQA (1 head)", plain, false});
  result.push_back({"MLA latent", sizes.row_width(), true});
  return result;
}

}  // namespace

std::vector<Layout> layouts(const Json& config) {
  switch (family(config)) {
    case Family::gqa: return grouped_layouts(grouped_config(config).heads);
    case Family::mla: return latent_layouts(latent_config(config).sizes);
  }
  return {};
}

std::size_t bytes_per_token(const Layout& layout, index_t layers, index_t element_bytes) {
  return product({layout.values_per_layer, layers, element_bytes});
}

}  // namespace kv

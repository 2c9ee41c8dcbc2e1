#include "chapters/studies/rank_cost.hpp"

#include <algorithm>
#include <cmath>

#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"

namespace kv {
namespace {

double real(index_t number) { return static_cast<double>(number); }

/// Numbers of one layer's attention on a model that is not cut.
struct AttentionNumbers {
  double of_heads;    ///< weights that go with heads, the output matrix among them
  double shared;      ///< weights that every head needs
  double mixed;       ///< H W
  double row_split;   ///< cached for a token, and split where heads are
  double row_shared;  ///< cached for a token, needed by every head
  double flop_per_row;
  index_t groups;
};

AttentionNumbers attention_numbers(const Json& config, bool latents) {
  const double M = real(model_sizes(config).width);
  if (family(config) == Family::gqa) {
    const HeadSizes sizes = grouped_config(config).heads;
    const double H = real(sizes.query_heads), G = real(sizes.key_value_heads), D = real(sizes.key_width), W = real(sizes.value_width);
    return {(H * D + G * (D + W) + H * W) * M, 0.0, H * W, G * (D + W), 0.0, 2.0 * H * (D + W), sizes.key_value_heads};
  }
  const LatentSizes sizes = latent_config(config).sizes;
  const double H = real(sizes.heads), D = real(sizes.key_width()), W = real(sizes.value_width), R = real(sizes.rank);
  const double queries_from = sizes.query_rank ? real(*sizes.query_rank) : M;
  const double heads = H * D * queries_from + H * (real(sizes.plain_width) + W) * R + H * W * M;
  const double shared = (sizes.query_rank ? queries_from * M : 0.0) + real(sizes.row_width()) * M;
  if (latents) return {heads, shared, H * W, 0.0, real(sizes.row_width()), 2.0 * H * (real(sizes.row_width()) + R), sizes.heads};
  return {heads, shared, H * W, H * (D + W), 0.0, 2.0 * H * (D + W), sizes.heads};
}

/// One layer's other half.
struct FeedForwardNumbers {
  double dense = 0, expert = 0;  ///< F of what every token goes through, and of one expert
  double gate = 0;               ///< weights
  index_t experts = 0, chosen = 0;
};

FeedForwardNumbers feed_forward_numbers(const Json& config, index_t layer) {
  if (!is_mixture(config, layer)) return {.dense = real(model_sizes(config).feed_forward_width)};
  const MixtureSizes sizes = mixture_sizes(config);
  return {real(sizes.shared_width), real(sizes.expert_width), real(sizes.experts * model_sizes(config).width), sizes.experts, sizes.chosen};
}

/// The largest of p nearly equal parts, as a fraction.
double part(index_t size, index_t p) { return std::ceil(real(size) / real(p)) / real(size); }

/// How much of what goes with heads a rank has: of a group at least one head, and with it the whole row of the group.
struct Shares {
  double heads, rows, tokens;
};

Shares shares(const Json& config, const AttentionNumbers& attention, Cut cut, const RankStep& step) {
  const double tokens = real((step.sequences + step.ranks - 1) / step.ranks);
  if (cut == Cut::experts) return {1.0, 1.0, tokens};
  const index_t heads = family(config) == Family::gqa ? grouped_config(config).heads.query_heads : attention.groups;
  const double rows = part(attention.groups, std::min(step.ranks, attention.groups));
  return {step.ranks <= attention.groups ? rows : part(heads, step.ranks), rows, real(step.sequences)};
}

void add_attention(RankCost& cost, const Json& config, Cut cut, const RankStep& step) {
  const AttentionNumbers attention = attention_numbers(config, step.latents || cut == Cut::sums);
  const Shares share = shares(config, attention, cut, step);
  const double weights = attention.of_heads * share.heads + attention.shared;
  const double cache = share.tokens * real(step.stored) * (attention.row_split * share.rows + attention.row_shared) * step.cache_bytes;
  cost.weights += weights * step.weight_bytes;
  cost.cache += cache;
  cost.read += weights * step.weight_bytes + cache;
  cost.flop += share.tokens * (2.0 * weights + real(step.stored) * attention.flop_per_row * share.heads);
}

void add_feed_forward(RankCost& cost, const FeedForwardNumbers& numbers, double M, Cut cut, const RankStep& step) {
  const double p = real(step.ranks), n = real(step.sequences), E = real(numbers.experts), K = real(numbers.chosen);
  const double dense = 3.0 * M * numbers.dense * (cut == Cut::experts ? 1.0 : 1.0 / p) + numbers.gate;
  const double tokens = cut == Cut::experts ? std::ceil(n / p) : n;
  const double reached = E == 0.0 ? 0.0 : E * (1.0 - std::pow(1.0 - K / E, n));
  const double expert = 3.0 * M * numbers.expert / p;  // of each, or of one in p whole ones
  cost.weights += (dense + expert * E) * step.weight_bytes;
  cost.read += (dense + expert * reached) * step.weight_bytes;
  cost.flop += 2.0 * (tokens * dense + n * K * expert);
}

void add_sent(RankCost& cost, const AttentionNumbers& attention, const FeedForwardNumbers& numbers, double M, Cut cut, const RankStep& step) {
  const double p = real(step.ranks), n = real(step.sequences), others = (p - 1.0) / p, K = real(numbers.chosen);
  if (step.ranks == 1) return;
  if (cut == Cut::outputs) {
    cost.sent += step.sent_bytes * n * others * (attention.mixed + M + numbers.dense + K * numbers.expert + M);
    cost.exchanges += numbers.experts != 0 && numbers.dense != 0.0 ? 5 : 4;
  } else if (cut == Cut::sums) {
    cost.sent += step.sent_bytes * n * 2.0 * others * 2.0 * M;
    cost.exchanges += 4;
  } else if (numbers.experts != 0) {  // rows there and back; lengths before them
    cost.sent += step.sent_bytes * n / p * K * others * (2.0 * M + 1.0);
    cost.exchanges += 4;
  }
}

}  // namespace

RankCost rank_cost(const Json& config, Cut cut, const RankStep& step) {
  const ModelSizes sizes = model_sizes(config);
  const double M = real(sizes.width), V = real(sizes.vocabulary), p = real(step.ranks), n = real(step.sequences);
  const AttentionNumbers attention = attention_numbers(config, step.latents || cut == Cut::sums);
  RankCost cost{};
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    const FeedForwardNumbers numbers = feed_forward_numbers(config, layer);
    add_attention(cost, config, cut, step);
    add_feed_forward(cost, numbers, M, cut, step);
    add_sent(cost, attention, numbers, M, cut, step);
  }
  const bool whole_head = cut == Cut::experts;
  const double head = M * V * (whole_head ? 1.0 : 1.0 / p);
  cost.weights += head * step.weight_bytes;
  cost.read += head * step.weight_bytes;
  cost.flop += 2.0 * head * (whole_head ? std::ceil(n / p) : n);
  if (step.ranks > 1) {
    cost.sent += step.sent_bytes * V * n / p * (whole_head ? 1.0 : p - 1.0);  // logits: to rank 0, or to all
    cost.exchanges += whole_head ? 2 : 1;
  }
  return cost;
}

double step_seconds(const RankCost& cost, const DeviceRates& rates) {
  return std::max(cost.read / rates.memory_bytes_per_s, cost.flop / rates.flop_per_s) + cost.sent / rates.link_bytes_per_s +
         cost.exchanges * rates.seconds_per_exchange;
}

}  // namespace kv

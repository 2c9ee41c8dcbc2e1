#pragma once
/// @file
/// What a model on p ranks costs, counted from config.json: bytes that each rank keeps, reads and sends in a step, operations,
/// and from these a time.
#include "chapters/10_tensor_parallel/rank_model.hpp"
#include "common/files/json.hpp"

namespace kv {

/// One decode step: `sequences` of `stored` tokens get one token each.
struct RankStep {
  index_t ranks, sequences, stored;
  double weight_bytes = 2.0, cache_bytes = 4.0, sent_bytes = 4.0;  ///< of one number
  bool latents = false;  ///< MLA: latents are cached and worked on as they are, whatever the cut; else heads of stage `parallel`
};

/// Of the rank that has most.
struct RankCost {
  double weights;    ///< bytes that it holds
  double cache;      ///< bytes, used
  double read;       ///< bytes of weights and cache that the step reads
  double flop;       ///< of the step
  double sent;       ///< bytes in the step
  double exchanges;  ///< in the step: each one waits for the slowest rank
};

/// Choices of experts are taken to be equally likely and independent: n tokens reach \f$ E\,(1 - (1 - K/E)^n) \f$ of E.
/// The model's norms are left out, and the table of embeddings, of which a step reads a row.
RankCost rank_cost(const Json& config, Cut cut, const RankStep& step);

/// What a device can do.
struct DeviceRates {
  double memory_bytes_per_s, flop_per_s, link_bytes_per_s;
  double seconds_per_exchange;
};

/// \f$ \max(\mathrm{read}/\mathrm{memory},\ \mathrm{flop}/\mathrm{rate}) + \mathrm{sent}/\mathrm{link} + \mathrm{exchanges} \cdot t_0 \f$:
/// reading and computing overlap, sending does not.
double step_seconds(const RankCost& cost, const DeviceRates& rates);

}  // namespace kv

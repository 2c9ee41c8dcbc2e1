#pragma once
/// @file
/// How the numbers of the claims are found: counted from a model's config.json, or measured by running it on held-out text.
#include <filesystem>
#include <string_view>

#include "chapters/studies/changed_feed_forward.hpp"

namespace kv {

using Path = std::filesystem::path;

// ---- counted: config.json alone ----

Json config_of(const Path& model);
/// With null in place of one field's value.
Json config_without(const Path& model, const std::string& field);
/// Numbers for a token in a layer, of the layout whose name begins so.
double layout_values(const Path& model, std::string_view layout);
/// Of `bytes`, in GB.
double gigabytes(std::size_t bytes);
/// Sequences of `context` tokens whose bf16 rows fit beside bf16 weights into so many GB.
double sequences_that_fit(const Path& model, index_t context, double memory_gb);
/// The fewest sequences of `context` tokens whose bf16 rows take this share of themselves and the weights.
double sequences_for_share(const Path& model, index_t context, double share);
/// A decode step's limit in time without a cache, over that with one, at an H200's rates: reading and computing alone.
double counted_speedup_on_gpu(const Path& model, index_t stored);

// ---- equal bits ----

/// Logits of 32 tokens, fed one by one after a prompt of 32, that differ in any bit from those of `uncached`.
double differences_step_by_step(const Path& model, std::string_view stage);
/// The same, of three sequences of other lengths that step together, from those that step alone.
double differences_in_batch(const Path& model);
/// The same, of a sequence that begins where another was forgotten, from a new one.
double differences_after_reset(const Path& model);

// ---- loss ----

/// Nats per token on held-out text that a stage loses against the same rows in f32, all kept.  @param budget 0: its own
double added_loss(const Path& model, std::string_view stage, index_t budget = 0);
/// The same for other feed-forward halves.
double added_loss(const Path& model, const MakeFeedForward& make_feed_forward);
/// Of a token's hidden numbers, the share that is below a hundredth of the largest one; mean over tokens and layers.
double share_of_small_activations(const Path& model);

// ---- time, in turns ----

/// A decode step after `stored` tokens over one of another stage, or at another length.
double step_ratio(const Path& model, std::string_view stage, index_t stored, std::string_view other, index_t other_stored);
/// Milliseconds of a decode step after 512 tokens.
double step_milliseconds(const Path& model);
/// Tokens fed one by one, without a cache over with one.
double text_ratio(const Path& model, index_t tokens);
/// One pass over known tokens, as in training, with a cache over without.
double known_text_ratio(const Path& model);
/// New tokens per second of eight sequences together over those of one.
double throughput_ratio(const Path& model);

/// What ten turns of 64 tokens feed until each turn's first new token.
double tokens_fed(const Path& model, std::string_view stage);
/// Its time, without a cache over with one.
double turns_ratio(const Path& model);

// ---- what is kept ----

/// Bytes after so many tokens, of one sequence with room for 1,024.
StateBytes bytes_after(const Path& model, std::string_view stage, index_t tokens);
/// What stage concat copies while 256 tokens are fed one by one, all that is kept at each step, over what it keeps at the end.
double bytes_copied_ratio(const Path& model);
/// What fastgen holds after a passage over what the full cache holds, with so many rows for a head.
double fastgen_bytes(const Path& model, index_t budget);
/// Prompt tokens that were found in pages, over those that a cache which forgets nothing could find.
double hit_rate_of_ideal(const Path& model);
/// Needles of five that a stage finds in 256 tokens.
double needles_found(const Path& model, std::string_view stage);

// ---- experts ----

/// Different experts that 8 tokens read over those that one reads.
double experts_read_ratio(const Path& model);
/// Load of the expert of each layer whose absence costs most, 1 an even share; mean over the layers.
double load_of_costliest_experts(const Path& model);
/// Largest violation after 300 steps of a router alone, with the bias rule or without.
double final_violation(bool with_bias);

}  // namespace kv

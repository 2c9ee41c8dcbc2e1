#pragma once
/// @file
/// Every measurement of the book, one file each. To add one: write `measure_<what>.cpp`, declare it here, and call it in
/// main.cpp. README.md says how.
#include "docs/measure/laboratory.hpp"
#include "docs/measure/report.hpp"

namespace kv::book {

/// Time of one new token over the tokens before it: cost_curve.svg, cost_curve_cached.svg, cost_curve.md.
void measure_cost_curve(const Laboratory& laboratory, Report& report);
/// Calls to the allocator while a text is written: allocations.md. What the allocator holds then: fragmentation.md.
void measure_allocations(const Laboratory& laboratory, Report& report);
/// Bytes kept over tokens stored: state_bytes.svg.
void measure_state_bytes(const Laboratory& laboratory, Report& report);
/// Attention on a view against attention on a copied slice: slices.md.
void measure_slices(const Laboratory& laboratory, Report& report);
/// FLOPs and time of each part of a step: parts_flops.md, parts_time.md.
void measure_parts(const Laboratory& laboratory, Report& report);
/// Tokens per second of prefill and of decode: phases.md.
void measure_phases(const Laboratory& laboratory, Report& report);
/// The forms of latent attention: latent_layouts.md, latent_costs.md, latent_bytes.svg, decoupling.md, latent_decode.md,
/// latent_decode.svg, latent_prefill.md.
void measure_latent(const Laboratory& laboratory, Report& report);
/// Mixtures of experts, on tiny-mla: expert_*.md, expert_*.svg.
void measure_experts(const Laboratory& laboratory, Report& report);
/// Loss and size with linear weights in bf16 and in 8-bit integers: int8_perplexity.md.
void measure_int8(const Laboratory& laboratory, Report& report);
/// What rows in fewer bytes cost in loss, logits, texts and needles: format_*.md, format_*.svg.
void measure_formats(const Laboratory& laboratory, Report& report);
/// Tokens that go to other experts when rows are rounded: format_experts.md.
void measure_format_experts(const Laboratory& laboratory, Report& report);
/// Attention over rows in every format: format_speed.md.
void measure_format_speed(const Laboratory& laboratory, Report& report);
/// Whose numbers lose how much in them: rounding_errors.md, rounding_channels.svg.
void measure_rounding(const Laboratory& laboratory, Report& report);
/// Loss over position, bytes and rate of a long text with a full cache, a window, sinks and a window, and of a ring on a model
/// that was made with windows: streaming.md, streaming_rate.md, streaming_gqa.svg, streaming_mla.svg.
void measure_streaming(const Laboratory& laboratory, Report& report);
/// Loss over the budget of every way to forget: forgetting_loss_gqa.md, .svg, forgetting_loss_mla.md, .svg.
void measure_forgetting_loss(const Laboratory& laboratory, Report& report);
/// Needles found over the budget: forgetting_needle.md, .svg, forgetting_needle_mla.md, .svg.
void measure_forgetting_needles(const Laboratory& laboratory, Report& report);
/// Which rows are left of a story, and what FastGen gives each head: forgetting_map.svg, forgetting_heads.md, forgetting_latents.md.
void measure_forgetting_rows(const Laboratory& laboratory, Report& report);
/// Time of a token with each of them beside a full cache: forgetting_speed.md.
void measure_forgetting_speed(const Laboratory& laboratory, Report& report);
/// Models on ranks: what they send, how far sums by ranks are off, DeepSeek-V3 on eight devices, counted: ranks_sent.md,
/// ranks_spread.md, ranks_devices.md.
void measure_ranks(const Laboratory& laboratory, Report& report);
/// The count beside runs on 1 and 2 ranks of this machine: ranks_local.md.
void measure_ranks_local(const Laboratory& laboratory, Report& report);
/// Memory of two ranks that are processes beside that of one: ranks_memory.md. Wants kvbook-mpi beside kvbook-measure.
void measure_ranks_memory(const Laboratory& laboratory, Report& report);

}  // namespace kv::book

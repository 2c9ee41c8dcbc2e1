#include "chapters/program/claims.hpp"

#include <cmath>
#include <cstdio>

#include "chapters/04_latent_cache/cost.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/program/claim_numbers.hpp"
#include "chapters/studies/decoupling.hpp"
#include "chapters/studies/memory_budget.hpp"
#include "chapters/studies/rank_cost.hpp"

namespace kv {
namespace {

using enum Verdict;

constexpr const char *gqa = "tiny-gqa", *mla = "tiny-mla", *needle = "needle", *llama = "configs/llama-3-8b",
                     *qwen = "configs/qwen3-30b-a3b", *lite = "configs/deepseek-v2-lite", *v2 = "configs/deepseek-v2",
                     *v3 = "configs/deepseek-v3";

double real(std::size_t number) { return static_cast<double>(number); }

/// How a step's time grows with the tokens before it, as a power of them.
double growth(const Path& model, std::string_view stage) {
  return std::log(step_ratio(model, stage, 800, stage, 200)) / std::log(4.0);
}

/// What rank 0 of 8 keeps, over what one rank keeps.
double part_of_rank(const Path& model, double RankCost::*what, bool latents) {
  const auto kept = [&](index_t ranks) {
    return rank_cost(config_of(model), Cut::outputs, {.ranks = ranks, .sequences = 1, .stored = 1024, .latents = latents}).*what;
  };
  return kept(8) / kept(1);
}

/// A prompt that is read at once: its n tokens are n sequences of n/2 tokens each, and nothing cached is read.
RankCost step_cost(const Path& model, index_t sequences, index_t stored, double cache_bytes) {
  return rank_cost(config_of(model), Cut::outputs, {.ranks = 1, .sequences = sequences, .stored = stored, .cache_bytes = cache_bytes});
}

double intensity(const RankCost& cost) { return cost.flop / cost.read; }

LatentSizes latents_of(const Path& model) { return latent_config(config_of(model)).sizes; }

double combinations(index_t n, index_t k) {
  double ways = 1.0;
  for (index_t i = 1; i <= k; ++i) ways *= real(n - k + i) / real(i);
  return ways;
}

/// Of every token's hidden numbers, a part by magnitude.
double loss_without(const Path& model, double first, double last) {
  return added_loss(model, with_change({.inputs = {}, .hidden = [=](std::span<float> row) { zero_by_magnitude(row, first, last); }}));
}

double feed_forward_percent(const Path& model) {
  return 100.0 * real(feed_forward_cost(config_of(model)).parameters) / real(parameters(config_of(model)));
}

/// What room for a model's whole context takes more than 1,024 tokens, in bf16.
double idle_capacity_gb(const Path& model) {
  const Json config = config_of(model);
  return gigabytes(cache_bytes(config, "bf16", {1, model_sizes(config).context}) - cache_bytes(config, "bf16", {1, 1024}));
}

double bf16_row_bytes(const Json& config) { return cache_bytes_per_token(config, "bf16"); }

double bytes_ratio(const Path& model, std::string_view stage, std::string_view other) {
  return cache_bytes_per_token(config_of(model), stage) / cache_bytes_per_token(config_of(model), other);
}

const std::vector<Source> sources{
    {"DeepSeek-V3's KV cache: how efficiency in dialogues of many turns made a leap",
     "DeepSeek-V3 KV缓存技术:如何实现多轮对话推理效率的突破性提升"},
    {"Understanding and Coding the KV Cache in LLMs from Scratch", "从零开始深度理解与实现大型语言模型中的KV缓存技术"},
    {"KV cache, what makes inference of large models fast", "KV Cache大模型推理加速功能"},
    {"The KV cache, needed for inference of large models, in one article", "一文读懂大模型推理必备技术:KV Cache"}};

const std::vector<Claim> table{
    // ---- DeepSeek-V3's KV cache ----
    {0, "Without a cache every turn of a conversation computes the whole history again.", holds,
     "the tokens of all earlier turns are fed once more in each turn.", "ch01-measured",
     {{"tokens fed in ten turns, without over with", gqa, 5.5, 5.5,
       [](auto& m) { return tokens_fed(m, "uncached") / tokens_fed(m, "preallocated"); }}}},
    {0, "The cache takes the cost from quadratic to linear.", holds_if,
     "one step and its attention alone are meant. The other parts of a step go from linear to constant, and at short contexts they are "
     "most of it.", "ch01-cost",
     {{"growth of a step's time without a cache, as a power", gqa, 0.8, 1.8, [](auto& m) { return growth(m, "uncached"); }, true},
      {"the same with one", gqa, -0.2, 0.8, [](auto& m) { return growth(m, "preallocated"); }, true}}},
    {0, "Keys and values are stored at the prompt; then only the new token is computed, and its rows are joined to the others.", holds,
     "the answer is the same in every bit.", "ch02-idea",
     {{"logits that differ from those without a cache", gqa, 0, 0, [](auto& m) { return differences_step_by_step(m, "concat"); }}}},
    {0, "A configurable greatest length manages the memory.", holds,
     "what is allocated follows from it to the byte, and a longer text is refused.", "ch03-cost",
     {{"bytes allocated over bytes counted", gqa, 1, 1,
       [](auto& m) {
         return real(bytes_after(m, "preallocated", 8).allocated) / real(cache_bytes(config_of(m), "preallocated", {1, 1024}));
       }}}},
    {0, "The KV cache raises results in benchmarks (the article's first figure).", does_not_hold,
     "a cache that is right changes no answer. The figure compares models.", "identity-why",
     {{"logits that differ from those without a cache", gqa, 0, 0, [](auto& m) { return differences_step_by_step(m, "preallocated"); }}}},
    {0, "The naive form of latent attention is the most precise one.", does_not_hold,
     "naive and absorbed are the same function with its sums in another order, and both lie about as far from the exact "
     "result.", "ch04-delta",
     {{"loss that absorption adds, nats", mla, -1e-6, 1e-6, [](auto& m) { return -added_loss(m, "preallocated"); }}}},
    {0, "The absorbed form keeps one kv_cache and one pe_cache for all heads, and so takes less memory.", holds,
     "one latent and one rotated part instead of keys and values of 128 heads.", "ch04-idea",
     {{"numbers of a token in full over those of its latent", v3, 71, 71.2,
       [](auto& m) { return layout_values(m, "MLA, full") / layout_values(m, "MLA latent"); }}}},
    {0, "The absorbed form keeps the speed.", holds_if,
     "many tokens are stored. After few of them the shipped model gains nothing, and layers of DeepSeek's sizes are slower, as the "
     "chapter's table shows.", "ch04-measured",
     {{"time of a step, naive over absorbed, after 1,500 tokens", mla, 0.9, 8,
       [](auto& m) { return step_ratio(m, "preallocated", 1500, "absorbed", 1500); }, true},
      {"the same after 16", mla, 0.8, 1.3, [](auto& m) { return step_ratio(m, "preallocated", 16, "absorbed", 16); }, true}}},
    {0, "Precise indices keep the sequences of a batch apart.", holds,
     "three sequences that step together get the bits that each gets alone.", "identity-rule",
     {{"logits that differ from those of each sequence alone", gqa, 0, 0, differences_in_batch}}},
    {0, "In conversations of many turns latency falls by 60% on average.", holds_if,
     "there are enough turns. A mean over nothing said is no number: the saving grows with the history and nears all of "
     "it.", "ch09-measured",
     {{"time to first token saved in ten turns, %", gqa, 50, 99,
       [](auto& m) { return 100.0 * (1.0 - 1.0 / turns_ratio(m)); }, true}}},
    {0, "GPU utilisation rises by about 35%.", not_tested,
     "the article names no model, load, GPU or definition of utilisation. A cache removes work of the kind that keeps a GPU's units busy, "
     "so their use may as well fall.", "ch06-cost"},
    {0, "The cache lets the same hardware hold a longer history.", does_not_hold,
     "without a cache a history takes no memory at all. The cache buys time with it.", "ch02-cost",
     {{"bytes that remember 256 tokens, without a cache", gqa, 0, 0, [](auto& m) { return real(bytes_after(m, "uncached", 256).used); }}}},
    {0, "A needle test at 128K tokens proves the cache (the article's second figure).", does_not_hold,
     "the same needles are found without one. The test says what a model can look back on.", "ch07-needle",
     {{"needles of five found with the cache", needle, 5, 5, [](auto& m) { return needles_found(m, "preallocated"); }},
      {"first tokens of these answers found without", needle, 5, 5, [](auto& m) { return needles_found(m, "uncached"); }}}},
    {0, "The greatest length should be 4,096 for short conversations, 8,192 for middling ones and 16,384 for long ones.", holds_if,
     "memory allows no more. For this model's latents even the longest of the three is little.", "commands-budget",
     {{"GB for 16,384 tokens, latents in bf16", v3, 1.15, 1.16,
       [](auto& m) { return gigabytes(cache_bytes(config_of(m), "bf16", {1, 16384})); }}}},
    {0, "With 16 GB of GPU memory a batch may be 1 to 2, with 24 GB 2 to 4, and larger from 40 GB on.", does_not_hold,
     "the smallest model of the family leaves no room for a cache in 24 GB, and in 40 GB room for dozens.", "commands-budget",
     {{"sequences of 4,096 tokens in 24 GB", lite, 0, 0, [](auto& m) { return sequences_that_fit(m, 4096, 24); }},
      {"sequences of 4,096 tokens in 40 GB", lite, 60, 70, [](auto& m) { return sequences_that_fit(m, 4096, 40); }}}},
    {0, "The 16B model runs smoothly in 8 GB.", does_not_hold,
     "its weights alone are four times that, and in 4 bits a number they would fill it.", "commands-budget",
     {{"weights in bf16, GB", lite, 31.4, 31.5, [](auto& m) { return gigabytes(2 * parameters(config_of(m))); }}}},
    {0, "The 236B model needs 40 GB or more.", does_not_hold,
     "it needs more than ten times that for its weights.", "commands-budget",
     {{"weights in bf16, GB", v2, 471, 472, [](auto& m) { return gigabytes(2 * parameters(config_of(m))); }}}},
    {0, "FP8 halves the KV cache almost without loss.", holds_if,
     "43% may be called half: scales and the rotated part stay. DeepSeek's own option is another one, for weights and activations, and "
     "saves nothing of the cache.", "ch08-measured",
     {{"bytes of fp8 rows, % of bf16 rows", v3, 56, 58, [](auto& m) { return 100.0 * bytes_ratio(m, "fp8", "bf16"); }},
      {"loss that fp8 rows add, nats", mla, -0.001, 0.001, [](auto& m) { return added_loss(m, "fp8"); }},
      {"loss that fp8 activations of feed-forward halves add, nats", gqa, -0.001, 0.001,
       [](auto& m) { return added_loss(m, with_change({.inputs = round_to_fp8, .hidden = round_to_fp8})); }}}},
    {0, "YaRN lets a limited cache hold longer sequences.", does_not_hold,
     "it changes angles and not one byte.", "ch04-yarn",
     {{"bytes of the cache, with over without YaRN", v3, 1, 1,
       [](auto& m) { return bf16_row_bytes(config_of(m)) / bf16_row_bytes(config_without(m, "rope_scaling")); }}}},
    {0, "Parallel linear layers split the cache evenly over GPUs.", holds_if,
     "it keeps heads. A latent belongs to all heads, and every GPU keeps all of it.", "ch10-cache",
     {{"cache on one of 8 ranks, of the whole, heads", llama, 0.125, 0.125,
       [](auto& m) { return part_of_rank(m, &RankCost::cache, false); }},
      {"the same, latents", v3, 1, 1, [](auto& m) { return part_of_rank(m, &RankCost::cache, true); }}}},
    {0, "Hit rate, latency and memory should be watched.", holds,
     "the server reports all three, and `kvbook traffic` too.", "ch09-server-metrics",
     {{"hit rate over that of a cache which forgets nothing", gqa, 0.85, 0.87, hit_rate_of_ideal}}},
    {0, "When a conversation outgrows the greatest length, the least recently used rows are cleared away automatically.", does_not_hold,
     "DeepSeek's demo refuses a longer prompt and stops generating. Giving up rows by their use is possible, and changes the "
     "answers.", "ch07-policies",
     {{"loss that stage lru adds with 64 rows, nats", gqa, 0.3, 0.4, [](auto& m) { return added_loss(m, "lru", 64); }}}},
    // ---- Understanding and Coding the KV Cache in LLMs from Scratch ----
    {1, "A cache needs two buffers, a counter of positions, and a reset before a new text.", holds,
     "after the reset a sequence begins as in a new cache.", "ch02-delta",
     {{"logits after a reset that differ from a new cache's", gqa, 0, 0, differences_after_reset}}},
    {1, "Its memory grows with the sequence.", holds,
     "by the same bytes for every token.", "ch02-cost",
     {{"bytes after 256 tokens over bytes after 128", gqa, 2, 2,
       [](auto& m) { return real(bytes_after(m, "concat", 256).used) / real(bytes_after(m, "concat", 128).used); }}}},
    {1, "Truncation or a sliding window keeps it small.", holds_if,
     "the model was made with a window. Put on afterwards, it costs loss.", "ch07-idea",
     {{"loss that a window of 128 rows adds, nats", gqa, 0.2, 0.27, [](auto& m) { return added_loss(m, "streaming", 128); }}}},
    {1, "Concatenation fragments memory and is slow.", holds_if,
     "the text is long: every step copies all rows, and leaves holes one row too short for the next. It takes long to hurt.",
     "ch02-fragmentation",
     {{"bytes copied for 256 tokens one by one, over those kept at the end", gqa, 127, 128, bytes_copied_ratio},
      {"time of a step after 800 tokens, concat over preallocated", gqa, 0.95, 20,
       [](auto& m) { return step_ratio(m, "concat", 800, "preallocated", 800); }, true}}},
    {1, "Preallocation manages memory more efficiently.", does_not_hold,
     "it saves copies and takes memory: the whole capacity from the first token on.", "ch03-cost",
     {{"bytes allocated for 128 tokens, preallocated over concat", gqa, 8, 8,
       [](auto& m) { return real(bytes_after(m, "preallocated", 128).allocated) / real(bytes_after(m, "concat", 128).allocated); }}}},
    {1, "Even on a plain CPU the cache is several times faster.", holds,
     "the more so, the longer the text.", "ch01-measured",
     {{"time of 128 tokens one by one, without over with", gqa, 3, 200, [](auto& m) { return text_ratio(m, 128); }, true}}},
    {1, "The cache cannot be used in training.", holds,
     "there is nothing to reuse. A text that is known is computed in one pass, every key and value once, and the weights change before the "
     "next.", "ch02-phases",
     {{"time of one pass over a known text, with over without", gqa, 0.6, 1.6, known_text_ratio, true}}},
    {1, "Qwen3 and Llama 3 take gigabytes more without preallocation.", does_not_hold,
     "it is the other way: room for the whole context is there before the text is.", "ch03-cost",
     {{"GB that Llama 3's room for the whole context takes beyond 1,024 tokens", llama, 0.9, 1, idle_capacity_gb},
      {"the same of Qwen3", qwen, 3.8, 4, idle_capacity_gb}}},
    {1, "On a GPU small models and short texts gain little.", not_tested,
     "the stage without a cache on a GPU, cuda-uncached, has not run on one. By count it holds: both steps read the same weights, and to compute a short text anew "
     "takes no longer than that. Transfers, which the article names, are no part of it.", "ch06b-measured",
     {{"least time of a step after 128 tokens, without over with", gqa, 0.9, 1.1, [](auto& m) { return counted_speedup_on_gpu(m, 128); }},
      {"the same after 8,192", llama, 47, 48, [](auto& m) { return counted_speedup_on_gpu(m, 8192); }}}},
    // ---- KV cache, what makes inference of large models fast ----
    {2, "The KV cache is over 30% of the memory in inference.", holds_if,
     "there are enough sequences, or long ones.", "commands-budget",
     {{"sequences of 8,192 tokens from which the cache is 30%", llama, 7, 7, [](auto& m) { return sequences_for_share(m, 8192, 0.3); }}}},
    {2, "Paged attention makes use of fragments and does not shrink the cache.", holds,
     "a row in a page is the row that it was. Prefixes that sequences share are stored once.", "ch09-cost",
     {{"bytes of 128 tokens, in pages over in place", gqa, 1, 1,
       [](auto& m) { return real(bytes_after(m, "paged", 128).used) / real(bytes_after(m, "preallocated", 128).used); }}}},
    {2, "A row of attention needs its own query only; keys and values of earlier steps are used again.", holds,
     "no query is kept, and nothing is missing.", "ch02-idea",
     {{"logits that differ from those of all queries together", gqa, 0, 0,
       [](auto& m) { return differences_step_by_step(m, "preallocated"); }}}},
    {2, "Feed-forward layers hold about two thirds of a model's parameters.", holds_if,
     "it is dense. Of a mixture they are nearly all.", "ch05-idea",
     {{"share of Llama 3 8B's parameters, %", llama, 70, 71, feed_forward_percent},
      {"share of DeepSeek-V3's, %", v3, 97, 99, feed_forward_percent}}},
    {2, "Activations of feed-forward layers are sparse: for some inputs only part of the parameters matters.", holds,
     "the largest tenth of a token's hidden numbers does nearly all the work. But hardly one is zero, and which are large is known only "
     "when they are computed.", "ch01-swiglu",
     {{"numbers below a hundredth of their token's largest, %", gqa, 43, 44, [](auto& m) { return 100.0 * share_of_small_activations(m); }},
      {"loss without all but the largest tenth, nats", gqa, -0.001, 0.001, [](auto& m) { return loss_without(m, 0.1, 1.0); }},
      {"the same, experts too", mla, 0.0095, 0.011, [](auto& m) { return loss_without(m, 0.1, 1.0); }},
      {"loss without the largest tenth, nats", gqa, 2.5, 3, [](auto& m) { return loss_without(m, 0.0, 0.1); }}}},
    {2, "A mixture of experts grows without becoming slower.", holds_if,
     "one token is computed at a time. Tokens of a batch ask for different experts, and all that are asked must be read.", "ch05-cost",
     {{"experts that eight tokens read, over those of one", mla, 3.5, 3.6, experts_read_ratio}}},
    {2, "The gate must balance the load.", holds,
     "left to itself the busiest expert gets several times its share.", "ch05-balance",
     {{"largest violation without the bias rule", gqa, 5.1, 5.3, [](auto&) { return final_violation(false); }},
      {"with it", gqa, 0.3, 0.4, [](auto&) { return final_violation(true); }}}},
    {2, "MLA caches d_c + d_R numbers for a token and layer where attention of n heads caches 2 n d.", holds,
     "by count.", "ch04-formula",
     {{"numbers of all heads over those of the latent", v2, 56.8, 57,
       [](auto& m) { return layout_values(m, "MHA") / layout_values(m, "MLA latent"); }}}},
    {2, "In inference keys and values are then computed back from the latents.", does_not_hold,
     "who decodes moves the up-projection to the query and the output instead.", "ch04-decompressed",
     {{"FLOP of a step at 1,024 tokens, decompressed over absorbed", v3, 107, 109,
       [](auto& m) { return decompressed_cost(latents_of(m), 1, 1024).flop() / absorbed_cost(latents_of(m), 1, 1024).flop(); }},
      {"time of a step after 1,500 tokens, the same", mla, 1.5, 100,
       [](auto& m) { return step_ratio(m, "decompressed", 1500, "absorbed", 1500); }, true}}},
    {2, "Compressing queries saves activations in training and nothing of the cache.", holds,
     "in inference it saves weights.", "ch04-cost",
     {{"bytes of the cache, with over without", v3, 1, 1,
       [](auto& m) { return bf16_row_bytes(config_of(m)) / bf16_row_bytes(config_without(m, "q_lora_rank")); }},
      {"numbers of a token's queries over those they are computed from", v3, 16, 16,
       [](auto& m) { return real(latents_of(m).heads * latents_of(m).key_width()) / real(latents_of(m).query_rank.value()); }},
      {"weights saved, billions", v3, 7.7, 7.8,
       [](auto& m) { return gigabytes(parameters(config_without(m, "q_lora_rank")) - parameters(config_of(m))); }}}},
    {2, "RoPE is decoupled because compression loses positions.", does_not_hold,
     "an expanded latent can be turned. What cannot be done is to absorb one rotation for all distances.", "ch04-decoupled",
     {{"error of scores at distance 8, absorbed for distance 8", mla, 0, 1e-4, [](auto&) { return decoupling_errors(8).at_distance_8; }},
      {"error at distance 64", mla, 1, 1.1, [](auto&) { return decoupling_errors(64).at_distance_8; }}}},
    {2, "MLA is better than GQA and MQA because it keeps more of the information.", not_tested,
     "it takes models of one size, trained alike, and the shipped ones are not. The book makes no claim about it.", "ch04-idea"},
    {2, "Fine-grained and shared experts cure hybridity and redundancy of knowledge.", not_tested,
     "it takes a second mixture, trained alike without them. What can be counted is how many combinations there are.", "ch05-fine",
     {{"ways to choose 8 of 32 over 2 of 8, thousands", mla, 375.6, 375.7,
       [](auto&) { return combinations(32, 8) / combinations(8, 2) / 1e3; }}}},
    {2, "In Mixtral expert 3 does the work and the others watch, so its load is badly balanced.", does_not_hold,
     "the conclusion does not: an expert that is missed most need not be asked most. Mixtral itself was not run.", "ch05-ablation",
     {{"load of the experts that are missed most, 1 an even share", mla, 1, 1.1, load_of_costliest_experts}}},
    {2, "With only four routed experts active DeepSeekMoE is as good as GShard.", not_tested,
     "it takes a GShard of the same size. Measured is what the shipped mixture, made for four, loses with fewer.", "ch05-fine",
     {{"loss with two instead of four experts, nats", mla, 0.001, 0.005, [](auto& m) { return added_loss(m, with_chosen_experts(2)); }},
      {"loss with one, nats", mla, 0.09, 0.12, [](auto& m) { return added_loss(m, with_chosen_experts(1)); }},
      {"loss with four, nats", mla, 0, 0, [](auto& m) { return added_loss(m, with_chosen_experts(4)); }}}},
    // ---- The KV cache, needed for inference of large models ----
    {3, "Throughput and latency are the two measures.", holds,
     "they pull apart: a batch gives more tokens in a second, and each of them later.", "ch09-measured",
     {{"tokens per second of eight sequences over those of one", gqa, 1.1, 8, throughput_ratio, true}}},
    {3, "Below 50 ms a token, users are content.", not_tested,
     "it is a statement about people. The shipped models are far below it.", "ch01-phases",
     {{"decode step after 512 tokens, ms", gqa, 0, 50, step_milliseconds, true}}},
    {3, "Prefill is bound by computing, decoding by memory.", holds_if,
     "few tokens are decoded together. Absorbed attention of 128 heads computes enough on each byte to be bound by either.", "ch06-cost",
     {{"FLOP per byte, prompt of 512 tokens", llama, 400, 600, [](auto& m) { return intensity(step_cost(m, 512, 256, 0.0)); }},
      {"FLOP per byte, a step after 8,192 tokens", llama, 0.9, 1.5, [](auto& m) { return intensity(step_cost(m, 1, 8192, 2.0)); }},
      {"FLOP per byte of latents, absorbed attention", v3, 240, 244,
       [](auto& m) { return absorbed_cost(latents_of(m), 1, 1024).intensity(2); }}}},
    {3, "Decoding stores more data and so needs a GPU with larger memory.", does_not_hold,
     "a step adds one row and reads everything: it needs bandwidth. How much must be held is the same in both phases.", "ch03-phases",
     {{"bytes that a step after 8,192 tokens reads, over those it adds, thousands", llama, 120, 130,
       [](auto& m) { return step_cost(m, 1, 8192, 2.0).read / bf16_row_bytes(config_of(m)) / 1e3; }}}},
    {3, "The cache can be several times as large as the model.", holds_if,
     "there are enough sequences of full length.", "commands-budget",
     {{"sequences of the whole context whose latents are twice the weights", lite, 13, 13,
       [](auto& m) { return sequences_for_share(m, model_sizes(config_of(m)).context, 2.0 / 3.0); }}}},
    {3, "Quantising weights and cache and splitting the model over GPUs make it fit.", holds,
     "each divides the part that it touches.", "ch08-measured",
     {{"bytes of int4 rows over bf16 rows", llama, 0.28, 0.33, [](auto& m) { return bytes_ratio(m, "int4", "bf16"); }},
      {"loss that int4 rows add, nats", gqa, -0.001, 0.001, [](auto& m) { return added_loss(m, "int4"); }},
      {"weights on one of 8 ranks, of all", llama, 0.125, 0.126, [](auto& m) { return part_of_rank(m, &RankCost::weights, false); }}}},
    {3, "FastGen compresses the cache adaptively and keeps the quality.", holds_if,
     "heads look near or at few tokens, and the text is long against the budget. On the shipped model it keeps the quality, and the bytes "
     "too.", "ch07-use-loss",
     {{"loss that fastgen adds with 64 rows, nats", gqa, -0.001, 0.001, [](auto& m) { return added_loss(m, "fastgen", 64); }},
      {"bytes held, of the full cache", gqa, 1.06, 1.08, [](auto& m) { return fastgen_bytes(m, 64); }}}},
};

}  // namespace

const std::vector<Claim>& claims() { return table; }
const std::vector<Source>& claim_sources() { return sources; }

std::string_view verdict_name(Verdict verdict) {
  constexpr const char* names[]{"holds", "holds if", "does not hold", "not tested because"};
  return names[static_cast<index_t>(verdict)];
}

std::string reason(const Claim& claim) {
  const bool goes_on = claim.verdict == holds_if || claim.verdict == not_tested;
  return (goes_on ? " " : ": ") + std::string(claim.why);
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string interval_text(const ClaimNumber& number) {
  if (number.least == number.most) return "exactly " + number_text(number.least);
  return number_text(number.least) + " to " + number_text(number.most);
}

/// "ch07-use" is in "chapter 7", "commands-budget" in "command line".
namespace {
std::string page_title(std::string_view place) {
  const std::string page(place.substr(0, place.find('-')));
  if (page.starts_with("ch")) return "chapter " + page.substr(page[2] == '0' ? 3 : 2);
  return page == "commands" ? "command line" : page == "identity" ? "equal bit for bit" : page;
}
}  // namespace

std::string markdown_row(index_t number, const std::vector<std::string>& found) {
  const Claim& claim = claims().at(number - 1);
  std::string text = "| " + std::to_string(number) + " | " + std::string(claim.says) + " | **" +
                     std::string(verdict_name(claim.verdict)) + "**" + reason(claim) + " @ref " + std::string(claim.place) + " \"" +
                     page_title(claim.place) + "\" | ";
  for (index_t i = 0; i < claim.numbers.size(); ++i) {
    const ClaimNumber& each = claim.numbers[i];
    text += (i == 0 ? "" : "<br>") + std::string(each.what) + ": **" + found.at(i) + "** (" + interval_text(each) + ")";
  }
  return text + " |\n";
}

}  // namespace kv

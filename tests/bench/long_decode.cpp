/// @file
/// long_decode MODEL FOLDER COMMIT NAME: decode steps behind 131,072 tokens, beside what the machine can do at most. Writes
/// NAME.md and NAME.json.
///
/// To read so long a prompt takes hours; a step does not ask what the rows hold. So the caches are filled with random rows.
#include <atomic>
#include <iostream>
#include <random>

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/decoders.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/files/error.hpp"
#include "common/model/metrics.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"
#include "docs/measure/report.hpp"
#include "tests/bench/limits.hpp"

namespace {

using namespace kv;

constexpr index_t context = 131072, piece = 1024, rounds = 15;

// ---- a decoder in the middle of a long text ----

template <index_t rank>
void fill(Tensor<rank>& tensor) {
  static std::minstd_rand random(1);
  for (float& x : tensor) x = static_cast<float>(random() % 2000) * 1e-3f - 1.0f;
}

HeadCache long_cache(const HeadSizes& sizes) {
  HeadCache cache(context + 2 * rounds, sizes);
  Tensor<3> keys = empty<3>({piece, sizes.key_value_heads, sizes.key_width}),
            values = empty<3>({piece, sizes.key_value_heads, sizes.value_width});
  fill(keys);
  fill(values);
  while (cache.length() < context) cache.append(keys, values, 0, piece);
  return cache;
}

LatentCache long_cache(const LatentSizes& sizes) {
  LatentCache cache(context + 2 * rounds, sizes.row_width());
  Tensor<2> rows = empty<2>({piece, sizes.row_width()});
  fill(rows);
  while (cache.length() < context) cache.append(rows, 0, piece);
  return cache;
}

template <class Cache>
std::vector<Cache> one(Cache cache) {
  std::vector<Cache> caches;
  caches.push_back(std::move(cache));
  return caches;
}

LayerHalves long_layer(const Checkpoint& checkpoint, index_t layer) {
  if (family(checkpoint.config()) == Family::mla) {
    auto projection = latent_projection(checkpoint, layer);
    auto caches = one(long_cache(projection->latent_sizes()));
    return {std::make_unique<AbsorbedAttention>(std::move(projection), absorption(checkpoint, layer), std::move(caches))};
  }
  auto projection = head_projection(checkpoint, layer);
  auto caches = one(long_cache(projection->sizes()));
  return {std::make_unique<PreallocatedAttention>(std::move(projection), std::move(caches))};
}

std::unique_ptr<Transformer> long_transformer(const Checkpoint& checkpoint) {
  Stage stage = find_stage(family(checkpoint.config()) == Family::mla ? "absorbed" : "preallocated");
  stage.make = MakeLayers([](const Checkpoint& model, const Limits&, const StageOptions&) -> MakeLayer {
    return [=](index_t layer) { return long_layer(model, layer); };
  });
  return make_transformer(checkpoint, stage, {});
}

// ---- what a step must do ----

/// Numbers read and multiply-adds done by one token.
struct Work {
  double bytes = 0, multiply_adds = 0;
  Work& operator+=(const Work& other) {
    bytes += other.bytes;
    multiply_adds += other.multiply_adds;
    return *this;
  }
};

/// Every weight that a token is multiplied with, once. Their type is that of the output matrix.
Work weights(const Checkpoint& checkpoint) {
  const ModelTensors tensors = model_tensors(checkpoint);
  const auto size = [](const MatrixView& matrix) { return static_cast<double>(matrix.rows * matrix.columns); };
  double numbers = size(tensors.head) + static_cast<double>(feed_forward_cost(checkpoint.config()).active_parameters);
  for (const LayerTensors& layer : tensors.layers) {
    if (const auto* heads = std::get_if<GroupedTensors>(&layer.attention))
      for (const LinearView& linear : {heads->query, heads->key, heads->value, heads->output}) numbers += size(linear.weight);
    else {
      const auto& latents = std::get<LatentTensors>(layer.attention);
      if (latents.query_down) numbers += size(latents.query_down->weight);
      numbers += size(latents.query_up) + size(latents.latent_down.weight) + size(latents.latent_up) +
                 size(latents.output.weight);
    }
  }
  return {numbers * static_cast<double>(element_size(tensors.head.type)), numbers};
}

/// Every stored row, once for all heads that share it.
Work attention(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  double stored, heads, used;
  if (family(config) == Family::mla) {
    const LatentSizes sizes = latent_config(config).sizes;
    stored = static_cast<double>(sizes.row_width());
    heads = static_cast<double>(sizes.heads);
    used = static_cast<double>(sizes.row_width() + sizes.rank);
  } else {
    const HeadSizes sizes = grouped_config(config).heads;
    used = static_cast<double>(sizes.key_width + sizes.value_width);
    stored = static_cast<double>(sizes.key_value_heads) * used;
    heads = static_cast<double>(sizes.query_heads);
  }
  const double rows = static_cast<double>(context * model_sizes(config).layers);
  return {rows * stored * sizeof(float), rows * heads * used};
}

// ---- what the machine can do ----

class Machine {
 public:
  Machine() : buffer_(empty<1>({index_t{512} << 18})) { buffer_.fill(1.0f); }

  void measure() {
    peaks.push_back(rate([](index_t) { return bench::multiply_add_registers(200000); }));
    const index_t bytes = buffer_.size() / threads() * sizeof(float);
    bandwidths.push_back(rate([&](index_t thread) {
      sum_ += bench::read_all(reinterpret_cast<const std::byte*>(buffer_.data()) + thread * bytes, bytes);
      return static_cast<double>(bytes);
    }));
  }
  /// At the limits of the last two measurements: the later of two.
  double milliseconds(const Work& work) const {
    return 1000 * std::max(work.bytes / latest(bandwidths), 2 * work.multiply_adds / latest(peaks));
  }

  std::vector<double> peaks, bandwidths;  // FLOP/s, bytes/s

 private:
  static double latest(const std::vector<double>& rates) { return (rates.back() + rates[rates.size() - 2]) / 2; }
  template <class F>
  static double rate(F work) {
    std::atomic<double> done = 0;
    const Stopwatch watch;
    parallel_for(threads(), 1, [&](index_t first, index_t last) {
      for (index_t thread = first; thread < last; ++thread) done += work(thread);
    });
    return done / watch.milliseconds() * 1000;
  }

  Tensor<1> buffer_;
  std::atomic<std::uint64_t> sum_ = 0;  // so that the reads are not optimised away
};

struct Steps {
  std::vector<double> milliseconds, share, share_of_parts;
};

Steps decode(Transformer& transformer, Machine& machine, const Work& weights, const Work& attention) {
  Steps steps;
  Work all = weights;
  all += attention;
  const std::vector<index_t> wanted{0};
  for (index_t round = 0; round < 2 * rounds; ++round) {
    const std::vector<Token> token{static_cast<Token>(round % rounds + 1)};
    machine.measure();
    const Stopwatch watch;
    transformer.logits(token, {{0, 0, 1, context + round, token}}, wanted);
    const double ms = watch.milliseconds();
    machine.measure();
    if (round < rounds) continue;  // warming up: an expert's weights are packed when it is first chosen
    steps.milliseconds.push_back(ms);
    steps.share.push_back(machine.milliseconds(all) / ms);
    steps.share_of_parts.push_back((machine.milliseconds(weights) + machine.milliseconds(attention)) / ms);
  }
  return steps;
}

// ---- the report ----

void write(const Checkpoint& checkpoint, const Steps& steps, const Machine& machine, const Work& weights,
           const Work& attention, book::Report& report, const std::string& name) {
  const double ms = median(steps.milliseconds), gigabytes = (weights.bytes + attention.bytes) * 1e-9,
               gigaflop = 2 * (weights.multiply_adds + attention.multiply_adds) * 1e-9;
  const auto percent = [](double share) { return decimal(100 * share, 0) + "%"; };
  report.table(name,
               {{"model", "ms a token", "GB read", "GB/s", "GFLOP", "GFLOP/s", "of max(bytes, FLOP)", "of both parts' limits"},
                {checkpoint.directory().filename().string(), decimal(ms, 1), decimal(gigabytes, 2),
                 decimal(1000 * gigabytes / ms, 1), decimal(gigaflop, 1), decimal(1000 * gigaflop / ms, 0),
                 percent(median(steps.share)), percent(median(steps.share_of_parts))}},
               "Decode behind " + grouped(context) + " tokens, whose rows are random; median of " + std::to_string(rounds) +
                   " steps, limits measured before and after each: " + decimal(median(machine.bandwidths) * 1e-9, 1) +
                   " GB/s, " + decimal(median(machine.peaks) * 1e-9, 0) +
                   " GFLOP/s. The first share is of the later of two, all bytes at that bandwidth or all multiply-adds at "
                   "that peak; the second takes the later one for the weights and for the rows, and adds them.");
  std::vector<JsonObject> steps_of;
  for (index_t i = 0; i < steps.milliseconds.size(); ++i)
    steps_of.push_back(JsonObject()
                           .set("milliseconds", steps.milliseconds[i])
                           .set("share", steps.share[i])
                           .set("share_of_parts", steps.share_of_parts[i]));
  report.numbers("steps", steps_of);
  report.numbers("work", {JsonObject()
                              .set("weight_bytes", weights.bytes)
                              .set("row_bytes", attention.bytes)
                              .set("multiply_adds", weights.multiply_adds + attention.multiply_adds)
                              .set("bytes_per_s", median(machine.bandwidths))
                              .set("flop_per_s", median(machine.peaks))});
  report.finish(name + ".json");
}

void run(const std::string& model, const std::string& folder, const std::string& commit, const std::string& name) {
  const Checkpoint checkpoint(model);
  const auto transformer = long_transformer(checkpoint);
  const Work read = weights(checkpoint), rows = attention(checkpoint);
  Machine machine;
  const Steps steps = decode(*transformer, machine, read, rows);
  const ModelSizes sizes = model_sizes(checkpoint.config());
  book::Report report(folder, book::circumstances(commit, checkpoint.directory().filename().string() + ": " +
                                                              std::to_string(sizes.layers) + " layers, M " +
                                                              grouped(sizes.width) + ", bf16 weights, f32 rows"));
  write(checkpoint, steps, machine, read, rows, report, name);
}

}  // namespace

int main(int count, char** words) {
  if (count != 5) {
    std::cerr << "usage: long_decode MODEL FOLDER COMMIT NAME\n";
    return 2;
  }
  try {
    run(words[1], words[2], words[3], words[4]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "long_decode: error: " << error.what() << "\n";
    return 1;
  }
}

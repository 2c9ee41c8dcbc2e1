#include "chapters/06_cuda_kernels/model/device_model.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <ranges>

#include "chapters/06_cuda_kernels/model/device_model_parts.hpp"
#include "chapters/06_cuda_kernels/model/sample.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/cuda/stream.hpp"
#include "common/files/error.hpp"

namespace kv::cuda {
namespace {

constexpr index_t most_rows = 512;   // fed at a time; a longer prompt goes in pieces, if the first is remembered
constexpr int most_head_rows = 64;   // whose logits are made at a time

/// Some rows of a batch, and their places in it.
struct SomeRows {
  std::vector<NewRow> rows;
  std::vector<index_t> places;
};

// [apart]
/// Prompts attend tile by tile, in a pass of their own; where a sequence has few rows, each of them
/// attends alone.
struct Apart {
  SomeRows few, prompts;
  explicit Apart(std::span<const NewRow> batch) {
    constexpr index_t least_rows = 8;  // of a prompt: a tile has room for 64
    std::map<index_t, index_t> rows_of;
    for (const NewRow& row : batch) ++rows_of[row.sequence];
    for (index_t n = 0; n < batch.size(); ++n) {
      SomeRows& to = rows_of[batch[n].sequence] < least_rows ? few : prompts;
      to.rows.push_back(batch[n]);
      to.places.push_back(n);
    }
  }
};
// [apart]

}  // namespace

/// A model's parts, its memory for one pass, and the graphs that have been recorded.
class DeviceModel::Runner {
 public:
  explicit Runner(Parts parts)
      : parts_(std::move(parts)), rows_(rows_of_a_pass(parts_)),
        head_rows_(std::min(rows_, most_head_rows)), heard_(4 * rows_),
        tiles_(rows_), chosen_(head_rows_ * parts_.limits.capacity), hidden_(rows_ * width()), normed_(rows_ * width()),
        change_(rows_ * width()), wanted_hidden_(head_rows_ * width()), logits_(head_rows_ * vocabulary()), scratch_(scratch_bytes()) {}

  Tensor<2> logits(std::span<const NewRow> rows, std::span<const index_t> wanted);
  std::vector<Token> most_likely(std::span<const NewRow> rows, std::span<const index_t> wanted);
  std::vector<Token> next_tokens(std::span<const NewRow> rows, index_t steps);

  index_t width() const { return static_cast<index_t>(parts_.embedding.columns()); }
  index_t vocabulary() const { return static_cast<index_t>(parts_.head.rows()); }
  bool remembers() const { return parts_.remembers; }
  std::size_t cache_bytes() const {
    std::size_t bytes = 0;
    if (!remembers()) return bytes;
    for (const DeviceLayer& layer : parts_.layers) bytes += layer.attention->cache_bytes();
    return bytes;
  }

 private:
  static int rows_of_a_pass(const Parts& parts) {
    const index_t all = parts.limits.sequences * parts.limits.capacity;
    return static_cast<int>(parts.remembers ? std::min(all, most_rows) : all);
  }
  Tokens tokens(int rows) { return {heard_.data(), heard_.data() + rows, heard_.data() + 2 * rows, rows}; }
  void tell(std::span<const NewRow> rows, std::span<const int> more);
  bool begin_decode_step(std::span<const NewRow> rows);
  /// Hears the places in the batch of up to head_rows_ rows whose logits are now in logits_.
  using Hear = std::function<void(std::span<const index_t> places)>;
  void feed(std::span<const NewRow> batch, std::span<const index_t> wanted, const Hear& hear);
  void feed(const SomeRows& some, bool prompts, index_t first, std::span<const index_t> wanted, const Hear& hear);
  bool is_decode_step(std::span<const NewRow> rows, std::span<const index_t> wanted);
  std::vector<Token> chosen(index_t count);
  std::vector<Prompt> upload_tiles(std::span<const NewRow> rows);
  std::size_t scratch_bytes();
  void queue_layers(int rows, std::span<const Prompt> prompts, Scratch& scratch);
  void queue_head(const float* x, int rows);
  void run_decode_step(int rows);

  Parts parts_;
  int rows_, head_rows_;
  Stream stream_;
  Buffer<int> heard_;  // ids, sequences, positions of N rows, and up to N numbers more: what a step is told in one copy
  Buffer<QueryTile> tiles_;
  Buffer<int> chosen_;  // (steps,N)
  Buffer<float> hidden_, normed_, change_, wanted_hidden_, logits_;  // (N,M) three times, (wanted,M), (wanted,V)
  Scratch scratch_;
  std::map<int, std::unique_ptr<Graph>> decode_steps_;               // by the number of rows
};

// ---- the list of launches ----

// [layers]
/// x is the residual stream, h a layer's input, d or `change` what it adds to x. The sum and the
/// next norm are one kernel.
void DeviceModel::Runner::queue_layers(int rows, std::span<const Prompt> prompts,
                                       Scratch& scratch) {
  const Step step{tokens(rows),
                  prompts,
                  scratch,
                  device_properties().multiprocessors,
                  stream_.get()};
  const Scratch::Frame frame(scratch);
  if (parts_.before) parts_.before->queue(step);
  float *const x = hidden_.data(), *const h = normed_.data(), *const d = change_.data();
  const int M = static_cast<int>(width());
  embed(parts_.embedding, step.tokens, x, step.stream);
  rms_norm(parts_.layers.front().attention_norm, {x, M}, rows, {h, M}, step.stream);
  for (DeviceLayer& layer : parts_.layers) {
    const bool last = &layer == &parts_.layers.back();
    const OwnedNorm& next = last ? parts_.final_norm : (&layer + 1)->attention_norm;
    layer.attention->queue(h, d, step);
    add_rms_norm(layer.feed_forward_norm, x, {d}, rows, h, step.stream);
    const Scratch::Frame until_added(scratch);
    const Change change = layer.feed_forward->queue(h, d, step);
    add_rms_norm(next, x, change, rows, h, step.stream);
  }
}
// [layers]

/// What the layers take, asked of themselves: their launches are recorded, for ever larger powers of two, and never run.
std::size_t DeviceModel::Runner::scratch_bytes() {
  Scratch counted(hidden_.data());
  const Prompt longest{0, static_cast<int>(parts_.limits.capacity), {tiles_.data(), 1}};
  for (int rows = 1; rows < 2 * rows_; rows *= 2)
    for (const std::span<const Prompt> prompts : {std::span<const Prompt>(), std::span(&longest, 1)})
      Graph(stream_, [&] { queue_layers(std::min(rows, rows_), prompts, counted); });
  return counted.most();
}

void DeviceModel::Runner::queue_head(const float* x, int rows) {
  linear(parts_.head, {x, static_cast<int>(width())}, rows, {logits_.data(), static_cast<int>(vocabulary())}, stream_.get());
}

// [graph]
/// Everything that changes from step to step lies in device memory, so the launches of one step are
/// those of all: they are recorded once for a number of rows and replayed.
void DeviceModel::Runner::run_decode_step(int rows) {
  std::unique_ptr<Graph>& graph = decode_steps_[rows];
  if (!graph)
    graph = std::make_unique<Graph>(stream_, [&] {
      queue_layers(rows, {}, scratch_);
      queue_head(normed_.data(), rows);
      int *const ids = heard_.data(), *const positions = ids + 2 * rows;
      const NextRows next{ids, positions, positions + rows, chosen_.data()};
      cuda::most_likely(logits_.data(), rows, static_cast<int>(vocabulary()), next, stream_.get());
    });
  graph->replay(stream_);
}
// [graph]

// ---- between host and device ----

void DeviceModel::Runner::tell(std::span<const NewRow> rows, std::span<const int> more) {
  std::vector<int> told;
  for (const NewRow& row : rows) told.push_back(row.token);
  for (const NewRow& row : rows) told.push_back(static_cast<int>(row.sequence));
  for (const NewRow& row : rows) told.push_back(static_cast<int>(row.position));
  told.insert(told.end(), more.begin(), more.end());
  stream_.synchronize();  // nobody reads the old ones any more
  heard_.upload(std::span<const int>(told));
}

/// Tells the rows if they are one for each sequence.
bool DeviceModel::Runner::begin_decode_step(std::span<const NewRow> rows) {
  if (rows.empty() || rows.size() > static_cast<index_t>(head_rows_)) return false;
  std::vector<int> positions;
  for (const NewRow& row : rows) {
    if (std::ranges::count(rows, row.sequence, &NewRow::sequence) > 1) return false;
    positions.push_back(static_cast<int>(row.position));
  }
  tell(rows, positions);
  return true;
}

/// Prompts in tiles.  @param rows of prompts alone
std::vector<Prompt> DeviceModel::Runner::upload_tiles(std::span<const NewRow> rows) {
  std::vector<QueryTile> tiles;
  std::vector<Prompt> prompts;
  for (index_t n = 0; n < rows.size(); ++n) {
    const int sequence = static_cast<int>(rows[n].sequence), position = static_cast<int>(rows[n].position);
    const bool begins = prompts.empty() || prompts.back().sequence != sequence;
    if (begins) prompts.push_back({sequence, 0, {tiles_.data() + tiles.size(), 0}});
    if (begins || tiles.back().rows == query_tile_rows) {
      tiles.push_back({sequence, static_cast<int>(n), 0, position});
      ++prompts.back().tiles.count;
    }
    ++tiles.back().rows;
    prompts.back().tokens = position + 1;
  }
  tiles_.upload(std::span<const QueryTile>(tiles));
  return prompts;
}

/// Rows first ... of some, as many as go together.
void DeviceModel::Runner::feed(const SomeRows& some, bool prompts, index_t first, std::span<const index_t> wanted, const Hear& hear) {
  const index_t N = std::min(some.rows.size() - first, static_cast<index_t>(rows_));
  const std::span<const NewRow> rows = std::span(some.rows).subspan(first, N);
  std::vector<int> here;           // places of wanted rows among these
  std::vector<index_t> in_batch;   // and in the caller's batch
  for (index_t n = 0; n < N; ++n)
    if (const index_t place = some.places[first + n]; std::ranges::find(wanted, place) != wanted.end())
      here.push_back(static_cast<int>(n)), in_batch.push_back(place);
  tell(rows, here);
  queue_layers(static_cast<int>(N), prompts ? upload_tiles(rows) : std::vector<Prompt>(), scratch_);
  for (std::size_t i = 0; i < here.size(); i += head_rows_) {
    const int count = static_cast<int>(std::min<std::size_t>(head_rows_, here.size() - i));
    gather_rows(normed_.data(), static_cast<int>(width()), heard_.data() + 3 * N + i, count, wanted_hidden_.data(), stream_.get());
    queue_head(wanted_hidden_.data(), count);
    hear(std::span(in_batch).subspan(i, count));
  }
}

void DeviceModel::Runner::feed(std::span<const NewRow> batch, std::span<const index_t> wanted, const Hear& hear) {
  const Apart apart(batch);
  for (const SomeRows* some : {&apart.few, &apart.prompts})
    for (index_t first = 0; first < some->rows.size(); first += static_cast<index_t>(rows_))
      feed(*some, some == &apart.prompts, first, wanted, hear);
}

/// Then it has been told.
bool DeviceModel::Runner::is_decode_step(std::span<const NewRow> rows, std::span<const index_t> wanted) {
  return std::ranges::equal(wanted, std::views::iota(index_t{0}, rows.size())) && begin_decode_step(rows);
}

Tensor<2> DeviceModel::Runner::logits(std::span<const NewRow> rows, std::span<const index_t> wanted) {
  Tensor<2> result = kv::empty<2>({wanted.size(), vocabulary()});
  if (is_decode_step(rows, wanted)) {
    run_decode_step(static_cast<int>(rows.size()));
    logits_.download({result.data(), result.size()}, stream_.get());
  } else {
    feed(rows, wanted, [&](std::span<const index_t> places) {
      Tensor<2> logits = kv::empty<2>({places.size(), vocabulary()});
      logits_.download({logits.data(), logits.size()}, stream_.get());
      stream_.synchronize();
      for (index_t w = 0; w < wanted.size(); ++w)
        for (index_t k = 0; k < places.size(); ++k)
          if (wanted[w] == places[k]) std::ranges::copy(row(logits, k), row(result, w).begin());
    });
  }
  stream_.synchronize();
  return result;
}

/// The first so many tokens that the device has chosen.
std::vector<Token> DeviceModel::Runner::chosen(index_t count) {
  std::vector<Token> tokens(count);
  chosen_.download(std::span<int>(tokens), stream_.get());
  stream_.synchronize();
  if (std::ranges::count(tokens, no_token) > 0) throw Error("the logits are not all numbers: are the checkpoint's weights damaged?");
  return tokens;
}

std::vector<Token> DeviceModel::Runner::most_likely(std::span<const NewRow> rows, std::span<const index_t> wanted) {
  if (is_decode_step(rows, wanted)) {
    run_decode_step(static_cast<int>(rows.size()));
    return chosen(rows.size());
  }
  std::vector<Token> result(wanted.size());
  feed(rows, wanted, [&](std::span<const index_t> places) {
    cuda::most_likely(logits_.data(), static_cast<int>(places.size()), static_cast<int>(vocabulary()), chosen_.data(), stream_.get());
    const std::vector<Token> tokens = chosen(places.size());
    for (index_t w = 0; w < wanted.size(); ++w)
      for (index_t k = 0; k < places.size(); ++k)
        if (wanted[w] == places[k]) result[w] = tokens[k];
  });
  stream_.synchronize();
  return result;
}

std::vector<Token> DeviceModel::Runner::next_tokens(std::span<const NewRow> rows, index_t steps) {
  if (!remembers()) throw std::invalid_argument("next_tokens: a step needs what the one before has left, and nothing is kept");
  for (const NewRow& row : rows)
    if (steps < 1 || row.position + steps > parts_.limits.capacity)
      throw std::invalid_argument("next_tokens: " + std::to_string(steps) + " steps from position " + std::to_string(row.position) +
                                  " on; the capacity is " + std::to_string(parts_.limits.capacity));
  if (!begin_decode_step(rows))
    throw std::invalid_argument("next_tokens: needs 1 to " + std::to_string(head_rows_) + " rows, of different sequences");
  for (index_t step = 0; step < steps; ++step) run_decode_step(static_cast<int>(rows.size()));
  return chosen(steps * rows.size());
}

DeviceModel::DeviceModel(Parts parts) : runner_(std::make_unique<Runner>(std::move(parts))) {}
DeviceModel::~DeviceModel() = default;

Tensor<2> DeviceModel::logits(std::span<const NewRow> rows, std::span<const index_t> wanted) { return runner_->logits(rows, wanted); }
std::vector<Token> DeviceModel::most_likely(std::span<const NewRow> rows, std::span<const index_t> wanted) {
  return runner_->most_likely(rows, wanted);
}
std::vector<Token> DeviceModel::next_tokens(std::span<const NewRow> rows, index_t steps) { return runner_->next_tokens(rows, steps); }
index_t DeviceModel::vocabulary() const { return runner_->vocabulary(); }
bool DeviceModel::remembers() const { return runner_->remembers(); }
std::size_t DeviceModel::cache_bytes() const { return runner_->cache_bytes(); }

}  // namespace kv::cuda

#include "chapters/06_cuda_kernels/model/device_model.hpp"

#include <algorithm>
#include <map>

#include "chapters/06_cuda_kernels/model/attention_layers.hpp"
#include "chapters/06_cuda_kernels/model/device_model_parts.hpp"
#include "chapters/06_cuda_kernels/model/ladder_attention.hpp"
#include "chapters/06_cuda_kernels/model/sample.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/cuda/stream.hpp"

namespace kv::cuda {
namespace {

constexpr int most_rows = 512;       // fed at a time; a longer prompt goes in pieces
constexpr int most_head_rows = 64;   // whose logits are made at a time

std::vector<index_t> all_positions(index_t capacity) {
  std::vector<index_t> positions(capacity);
  for (index_t p = 0; p < capacity; ++p) positions[p] = p;
  return positions;
}

std::span<const float> values(const Tensor<2>& x) { return {x.data(), x.size()}; }

}  // namespace

OwnedRope::OwnedRope(const Rope& rope, index_t capacity) : width_(static_cast<int>(2 * rope.frequencies.size())) {
  const RopeTable table = rope.table(all_positions(capacity));
  cos_ = Buffer<float>(values(table.cos));
  sin_ = Buffer<float>(values(table.sin));
}

/// A model's parts, its memory for one pass, and the graphs that have been recorded.
class DeviceModel::Runner {
 public:
  explicit Runner(Parts parts)
      : parts_(std::move(parts)), rows_(static_cast<int>(std::min<index_t>(most_rows, parts_.limits.sequences * parts_.limits.capacity))),
        head_rows_(std::min(rows_, most_head_rows)), ids_(rows_), sequences_(rows_),
        positions_(rows_), tiles_(rows_), wanted_(head_rows_), next_tokens_(head_rows_), hidden_(rows_ * width()), normed_(rows_ * width()),
        change_(rows_ * width()), wanted_hidden_(head_rows_ * width()), logits_(head_rows_ * vocabulary()), scratch_(scratch_bytes()) {}

  Tensor<2> logits(std::span<const NewRow> rows, std::span<const index_t> wanted);
  std::vector<Token> next_tokens(std::span<const NewRow> rows);

  index_t width() const { return static_cast<index_t>(parts_.embedding.columns()); }
  index_t vocabulary() const { return static_cast<index_t>(parts_.head.rows()); }
  std::size_t cache_bytes() const {
    std::size_t bytes = 0;
    for (const DeviceLayer& layer : parts_.layers) bytes += layer.attention->cache_bytes();
    return bytes;
  }

 private:
  void upload(std::span<const NewRow> rows);
  QueryTiles upload_tiles(std::span<const NewRow> rows);
  std::size_t scratch_bytes();
  void queue_layers(int rows, const QueryTiles& tiles, Scratch& scratch);
  void queue_head(int wanted);
  void run_decode_step(int rows);
  bool is_decode_step(std::span<const NewRow> rows, std::span<const index_t> wanted) const;

  Parts parts_;
  int rows_, head_rows_;
  Stream stream_;
  Buffer<int> ids_, sequences_, positions_;
  Buffer<QueryTile> tiles_;
  Buffer<int> wanted_, next_tokens_;
  Buffer<float> hidden_, normed_, change_, wanted_hidden_, logits_;  // (N,M) three times, (wanted,M), (wanted,V)
  Scratch scratch_;
  std::map<int, std::unique_ptr<Graph>> decode_steps_;               // by the number of rows
};

// ---- the list of launches ----

// [layers]
/// x is the residual stream, h a layer's input, d or `change` what it adds to x. The sum and the
/// next norm are one kernel.
void DeviceModel::Runner::queue_layers(int rows, const QueryTiles& tiles, Scratch& scratch) {
  const Step step{{ids_.data(), sequences_.data(), positions_.data(), rows},
                  tiles,
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
    const OwnedNorm& next = &layer == &parts_.layers.back() ? parts_.final_norm : (&layer + 1)->attention_norm;
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
  for (int rows = 1; rows < 2 * rows_; rows *= 2)
    Graph(stream_, [&] { queue_layers(std::min(rows, rows_), {nullptr, 0}, counted); });
  return counted.most();
}

/// Logits, and the most likely tokens, of the rows that wanted_ names.
void DeviceModel::Runner::queue_head(int wanted) {
  const int M = static_cast<int>(width()), V = static_cast<int>(vocabulary());
  gather_rows(normed_.data(), M, wanted_.data(), wanted, wanted_hidden_.data(), stream_.get());
  linear(parts_.head, {wanted_hidden_.data(), M}, wanted, {logits_.data(), V}, stream_.get());
  most_likely(logits_.data(), wanted, V, next_tokens_.data(), stream_.get());
}

// [graph]
/// Everything that changes from step to step lies in device memory, so the launches of one step are
/// those of all: they are recorded once for a number of rows and replayed.
void DeviceModel::Runner::run_decode_step(int rows) {
  std::unique_ptr<Graph>& graph = decode_steps_[rows];
  if (!graph)
    graph = std::make_unique<Graph>(stream_, [&] {
      queue_layers(rows, {nullptr, 0}, scratch_);
      queue_head(rows);
    });
  graph->replay(stream_);
}
// [graph]

// ---- between host and device ----

void DeviceModel::Runner::upload(std::span<const NewRow> rows) {
  std::vector<int> ids, sequences, positions;
  for (const NewRow& row : rows) {
    ids.push_back(row.token);
    sequences.push_back(static_cast<int>(row.sequence));
    positions.push_back(static_cast<int>(row.position));
  }
  stream_.synchronize();  // nobody reads the old ones any more
  ids_.upload(std::span<const int>(ids));
  sequences_.upload(std::span<const int>(sequences));
  positions_.upload(std::span<const int>(positions));
}

/// The batch in tiles; none when they would be nearly empty.
QueryTiles DeviceModel::Runner::upload_tiles(std::span<const NewRow> rows) {
  constexpr index_t least_rows = 8;  // of a tile of 64, on average
  std::vector<QueryTile> tiles;
  for (index_t n = 0; n < rows.size(); ++n) {
    const bool goes_on = !tiles.empty() && tiles.back().rows < query_tile_rows &&
                         rows[n].sequence == static_cast<index_t>(tiles.back().sequence);
    if (!goes_on) tiles.push_back({static_cast<int>(rows[n].sequence), static_cast<int>(n), 0, static_cast<int>(rows[n].position)});
    ++tiles.back().rows;
  }
  if (tiles.size() * least_rows > rows.size()) return {nullptr, 0};
  tiles_.upload(std::span<const QueryTile>(tiles));
  return {tiles_.data(), static_cast<int>(tiles.size())};
}

/// One row for each sequence, and all logits wanted, in order.
bool DeviceModel::Runner::is_decode_step(std::span<const NewRow> rows, std::span<const index_t> wanted) const {
  if (rows.size() > static_cast<index_t>(head_rows_) || rows.size() != wanted.size()) return false;
  std::vector<index_t> sequences;
  for (index_t i = 0; i < rows.size(); ++i) {
    if (wanted[i] != i || std::ranges::find(sequences, rows[i].sequence) != sequences.end()) return false;
    sequences.push_back(rows[i].sequence);
  }
  return !rows.empty();
}

Tensor<2> DeviceModel::Runner::logits(std::span<const NewRow> rows, std::span<const index_t> wanted) {
  Tensor<2> result = kv::empty<2>({wanted.size(), vocabulary()});
  const auto take = [&](index_t first, index_t count) {
    logits_.download({result.data() + first * vocabulary(), count * vocabulary()}, stream_.get());
    stream_.synchronize();
  };
  const auto upload_wanted = [&](const std::vector<int>& places) {
    stream_.synchronize();
    wanted_.upload(std::span<const int>(places));
  };
  if (is_decode_step(rows, wanted)) {
    upload(rows);
    upload_wanted({wanted.begin(), wanted.end()});
    run_decode_step(static_cast<int>(rows.size()));
    take(0, wanted.size());
    return result;
  }
  for (index_t first = 0; first < rows.size(); first += static_cast<index_t>(rows_)) {
    const index_t count = std::min(rows.size() - first, static_cast<index_t>(rows_));
    upload(rows.subspan(first, count));
    queue_layers(static_cast<int>(count), upload_tiles(rows.subspan(first, count)), scratch_);
    std::vector<std::pair<index_t, int>> here;  // place in the result, row of this piece
    for (index_t i = 0; i < wanted.size(); ++i)
      if (wanted[i] >= first && wanted[i] < first + count) here.push_back({i, static_cast<int>(wanted[i] - first)});
    for (index_t i = 0; i < here.size();) {
      std::vector<int> places;  // as many as follow one another in the result
      const index_t start = i;
      while (i < here.size() && places.size() < static_cast<index_t>(head_rows_) && here[i].first == here[start].first + places.size())
        places.push_back(here[i++].second);
      upload_wanted(places);
      queue_head(static_cast<int>(places.size()));
      take(here[start].first, places.size());
    }
  }
  stream_.synchronize();
  return result;
}

std::vector<Token> DeviceModel::Runner::next_tokens(std::span<const NewRow> rows) {
  std::vector<index_t> wanted(rows.size());
  for (index_t i = 0; i < rows.size(); ++i) wanted[i] = i;
  if (!is_decode_step(rows, wanted))
    throw std::invalid_argument("next_tokens: needs 1 to " + std::to_string(head_rows_) + " rows, of different sequences");
  upload(rows);
  wanted_.upload(std::span<const int>(std::vector<int>(wanted.begin(), wanted.end())));
  run_decode_step(static_cast<int>(rows.size()));
  std::vector<Token> tokens(rows.size());
  next_tokens_.download(std::span<int>(tokens), stream_.get());
  stream_.synchronize();
  return tokens;
}

DeviceModel::DeviceModel(Parts parts) : runner_(std::make_unique<Runner>(std::move(parts))) {}
DeviceModel::~DeviceModel() = default;

Tensor<2> DeviceModel::logits(std::span<const NewRow> rows, std::span<const index_t> wanted) { return runner_->logits(rows, wanted); }
std::vector<Token> DeviceModel::next_tokens(std::span<const NewRow> rows) { return runner_->next_tokens(rows); }
index_t DeviceModel::vocabulary() const { return runner_->vocabulary(); }
std::size_t DeviceModel::cache_bytes() const { return runner_->cache_bytes(); }

// ---- from a checkpoint ----

namespace {

std::unique_ptr<AttentionLayer> naive_attention(const LayerTensors& tensors, float norm_epsilon, const RopeRows& rope,
                                                const Limits& limits) {
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors.attention))
    return std::make_unique<GroupedAttentionLayer>(upload(*grouped, norm_epsilon), rope, limits);
  return std::make_unique<ExpandedAttentionLayer>(upload_expanded(std::get<LatentTensors>(tensors.attention), rope), limits);
}

std::unique_ptr<FeedForwardLayer> feed_forward(const LayerTensors& tensors) {
  if (const auto* dense = std::get_if<SwiGluTensors>(&tensors.feed_forward)) return std::make_unique<DenseLayer>(upload(*dense));
  return std::make_unique<MixtureLayer>(upload(std::get<MixtureTensors>(tensors.feed_forward)));
}

/// @param make_attention of a layer's tensors and the table of angles
template <class MakeAttention>
std::unique_ptr<DeviceModel> make_model(const ModelTensors& tensors, const Limits& limits, const MakeAttention& make_attention,
                                        std::shared_ptr<StepWork> before = nullptr) {
  OwnedRope rope(tensors.rope, limits.capacity);
  std::vector<DeviceLayer> layers;
  for (const LayerTensors& layer : tensors.layers)
    layers.push_back({.attention_norm = {layer.attention_norm, tensors.norm_epsilon},
                      .attention = make_attention(layer, RopeRows(rope)),
                      .feed_forward_norm = {layer.feed_forward_norm, tensors.norm_epsilon},
                      .feed_forward = feed_forward(layer)});
  return std::make_unique<DeviceModel>(DeviceModel::Parts{.rope = std::move(rope),
                                                          .embedding = Matrix{tensors.embedding},
                                                          .layers = std::move(layers),
                                                          .final_norm = {tensors.final_norm, tensors.norm_epsilon},
                                                          .head = Matrix{tensors.head},
                                                          .limits = limits,
                                                          .before = std::move(before)});
}

}  // namespace

std::unique_ptr<DeviceModel> make_naive_model(const ModelTensors& tensors, const Limits& limits) {
  return make_model(tensors, limits, [&](const LayerTensors& layer, const RopeRows& rope) {
    return naive_attention(layer, tensors.norm_epsilon, rope, limits);
  });
}
std::unique_ptr<DeviceModel> make_absorbed_model(const ModelTensors& tensors, const Limits& limits) {
  return make_model(tensors, limits, [&](const LayerTensors& layer, const RopeRows& rope) {
    return std::make_unique<AbsorbedAttentionLayer>(upload_absorbed(std::get<LatentTensors>(layer.attention), rope), limits);
  });
}
std::unique_ptr<DeviceModel> make_ladder_model(const ModelTensors& tensors, const Limits& limits) {
  const index_t heads = std::get<LatentTensors>(tensors.layers.at(0).attention).sizes.heads;
  const auto step = std::make_shared<StepPages>(heads, limits, best_rung());
  return make_model(
      tensors, limits,
      [&](const LayerTensors& layer, const RopeRows& rope) {
        return std::make_unique<LadderAttentionLayer>(upload_absorbed(std::get<LatentTensors>(layer.attention), rope), step);
      },
      step);
}

}  // namespace kv::cuda

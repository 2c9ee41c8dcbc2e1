#pragma once
/// @file
/// Three ways to attend on the device, a file each.
#include "chapters/06_cuda_kernels/model/attend.hpp"
#include "chapters/06_cuda_kernels/model/layer.hpp"
#include "chapters/models/model_tensors.hpp"

namespace kv::cuda {

/// What attend() needs while it runs.
struct AttendScratch {
  float *partial = nullptr, *lse = nullptr;
  int splits;
  AttendScratch(const Step& step, int heads, int groups, int value_width, index_t capacity);
};

/// A prompt goes by tiles where there is a kernel for its heads; all else row by row.
template <class T>
void attend_heads(const Attend<T>& problem, const Step& step);

/// Keys and values of heads, a row for each token of each sequence. A layer has its own; layers that share one find in it what
/// the layer before has left, and write over it.
template <class T>
struct OwnedHeads {
  OwnedCache<T> keys, values;
  std::size_t bytes() const { return keys.bytes() + values.bytes(); }
};

/// Llama, Qwen3: keys and values of G heads are kept.
struct GroupedWeights {
  Matrix projection, output;  ///< (H*D + G*D + G*W,M): queries, keys, values; (M,H*W)
  OwnedNorm query_norm, key_norm;
  HeadSizes sizes;
};
GroupedWeights upload(const GroupedTensors& tensors, float norm_epsilon);

template <class T>
class GroupedAttentionLayer : public AttentionLayer {
 public:
  GroupedAttentionLayer(GroupedWeights weights, const RopeRows& rope, index_t capacity, std::shared_ptr<OwnedHeads<T>> cache);
  void queue(const float* x, float* y, const Step& step) override;
  std::size_t cache_bytes() const override { return cache_->bytes(); }

 private:
  GroupedWeights weights_;
  RopeRows rope_;
  index_t capacity_;
  std::shared_ptr<OwnedHeads<T>> cache_;
};

/// What all forms of latent attention share: queries and latents of the new rows.
struct LatentDown {
  Matrix down;                     ///< (query_rank + R+P,M); without query_rank (H*D + R+P,M)
  OwnedNorm query_norm, latent_norm;
  Matrix query_up;                 ///< (H*D,query_rank), or none
  LatentSizes sizes;
  RopeRows rope;

  struct Rows {
    RowsOut queries;  ///< (N,H*D), not yet turned
    Latents latents;  ///< not yet normed and turned
    TurnedQueries<float> turned_in_place(const LatentSizes& sizes) const {
      return {queries.data + sizes.plain_width, queries.stride, static_cast<int>(sizes.key_width())};
    }
  };
  /// Takes scratch memory and queues the products.
  Rows queue(const float* x, const Step& step) const;
};
LatentDown upload_down(const LatentTensors& tensors, const RopeRows& rope);

/// DeepSeek's naive form: keys and values of all heads are expanded once and kept.
struct ExpandedWeights {
  LatentDown down;
  Matrix latent_up, output;  ///< (H*(plain+W),R) (M,H*W)
  float softmax_factor;
};
ExpandedWeights upload_expanded(const LatentTensors& tensors, const RopeRows& rope);

template <class T>
class ExpandedAttentionLayer : public AttentionLayer {
 public:
  ExpandedAttentionLayer(ExpandedWeights weights, index_t capacity, std::shared_ptr<OwnedHeads<T>> cache);
  void queue(const float* x, float* y, const Step& step) override;
  std::size_t cache_bytes() const override { return cache_->bytes(); }

 private:
  ExpandedWeights weights_;
  index_t capacity_;
  std::shared_ptr<OwnedHeads<T>> cache_;
};

/// Latents are kept, and the heads work on them as they are.
class AbsorbedAttentionLayer : public AttentionLayer {
 public:
  struct Weights {
    LatentDown down;
    Matrix into_latents;    ///< (H*R,plain), of each head W_UK^T
    Matrix key_up;          ///< (H*plain,R), of each head W_UK
    Matrix out_of_latents;  ///< (H*W,R), of each head W_UV
    Matrix output;          ///< (M,H*W)
    float softmax_factor;
  };
  AbsorbedAttentionLayer(Weights weights, const Limits& limits);
  void queue(const float* x, float* y, const Step& step) override;
  std::size_t cache_bytes() const override { return latents_.bytes(); }

 private:
  void attend_absorbed(const LatentDown::Rows& rows, float* mixed, const Step& step);

  Weights weights_;
  index_t capacity_;
  OwnedCache<float> latents_;
};
AbsorbedAttentionLayer::Weights upload_absorbed(const LatentTensors& tensors, const RopeRows& rope);

/// Whether the rows of a step are prompts, and there is a kernel for their heads.
bool prompts_are_expanded(const LatentSizes& sizes, const Step& step);

/// Prompts over cached latents, chapter 4's `latent`: a sequence's latents become keys and values of all heads, which stay as long
/// as its rows attend, tile by tile.
/// @param latents in f32 or bf16  @param queries (N,H*D), turned  @param mixed (N,H*W)
template <class T>
void attend_expanded(const AbsorbedAttentionLayer::Weights& weights, const StoredRows<T>& latents, const RowsOut& queries, float* mixed,
                     const Step& step);

}  // namespace kv::cuda

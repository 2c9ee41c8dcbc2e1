#pragma once
/// @file
/// Rotation, and what belongs to the same pass over a row: its norm, and its place in the cache. Rotate before
/// appending: the cache forgets positions. The angles come from a table that the CPU has made, so that YaRN, Llama 3's
/// bands and the rounding of angles are the same on both.
#include "chapters/06_cuda_kernels/model/norm.hpp"
#include "chapters/06_cuda_kernels/model/tokens.hpp"

namespace kv::cuda {

/// cos and sin of every position's angles.
struct RopeRows {
  const float *cos, *sin;  ///< (C,width/2)
  int width;               ///< of the rotated part of a head
};

/// Llama, Qwen3: queries and keys of every head are normed where the model has such norms and turned in pairs
/// (i, i + D/2); keys and values go to the cache.
template <class T>
struct GroupedAppend {
  float* heads;           ///< (N,H*D + G*D + G*W): queries, which are turned in place, keys, values
  int query_heads, key_value_heads, key_width, value_width;
  const float *query_norm, *key_norm;  ///< (D), or null: no norm
  float norm_epsilon;
  RopeRows rope;
  Tokens tokens;
  StoredRows<T> keys, values;          ///< rows of G*D and G*W
  int stride() const { return query_heads * key_width + key_value_heads * (key_width + value_width); }
};
template <class T>
void append_heads(const GroupedAppend<T>& problem, cudaStream_t stream);

/// DeepSeek: the latent is normed, the rotated part of the key and that of each head's query are turned in pairs (2i, 2i + 1).
struct Latents {
  RowsIn compressed;           ///< (N,R+P), R numbers of latent, then P of key
  Norm norm;                   ///< of width R
  RopeRows rope;               ///< of width P
  Tokens tokens;
  RowsIn queries;              ///< P numbers of head h of row n begin at data + n*stride + h*head_width
  int heads, head_width;
};
/// Where the turned part of a query goes: data + n*of_row + h*of_head. May be where it comes from.
template <class T>
struct TurnedQueries {
  T* data;
  int of_row, of_head;
};
/// To each token's row in the cache, in the cache's number format.
template <class T, class Query>
void append_latents(const Latents& problem, const StoredRows<T>& cache, const TurnedQueries<Query>& turned, cudaStream_t stream);
/// To row n: what is expanded is not remembered as a latent.  @param latents (N,R+P)
void make_latents(const Latents& problem, float* latents, const TurnedQueries<float>& turned, cudaStream_t stream);

/// Keys and values of all heads, expanded from latents, to the cache.
template <class T>
struct ExpandedAppend {
  const float* expanded;  ///< (N,H*(plain+W)): of every head, the plain part of its key, then its value
  const float* latents;   ///< (N,R+P), whose last P numbers are the rotated part of every head's key
  int heads, plain_width, rope_width, value_width, rank;
  Tokens tokens;
  StoredRows<T> keys, values;  ///< rows of H*(plain+P) and H*W
};
template <class T>
void append_expanded(const ExpandedAppend<T>& problem, cudaStream_t stream);

}  // namespace kv::cuda

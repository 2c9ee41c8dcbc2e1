#include "chapters/06_cuda_kernels/model/rope.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

// [pairs]
/// Which two numbers of a head are turned together.
struct HalfSplit {
  static __device__ int first(int i, int) { return i; }
  static __device__ int second(int i, int width) { return i + width / 2; }
};
struct Interleaved {
  static __device__ int first(int i, int) { return 2 * i; }
  static __device__ int second(int i, int) { return 2 * i + 1; }
};

/// Turns a head to its position, the threads side by side. A thread reads both numbers of a pair before it writes them.
template <class Pairs, class T>
__device__ void rotate(const RopeRows& rope, int position, const float* from, T* to, int thread, int threads) {
  const float* cos = rope.cos + std::size_t(position) * (rope.width / 2);
  const float* sin = rope.sin + std::size_t(position) * (rope.width / 2);
  for (int i = thread; i < rope.width / 2; i += threads) {
    const float a = from[Pairs::first(i, rope.width)], b = from[Pairs::second(i, rope.width)];
    store(to[Pairs::first(i, rope.width)], a * cos[i] - b * sin[i]);
    store(to[Pairs::second(i, rope.width)], b * cos[i] + a * sin[i]);
  }
}
// [pairs]

/// The norm of one head, by one warp, in place.
__device__ void norm_head(float* head, const float* weight, int width, float epsilon) {
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += warp_threads) squares += head[i] * head[i];
  const float scale = 1.0f / sqrtf(warp_sum(squares) / width + epsilon);
  for (int i = threadIdx.x; i < width; i += warp_threads) head[i] = head[i] * scale * weight[i];
  __syncwarp();  // the rotation reads what other lanes have written
}

// [append_heads]
/// One warp for each head of each row.
template <class T>
__global__ void __launch_bounds__(warp_threads) append_heads_kernel(const GroupedAppend<T> p) {
  const int head = blockIdx.x, n = blockIdx.y, H = p.query_heads, G = p.key_value_heads, D = p.key_width, W = p.value_width;
  const int sequence = p.tokens.sequences[n], position = p.tokens.positions[n];
  float* row = p.heads + std::size_t(n) * (H * D + G * (D + W));
  if (head < H) {
    float* query = row + head * D;
    if (p.query_norm) norm_head(query, p.query_norm, D, p.norm_epsilon);
    rotate<HalfSplit>(p.rope, position, query, query, threadIdx.x, warp_threads);
  } else if (head < H + G) {
    float* key = row + head * D;
    if (p.key_norm) norm_head(key, p.key_norm, D, p.norm_epsilon);
    rotate<HalfSplit>(p.rope, position, key, p.keys.row(sequence, position) + (head - H) * D, threadIdx.x, warp_threads);
  } else {
    const int g = head - H - G;
    const float* value = row + (H + G) * D + g * W;
    T* to = p.values.row(sequence, position) + g * W;
    for (int i = threadIdx.x; i < W; i += warp_threads) store(to[i], value[i]);
  }
}
// [append_heads]

constexpr int latent_threads = 128;

/// Where the latent of row n goes.
template <class T>
struct ToCache {
  StoredRows<T> rows;
  __device__ T* row(const Tokens& tokens, int n) const { return rows.row(tokens.sequences[n], tokens.positions[n]); }
};
struct ToRow {
  float* data;
  int stride;
  __device__ float* row(const Tokens&, int n) const { return data + std::size_t(n) * stride; }
};

// [latents]
/// For each row one block for the latent, and one for each head's query.
template <class To, class Query>
__global__ void __launch_bounds__(latent_threads) latents_kernel(const Latents p, const To to, const TurnedQueries<Query> turned) {
  let_next_grid_begin();
  wait_for_last_grid();
  const int n = blockIdx.y, R = p.norm.width, position = p.tokens.positions[n];
  if (blockIdx.x > 0) {
    const int h = blockIdx.x - 1;
    rotate<Interleaved>(p.rope, position, p.queries.data + std::size_t(n) * p.queries.stride + h * p.head_width,
                        turned.data + std::size_t(n) * turned.of_row + h * turned.of_head, threadIdx.x, latent_threads);
    return;
  }
  const float* from = p.compressed.data + std::size_t(n) * p.compressed.stride;
  auto* row = to.row(p.tokens, n);
  float squares = 0.0f;
  for (int i = threadIdx.x; i < R; i += latent_threads) squares += from[i] * from[i];
  const float scale = 1.0f / sqrtf(block_sum(squares) / R + p.norm.epsilon);
  for (int i = threadIdx.x; i < R; i += latent_threads) store(row[i], from[i] * scale * p.norm.weight[i]);
  rotate<Interleaved>(p.rope, position, from + R, row + R, threadIdx.x, latent_threads);
}
// [latents]

template <class To, class Query>
void queue_latents(const Latents& p, const To& to, const TurnedQueries<Query>& turned, cudaStream_t stream) {
  if (p.tokens.count == 0) return;
  launch({.grid = dim3(1 + p.heads, p.tokens.count), .block = latent_threads, .stream = stream, .early = true}, latents_kernel<To, Query>, p, to, turned);
}

constexpr int copy_threads = 128;

template <class T>
__global__ void __launch_bounds__(copy_threads) append_expanded_kernel(const ExpandedAppend<T> p) {
  const int h = blockIdx.x, n = blockIdx.y, plain = p.plain_width, D = plain + p.rope_width, W = p.value_width;
  const int sequence = p.tokens.sequences[n], position = p.tokens.positions[n];
  const float* both = p.expanded + (std::size_t(n) * p.heads + h) * (plain + W);
  const float* rotated = p.latents + std::size_t(n) * (p.rank + p.rope_width) + p.rank;
  T* key = p.keys.row(sequence, position) + h * D;
  T* value = p.values.row(sequence, position) + h * W;
  for (int i = threadIdx.x; i < D; i += copy_threads) store(key[i], i < plain ? both[i] : rotated[i - plain]);
  for (int i = threadIdx.x; i < W; i += copy_threads) store(value[i], both[plain + i]);
}

}  // namespace

template <class T>
void append_heads(const GroupedAppend<T>& problem, cudaStream_t stream) {
  if (problem.tokens.count == 0) return;
  const dim3 grid(problem.query_heads + 2 * problem.key_value_heads, problem.tokens.count);
  launch({grid, warp_threads, 0, stream}, append_heads_kernel<T>, problem);
}
template void append_heads(const GroupedAppend<float>&, cudaStream_t);
template void append_heads(const GroupedAppend<bf16>&, cudaStream_t);

template <class T, class Query>
void append_latents(const Latents& problem, const StoredRows<T>& cache, const TurnedQueries<Query>& turned, cudaStream_t stream) {
  queue_latents(problem, ToCache<T>{cache}, turned, stream);
}
template void append_latents(const Latents&, const CacheRows&, const TurnedQueries<float>&, cudaStream_t);
template void append_latents(const Latents&, const PagedRows&, const TurnedQueries<bf16>&, cudaStream_t);
template void append_latents(const Latents&, const PagedRows&, const TurnedQueries<float>&, cudaStream_t);
void make_latents(const Latents& problem, float* latents, const TurnedQueries<float>& turned, cudaStream_t stream) {
  queue_latents(problem, ToRow{latents, problem.norm.width + problem.rope.width}, turned, stream);
}

template <class T>
void append_expanded(const ExpandedAppend<T>& problem, cudaStream_t stream) {
  if (problem.tokens.count == 0) return;
  const dim3 grid(problem.heads, problem.tokens.count);
  launch({grid, copy_threads, 0, stream}, append_expanded_kernel<T>, problem);
}
template void append_expanded(const ExpandedAppend<float>&, cudaStream_t);
template void append_expanded(const ExpandedAppend<bf16>&, cudaStream_t);

}  // namespace kv::cuda

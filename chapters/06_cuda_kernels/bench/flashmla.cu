#include "chapters/06_cuda_kernels/bench/flashmla.hpp"

#if defined(KV_FLASHMLA)  // nvcc, and a checkout
#include <algorithm>
#include <numbers>

#include "common/cuda/memory.hpp"
#include "sm90/decode/dense/splitkv_mla.h"
#include "smxx/decode/combine/combine.h"
#include "smxx/decode/get_decoding_sched_meta/get_decoding_sched_meta.h"

namespace kv::cuda {
namespace {

constexpr int tile_heads = 64;    // of a block of its kernel
constexpr int sequence_cost = 5;  // what its schedule charges for starting a sequence, in pages

/// FlashMLA's parameters are not const, though it only reads these.
template <class T>
T* unconst(const T* data) {
  return const_cast<T*>(data);
}

}  // namespace

struct FlashMlaDecode::State {
  int parts;                           // into which all sequences together are cut; a part has a block for each tile of heads
  Buffer<DecodingSchedMeta> schedule;  // (parts)
  Buffer<int> first_splits;            // (B+1), into the two below
  Buffer<float> outputs, lse;          // (B+parts,H,512), (B+parts,H), of sequences that are cut
};

bool has_flashmla() { return true; }
std::string flashmla_commit() { return KV_FLASHMLA_COMMIT; }

FlashMlaDecode::FlashMlaDecode(const MlaDecode& problem, int multiprocessors) : state_(new State) {
  State& s = *state_;
  s.parts = std::max(multiprocessors / ((problem.heads + tile_heads - 1) / tile_heads), 1);
  const std::size_t split_rows = (std::size_t(problem.batch) + s.parts) * problem.heads;
  s.schedule = Buffer<DecodingSchedMeta>(s.parts), s.first_splits = Buffer<int>(problem.batch + 1);
  s.outputs = Buffer<float>(split_rows * value_width), s.lse = Buffer<float>(split_rows);

  GetDecodeSchedMetaParams request{};
  request.b = problem.batch, request.s_q = 1;
  request.block_size_n = page_tokens, request.fixed_overhead_num_blocks = sequence_cost;
  request.topk = request.extra_topk = -1;  // dense
  request.seqlens_k_ptr = unconst(problem.lengths);
  request.tile_scheduler_metadata_ptr = s.schedule.data(), request.num_splits_ptr = s.first_splits.data();
  request.num_sm_parts = s.parts;
  smxx::decode::run_get_decoding_sched_meta_kernel(request);
  check(cudaDeviceSynchronize(), "FlashMLA's schedule");
}

FlashMlaDecode::~FlashMlaDecode() = default;

void FlashMlaDecode::queue(const MlaDecode& problem, cudaStream_t stream) {
  State& s = *state_;
  const int heads = problem.heads, output_size = heads * value_width;

  DenseAttnDecodeParams decode{};  // strides in elements
  decode.b = problem.batch, decode.s_q = 1;
  decode.h_q = decode.q_head_per_hk = decode.q_seq_per_hk = heads, decode.h_k = 1;
  decode.d = latent_width, decode.d_v = value_width;
  decode.scale_softmax = problem.scale, decode.scale_softmax_log2 = problem.scale * std::numbers::log2e_v<float>;
  decode.q_ptr = unconst(problem.queries), decode.k_ptr = unconst(problem.latents);
  decode.o_ptr = problem.output, decode.softmax_lse_ptr = problem.lse;
  decode.q_batch_stride = heads * latent_width, decode.q_row_stride = decode.q_head_stride = latent_width;
  decode.k_batch_stride = page_tokens * latent_width, decode.k_row_stride = decode.k_head_stride = latent_width;
  decode.o_batch_stride = decode.o_head_stride = output_size, decode.o_row_stride = value_width;
  decode.num_blocks = problem.pages, decode.page_block_size = page_tokens;
  decode.block_table = unconst(problem.block_table), decode.block_table_batch_stride = problem.table_width;
  decode.seqlens_k_ptr = unconst(problem.lengths);
  decode.tile_scheduler_metadata_ptr = s.schedule.data(), decode.num_sm_parts = s.parts;
  decode.num_splits_ptr = s.first_splits.data(), decode.total_num_splits = problem.batch + s.parts;
  decode.oaccum_ptr = s.outputs.data(), decode.softmax_lseaccum_ptr = s.lse.data();
  decode.stream = stream;
  sm90::run_flash_splitkv_mla_kernel<cutlass::bfloat16_t>(decode);

  CombineParams combine{};
  combine.b = problem.batch, combine.s_q = 1, combine.h_q = heads, combine.d_v = value_width;
  combine.out = problem.output, combine.lse = problem.lse;
  combine.stride_o_b = combine.stride_o_s_q = output_size, combine.stride_o_h_q = value_width;
  combine.stride_lse_b = combine.stride_lse_s_q = heads;
  combine.o_accum = s.outputs.data(), combine.lse_accum = s.lse.data();
  combine.stride_o_accum_split = combine.stride_o_accum_s_q = output_size, combine.stride_o_accum_h_q = value_width;
  combine.stride_lse_accum_split = combine.stride_lse_accum_s_q = heads;
  combine.tile_scheduler_metadata_ptr = s.schedule.data(), combine.num_sm_parts = s.parts;
  combine.num_splits_ptr = s.first_splits.data();
  combine.stream = stream;
  smxx::decode::run_flash_mla_combine_kernel<cutlass::bfloat16_t>(combine);
}

}  // namespace kv::cuda

#else

namespace kv::cuda {

struct FlashMlaDecode::State {};
bool has_flashmla() { return false; }
std::string flashmla_commit() { return ""; }
FlashMlaDecode::FlashMlaDecode(const MlaDecode&, int) { throw CudaError("this program is built without FlashMLA"); }
FlashMlaDecode::~FlashMlaDecode() = default;
void FlashMlaDecode::queue(const MlaDecode&, cudaStream_t) {}

}  // namespace kv::cuda

#endif

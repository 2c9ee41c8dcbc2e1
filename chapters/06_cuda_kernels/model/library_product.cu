#include "chapters/06_cuda_kernels/model/library_product.hpp"

#if defined(KV_CUBLAS)  // nvcc, and a toolkit that has it
#include <memory>

#include "chapters/06_cuda_kernels/model/high_low.hpp"
#include "common/cuda/cublas_lt.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 256;

/// Device memory between two moments of a stream; a recorded graph may hold it.
template <class T>
class StreamMemory {
 public:
  StreamMemory(std::size_t count, cudaStream_t stream) : stream_(stream) {
    check(cudaMallocAsync(&data_, count * sizeof(T), stream), "StreamMemory");
  }
  ~StreamMemory() { cudaFreeAsync(data_, stream_); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  cudaStream_t stream_;
};

/// @param stride even, of the rows of high and low; zeros behind the columns
__global__ void __launch_bounds__(threads) split_kernel(const RowsIn x, int columns, int stride, bf16* high, bf16* low) {
  const float* row = x.data + std::size_t(blockIdx.y) * x.stride;
  const int i = 2 * (blockIdx.x * threads + threadIdx.x);
  if (i >= stride) return;
  const HighLow two = split(i < columns ? row[i] : 0.0f, i + 1 < columns ? row[i + 1] : 0.0f);
  const std::size_t at = std::size_t(blockIdx.y) * stride + i;
  *reinterpret_cast<std::uint32_t*>(high + at) = two.high;
  *reinterpret_cast<std::uint32_t*>(low + at) = two.low;
}

/// Outputs 2f and 2f + 1 of each row, a gate and its partner.
__global__ void __launch_bounds__(threads) gate_kernel(const float* sums, int outputs, const Gated results) {
  const int o = 2 * (blockIdx.x * threads + threadIdx.x);
  const float* row = sums + std::size_t(blockIdx.y) * outputs;
  if (o < outputs) results.store(blockIdx.y, o, true, row[o], row[o + 1]);
}

dim3 pairs(int columns, int rows) { return dim3((columns / 2 + threads - 1) / threads, rows); }

cublasLtHandle_t library() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    check(cublasLtCreate(&made), "cublasLtCreate");
    return made;
  }();
  return handle;
}

using Description = std::unique_ptr<cublasLtMatmulDescOpaque_t, decltype(&cublasLtMatmulDescDestroy)>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, decltype(&cublasLtMatrixLayoutDestroy)>;
Layout layout(cudaDataType_t type, int rows, int columns, int stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, type, rows, columns, stride), "cublasLtMatrixLayoutCreate");
  return Layout(made, cublasLtMatrixLayoutDestroy);
}

}  // namespace

bool has_library_product() { return true; }

// [library]
/// The library counts columns first, so our rows are its columns, and y = x W^T is y^T = W x^T.
void library_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y,
                    cudaStream_t stream) {
  const int inputs = weights.stride(), outputs = weights.rows();
  const std::size_t numbers = std::size_t(rows) * inputs;
  const StreamMemory<bf16> high(numbers, stream), low(numbers, stream);
  launch({pairs(inputs, rows), threads, 0, stream}, split_kernel, x, weights.columns(), inputs,
         high.data(), low.data());

  cublasLtMatmulDesc_t made = nullptr;
  check(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
  const Description product(made, cublasLtMatmulDescDestroy);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed), "TRANSA");
  const Layout w = layout(CUDA_R_16BF, inputs, outputs, inputs);
  const Layout part = layout(CUDA_R_16BF, inputs, rows, inputs);
  const Layout sums = layout(CUDA_R_32F, outputs, rows, y.stride);
  const float one = 1.0f, zero = 0.0f;
  const auto add = [&](const bf16* x_part, const float& so_far) {
    check(cublasLtMatmul(library(), made, &one, weights.view<bf16>().data, w.get(), x_part,
                         part.get(), &so_far, y.data, sums.get(), y.data, sums.get(), nullptr,
                         nullptr, 0, stream),
          "cublasLtMatmul");
  };
  add(low.data(), zero);  // the small ones first
  add(high.data(), one);
}
// [library]

void library_gated_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  const int outputs = weights.rows();
  const StreamMemory<float> sums(std::size_t(rows) * outputs, stream);
  library_linear(weights, x, rows, {sums.data(), outputs}, stream);
  launch({pairs(outputs, rows), threads, 0, stream}, gate_kernel, sums.data(), outputs, Gated{y});
}

}  // namespace kv::cuda

#else

namespace kv::cuda {

bool has_library_product() { return false; }
void library_linear(const Matrix&, const RowsIn&, int, const RowsOut&, cudaStream_t) {
  throw CudaError("this program is built without cuBLASLt");
}
void library_gated_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  library_linear(weights, x, rows, y, stream);
}

}  // namespace kv::cuda

#endif

#include "chapters/06_cuda_kernels/bench/cublas.hpp"

#if defined(KV_CUBLAS)  // nvcc, and a toolkit that has it
#include "chapters/06_cuda_kernels/bench/random.hpp"
#include "common/cuda/cublas_lt.hpp"

namespace kv::cuda {
namespace {

constexpr std::size_t workspace_bytes = 64 << 20;

}  // namespace

struct CublasProduct::State {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t layout = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t choice{};
  Buffer<bf16> a, b, c;
  Buffer<std::byte> workspace{workspace_bytes};

  ~State() {
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (layout) cublasLtMatrixLayoutDestroy(layout);
    if (product) cublasLtMatmulDescDestroy(product);
    if (handle) cublasLtDestroy(handle);
  }
};

bool has_cublas() { return true; }

CublasProduct::CublasProduct(int size) : state_(new State) {
  State& s = *state_;
  try {
    const std::size_t count = std::size_t(size) * size;
    s.a = Buffer<bf16>(count), s.b = Buffer<bf16>(count), s.c = Buffer<bf16>(count);
    fill_random(s.a.data(), count, 1.0f, 1, nullptr);
    fill_random(s.b.data(), count, 1.0f, 2, nullptr);
    check(cudaDeviceSynchronize(), "CublasProduct");
    check(cublasLtCreate(&s.handle), "cublasLtCreate");
    check(cublasLtMatmulDescCreate(&s.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(s.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "TRANSA");
    check(cublasLtMatrixLayoutCreate(&s.layout, CUDA_R_16BF, size, size, size), "cublasLtMatrixLayoutCreate");
    check(cublasLtMatmulPreferenceCreate(&s.preference), "cublasLtMatmulPreferenceCreate");
    check(cublasLtMatmulPreferenceSetAttribute(s.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                               sizeof workspace_bytes),
          "MAX_WORKSPACE_BYTES");
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(s.handle, s.product, s.layout, s.layout, s.layout, s.layout, s.preference, 1, &s.choice,
                                         &found),
          "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) throw CudaError("cublasLt: no algorithm for a square product of bf16");
  } catch (...) {
    delete state_;
    throw;
  }
}

CublasProduct::~CublasProduct() { delete state_; }

void CublasProduct::queue(cudaStream_t stream) {
  State& s = *state_;
  const float one = 1.0f, zero = 0.0f;
  check(cublasLtMatmul(s.handle, s.product, &one, s.a.data(), s.layout, s.b.data(), s.layout, &zero, s.c.data(), s.layout,
                       s.c.data(), s.layout, &s.choice.algo, s.workspace.data(), workspace_bytes, stream),
        "cublasLtMatmul");
}

}  // namespace kv::cuda

#else

namespace kv::cuda {

struct CublasProduct::State {};
bool has_cublas() { return false; }
CublasProduct::CublasProduct(int) : state_(nullptr) { throw CudaError("this program is built without cuBLAS"); }
CublasProduct::~CublasProduct() = default;
void CublasProduct::queue(cudaStream_t) {}

}  // namespace kv::cuda

#endif

#include "common/cuda/tensor_map.hpp"

#include <string>

#include "common/cuda/launch.hpp"

namespace kv::cuda {
namespace {

void require(bool condition, const char* what) {
  if (!condition) throw CudaError(std::string("make_tensor_map: ") + what);
}

void require_legal(const bf16* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, int box_rows) {
  require(reinterpret_cast<std::uintptr_t>(data) % 16 == 0, "the matrix must be aligned to 16 bytes");
  require(rows > 0 && columns > 0, "the matrix has no elements");
  require(row_stride >= columns && row_stride % 8 == 0, "the row stride must be a multiple of 8 and at least a row");
  require(box_rows >= 1 && box_rows <= 256, "a box has 1 to 256 rows");
}

}  // namespace

#if defined(__CUDACC__)

namespace {

/// The driver's function, found at run time: the program starts on machines without a driver too.
auto encode_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
        "make_tensor_map");
  require(function != nullptr && found == cudaDriverEntryPointSuccess, "the driver is too old for TMA");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

TensorMap make_tensor_map(const bf16* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                          int box_rows) {
  require_legal(data, rows, columns, row_stride, box_rows);
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_stride) * sizeof(bf16)};
  const cuuint32_t box[] = {tensor_box_columns, static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  TensorMap map;
  const CUresult result = encode_function()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(data), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "the driver refuses this matrix");
  return map;
}

#else

TensorMap make_tensor_map(const bf16* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                          int box_rows) {
  require_legal(data, rows, columns, row_stride, box_rows);
  static_assert(sizeof(bf16) == sizeof(std::uint16_t));
  return {reinterpret_cast<const std::uint16_t*>(data), rows, columns, row_stride, box_rows};
}

#endif

}  // namespace kv::cuda

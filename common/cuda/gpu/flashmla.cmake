# FlashMLA's dense decode kernel for Hopper, compiled from a checkout that is not part of this book: a yardstick for
# gpu-bench. Without KV_FLASHMLA there is none.
set(KV_FLASHMLA "" CACHE PATH "A checkout of FlashMLA, for gpu-bench to measure beside the ladder")
set(KV_CUTLASS "" CACHE PATH "The CUTLASS that it is compiled with; empty: its own, in csrc/cutlass")
set(KV_FLASHMLA_COMMIT "" CACHE STRING "Which commit it is, for the report; empty: git is asked")
if(NOT KV_FLASHMLA)
  return()
endif()

set(flashmla ${KV_FLASHMLA}/csrc)
set(cutlass ${KV_CUTLASS})
if(NOT cutlass)
  set(cutlass ${flashmla}/cutlass)
endif()
foreach(file ${flashmla}/sm90/decode/dense/instantiations/bf16.cu ${cutlass}/include/cutlass/cutlass.h)
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "KV_FLASHMLA: ${file} does not exist. KV_FLASHMLA is to be the root of a checkout of FlashMLA, and "
                        "KV_CUTLASS that of CUTLASS, where the submodule csrc/cutlass is empty.")
  endif()
endforeach()
set(commit "${KV_FLASHMLA_COMMIT}")
if(NOT commit AND EXISTS ${KV_FLASHMLA}/.git)   # a folder without it may lie within a repository of something else
  execute_process(COMMAND git -C ${KV_FLASHMLA} rev-parse --short HEAD
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()

add_library(flashmla STATIC
  ${flashmla}/sm90/decode/dense/instantiations/bf16.cu
  ${flashmla}/smxx/decode/combine/combine.cu
  ${flashmla}/smxx/decode/get_decoding_sched_meta/get_decoding_sched_meta.cu)
set_target_properties(flashmla PROPERTIES CUDA_ARCHITECTURES 90a-real)   # on other devices gpu-bench skips it
target_include_directories(flashmla SYSTEM PUBLIC
  ${flashmla} ${flashmla}/kerutils/include ${flashmla}/sm90 ${cutlass}/include ${cutlass}/tools/util/include)
# The flags of its setup.py that change what is compiled.
target_compile_definitions(flashmla PRIVATE NDEBUG _USE_MATH_DEFINES FLASH_MLA_DISABLE_FP16)
target_compile_options(flashmla PRIVATE -O3 --expt-relaxed-constexpr --expt-extended-lambda --use_fast_math
  --ptxas-options=--register-usage-level=10 -lineinfo -w)

target_link_libraries(kv_cuda_gpu PUBLIC flashmla)
target_compile_definitions(kv_cuda_gpu PRIVATE KV_FLASHMLA KV_FLASHMLA_COMMIT="${commit}")

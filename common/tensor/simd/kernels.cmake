# One kernel source, compiled once for each instruction set; the widest one is chosen at run time.
# Always optimised: without it a debug build would take minutes for what takes a second. There is no tensor in here and
# nothing to check, so programs and tests share one build.
include(CheckCXXCompilerFlag)
set(KV_KERNEL_FLAGS -O3 -ffp-contract=off -fno-math-errno)
# Under a sanitizer accesses are watched; with checks of arithmetic too, GCC 12 needs more than ten minutes for these files.
# Fuzzers watch nothing here, where no file is read. These flags stand behind those of all files, or they would say nothing.
if(KV_SANITIZE STREQUAL "fuzzer")
  list(APPEND KV_KERNEL_FLAGS -fno-sanitize=all)
elseif(KV_SANITIZE)
  list(APPEND KV_KERNEL_FLAGS -fno-sanitize=undefined)
  if(KV_SANITIZE STREQUAL "address" AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # A call for each access in place of its code: slower to run, and a minute for each file in place of five.
    list(APPEND KV_KERNEL_FLAGS --param=asan-instrumentation-with-call-threshold=0)
  endif()
endif()

add_library(kv_common_tensor_simd STATIC
  common/tensor/simd/instruction_set.cpp common/tensor/simd/matrix_instructions.cpp common/tensor/simd/kernels_portable.cpp)
add_library(kv_common_tensor_simd_checked ALIAS kv_common_tensor_simd)
target_link_libraries(kv_common_tensor_simd PUBLIC kv_flags)
set_source_files_properties(common/tensor/simd/kernels_portable.cpp PROPERTIES COMPILE_OPTIONS "${KV_KERNEL_FLAGS}")

set(KV_AVX2_FLAGS -mavx2 -mfma -mf16c)
set(KV_AVX512_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl ${KV_AVX2_FLAGS})
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND KV_AVX512_FLAGS -Wno-uninitialized -Wno-maybe-uninitialized)  # GCC 12 warns about its own header
endif()

# kv_matrix_kernels(SOURCE DEFINITION FLAG...): kernels on instructions beyond AVX-512, where the compiler knows them.
function(kv_matrix_kernels source definition)
  string(REPLACE ";" " " flags "${ARGN}")
  check_cxx_compiler_flag("${flags}" HAVE_${definition})
  if(HAVE_${definition})
    target_sources(kv_common_tensor_simd PRIVATE ${PROJECT_SOURCE_DIR}/common/tensor/simd/${source}.cpp)
    set_source_files_properties(common/tensor/simd/${source}.cpp PROPERTIES
      COMPILE_OPTIONS "${KV_KERNEL_FLAGS};${KV_AVX512_FLAGS};${ARGN}")
    set_property(SOURCE common/tensor/simd/matrix_instructions.cpp APPEND PROPERTY COMPILE_DEFINITIONS ${definition})
  endif()
endfunction()

check_cxx_compiler_flag("-mavx512f -mavx512vl -mfma -mf16c" KV_HAVE_X86_FLAGS)
if(KV_HAVE_X86_FLAGS AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_sources(kv_common_tensor_simd PRIVATE
    common/tensor/simd/kernels_avx2.cpp common/tensor/simd/kernels_avx512.cpp)
  set_source_files_properties(common/tensor/simd/kernels_avx2.cpp PROPERTIES
    COMPILE_OPTIONS "${KV_KERNEL_FLAGS};${KV_AVX2_FLAGS}")
  set_source_files_properties(common/tensor/simd/kernels_avx512.cpp PROPERTIES
    COMPILE_OPTIONS "${KV_KERNEL_FLAGS};${KV_AVX512_FLAGS}")
  set_source_files_properties(common/tensor/simd/instruction_set.cpp PROPERTIES COMPILE_DEFINITIONS KV_X86_KERNELS)
  kv_matrix_kernels(tiles_amx KV_AMX_KERNELS -mamx-tile -mamx-bf16)
  kv_matrix_kernels(pairs_avx512_bf16 KV_BF16_KERNELS -mavx512bf16)
  kv_matrix_kernels(integers_avx512_vnni KV_VNNI_KERNELS -mavx512vnni)
  kv_matrix_kernels(codes_avx512_vnni KV_VNNI_KERNELS -mavx512vnni)
endif()

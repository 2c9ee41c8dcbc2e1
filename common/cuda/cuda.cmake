# The .cu files are built twice: by the C++ compiler for the CPU, always (kv_cuda_cpu), and by nvcc for the GPU where it
# works (kv_cuda_gpu, in common/cuda/gpu). A program links one of the two, never both: they define the same functions.
# Both are object libraries, because chapters and .cu files call each other.
set(KV_CUDA AUTO CACHE STRING "Build the .cu files for the GPU too: AUTO (where nvcc works), ON or OFF")
set_property(CACHE KV_CUDA PROPERTY STRINGS AUTO ON OFF)

# kv_compile_on_cpu(FILE...): lets the C++ compiler compile .cu files named in this folder's CMake code.
function(kv_compile_on_cpu)
  set(files ${ARGN})
  list(FILTER files INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${files} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++;-Wno-unknown-pragmas")
endfunction()

# The CPU runtime, in four builds:
#   kv_simt          plain
#   kv_simt_tsan     finds races: a missing barrier, a missing wait
#   kv_simt_asan     finds accesses outside of global and shared memory, and misaligned ones
#   kv_simt_traffic  counts requests, sectors and bank conflicts (common/cuda/simt/traffic.hpp), and finds stores that TMA
#                    or wgmma need not see (common/cuda/simt/proxy.hpp)
# Who links one is compiled to match. The runtime itself is instrumented for addresses only.
file(GLOB KV_SIMT_SOURCES CONFIGURE_DEPENDS common/cuda/simt/*.cpp common/cuda/*.cu)
list(FILTER KV_SIMT_SOURCES EXCLUDE REGEX "traffic\\.cpp$")
list(TRANSFORM KV_SIMT_SOURCES REPLACE "^([^/].*)$" "${PROJECT_SOURCE_DIR}/\\1")
kv_compile_on_cpu(${KV_SIMT_SOURCES})

add_library(kv_simt STATIC ${KV_SIMT_SOURCES})
target_link_libraries(kv_simt PUBLIC kv_flags)
target_compile_options(kv_simt PRIVATE -O3)   # also in a debug build: fibers are slow enough

if(KV_SANITIZE)  # what runs kernels among other things; kernels alone have the builds that follow
  target_compile_definitions(kv_simt PUBLIC $<IF:$<STREQUAL:${KV_SANITIZE},thread>,SIMT_TSAN,SIMT_ASAN>)
  if(KV_SANITIZE STREQUAL "thread")  # of the sources, because a target's own options stand before those that it inherits
    set_property(SOURCE ${KV_SIMT_SOURCES} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=thread -fno-tree-loop-distribute-patterns)
  endif()
endif()

add_library(kv_simt_tsan STATIC EXCLUDE_FROM_ALL ${KV_SIMT_SOURCES})
target_compile_definitions(kv_simt_tsan PUBLIC SIMT_TSAN)
# A loop of the runtime must not become a call of memset, which ThreadSanitizer would take for the kernel's.
target_compile_options(kv_simt_tsan PRIVATE -O2 -fno-tree-loop-distribute-patterns INTERFACE -O1 -g -fsanitize=thread)
target_link_options(kv_simt_tsan INTERFACE -fsanitize=thread)

set(KV_ASAN_FLAGS -g -fno-omit-frame-pointer -fsanitize=address,alignment -fno-sanitize-recover=all)
add_library(kv_simt_asan STATIC EXCLUDE_FROM_ALL ${KV_SIMT_SOURCES})
target_compile_definitions(kv_simt_asan PUBLIC SIMT_ASAN)
target_compile_options(kv_simt_asan PUBLIC -O1 ${KV_ASAN_FLAGS})
target_link_options(kv_simt_asan INTERFACE ${KV_ASAN_FLAGS})

add_library(kv_simt_traffic STATIC EXCLUDE_FROM_ALL ${KV_SIMT_SOURCES} ${PROJECT_SOURCE_DIR}/common/cuda/simt/traffic.cpp)
target_compile_definitions(kv_simt_traffic PUBLIC SIMT_TRAFFIC)
# The passes that are off would split a 16-byte load into four, and merge or move accesses as no GPU compiler does.
target_compile_options(kv_simt_traffic PRIVATE -O2 INTERFACE -O1 -g -fsanitize=thread -fno-tree-sra)
target_link_libraries(kv_simt_traffic PRIVATE ${CMAKE_DL_LIBS})
foreach(mode tsan asan traffic)
  target_link_libraries(kv_simt_${mode} PUBLIC kv_flags)
endforeach()

# kv_add_simt_executable(NAME MODE FILE...): a program from .cu and .cpp files on the CPU runtime. MODE is plain, tsan,
# asan or traffic. All kernels that it runs are among the FILEs.
function(kv_add_simt_executable name mode)
  kv_compile_on_cpu(${ARGN})
  add_executable(${name} ${ARGN})
  if(mode STREQUAL "plain")
    target_link_libraries(${name} PRIVATE kv_simt)
  else()
    target_link_libraries(${name} PRIVATE kv_simt_${mode})
  endif()
  kv_link(${name} _checked NONE ${ARGN} ${PROJECT_SOURCE_DIR}/common/cuda/simt/grid.cpp)
endfunction()

# ThreadSanitizer of GCC 12 does not start under wide address randomisation: switch that off where we may.
find_program(KV_SETARCH setarch)
set(KV_FIXED_ADDRESSES "")
if(KV_SETARCH)
  execute_process(COMMAND ${KV_SETARCH} -R true RESULT_VARIABLE refused OUTPUT_QUIET ERROR_QUIET)
  if(NOT refused)
    set(KV_FIXED_ADDRESSES ${KV_SETARCH} -R)
  endif()
endif()

# The book's kernels, for the CPU.
file(GLOB KV_CUDA_SOURCES CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/chapters/[0-9]*/*.cu ${PROJECT_SOURCE_DIR}/chapters/[0-9]*/*/*.cu)
set(KV_CUDA_EXERCISES ${KV_CUDA_SOURCES})
list(FILTER KV_CUDA_EXERCISES INCLUDE REGEX "/exercises/")
list(FILTER KV_CUDA_SOURCES EXCLUDE REGEX "/exercises/")
kv_take_places(KV_CUDA_SOURCES)
kv_compile_on_cpu(${KV_CUDA_SOURCES} ${KV_CUDA_EXERCISES})
set(KV_KERNEL_FILES ${KV_CUDA_SOURCES} ${PROJECT_SOURCE_DIR}/common/cuda/simt/grid.cpp)
foreach(build "" _checked)
  add_library(kv_cuda_cpu${build} OBJECT EXCLUDE_FROM_ALL ${KV_CUDA_SOURCES})
  target_link_libraries(kv_cuda_cpu${build} PUBLIC kv_flags${build} kv_simt)
  kv_precompile(kv_cuda_cpu${build} "${build}")
endforeach()
if(KV_CUDA_EXERCISES)
  add_library(kv_cuda_exercises OBJECT EXCLUDE_FROM_ALL ${KV_CUDA_EXERCISES})  # part of no program
  target_link_libraries(kv_cuda_exercises PUBLIC kv_flags kv_simt)
endif()

# nvcc: found, and able to compile. KV_NVCC_WORKS says so to the rest of the build.
set(KV_NVCC_WORKS OFF)
if(NOT KV_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "KV_CUDA is '${KV_CUDA}': AUTO, ON or OFF")
endif()
if(NOT KV_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE)   # an earlier NOTFOUND: look again
  endif()
  # check_language tries a compiler that CUDACXX names, but trusts one that CMAKE_CUDA_COMPILER names.
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(KV_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda/bin /opt/cuda/bin)
    if(KV_NVCC)
      set(ENV{CUDACXX} "${KV_NVCC}")
    endif()
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80;90a;120" CACHE STRING "A100; H100, H200; RTX 50")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE version ERROR_QUIET)
    if(version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.8)  # the first that knows sm_120
      set(KV_NVCC_WORKS ON)
    endif()
  endif()
  if(KV_NVCC_WORKS)
    enable_language(CUDA)
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)        # CMake 3.25 does not know C++20 in CUDA
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: GPU programs too, for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(KV_CUDA STREQUAL "ON")
    message(FATAL_ERROR "KV_CUDA=ON, but no nvcc of CUDA 12.8 or later works here. Set CMAKE_CUDA_COMPILER or CUDACXX to "
                        "its path, or leave KV_CUDA at AUTO to build for the CPU only.")
  else()
    message(STATUS "nvcc: not found, or does not work: GPU programs skipped")
  endif()
endif()

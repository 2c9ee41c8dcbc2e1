# kernel_bench: how close the tensor core comes to the machine's limits. Not a test; build it with --target kernel_bench.
add_executable(kernel_bench EXCLUDE_FROM_ALL
  ${CMAKE_CURRENT_LIST_DIR}/kernel_bench.cpp ${CMAKE_CURRENT_LIST_DIR}/kernel_report.cpp ${CMAKE_CURRENT_LIST_DIR}/limits.cpp
  ${PROJECT_SOURCE_DIR}/docs/measure/report.cpp ${PROJECT_SOURCE_DIR}/docs/measure/plot.cpp)
kv_link(kernel_bench "" NONE ${CMAKE_CURRENT_LIST_DIR}/kernel_bench.cpp)
find_path(KV_OPENBLAS_INCLUDE cblas-openblas.h)  # optional: what a library makes of the same products without any order
find_library(KV_OPENBLAS openblas)
if(KV_OPENBLAS_INCLUDE AND KV_OPENBLAS)
  target_include_directories(kernel_bench PRIVATE ${KV_OPENBLAS_INCLUDE})
  target_compile_definitions(kernel_bench PRIVATE KV_OPENBLAS)
  target_link_libraries(kernel_bench PRIVATE ${KV_OPENBLAS})
endif()
set(KV_LIMIT_FLAGS -O3 -ffast-math -ffp-contract=fast -march=native -Wno-psabi)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND KV_LIMIT_FLAGS -mprefer-vector-width=512)
endif()
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/limits.cpp PROPERTIES COMPILE_OPTIONS "${KV_LIMIT_FLAGS}")

# long_decode: decode behind a long text, which nobody has to read for it.
add_executable(long_decode EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/long_decode.cpp ${CMAKE_CURRENT_LIST_DIR}/limits.cpp
  ${PROJECT_SOURCE_DIR}/docs/measure/report.cpp ${PROJECT_SOURCE_DIR}/docs/measure/plot.cpp)
kv_link(long_decode "" kv_cuda_cpu ${CMAKE_CURRENT_LIST_DIR}/long_decode.cpp)

# make_synthetic: a checkpoint of true shapes with random weights, to measure speed and memory on. See README.md.
add_executable(make_synthetic EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/make_synthetic.cpp)
kv_link(make_synthetic "" kv_cuda_cpu ${CMAKE_CURRENT_LIST_DIR}/make_synthetic.cpp)

# How many instructions some work needs, as a test: the one measure of speed that is the same on every day.
add_executable(counted_work ${CMAKE_CURRENT_LIST_DIR}/counted_work.cpp)
kv_link(counted_work "" kv_cuda_cpu ${CMAKE_CURRENT_LIST_DIR}/counted_work.cpp)
add_dependencies(chapter_common counted_work)
add_test(NAME "instruction counts" COMMAND ${CMAKE_CURRENT_LIST_DIR}/count_instructions
         $<TARGET_FILE:counted_work> ${CMAKE_CURRENT_LIST_DIR}/instructions.txt)
set_tests_properties("instruction counts" PROPERTIES SKIP_RETURN_CODE 77 LABELS common)

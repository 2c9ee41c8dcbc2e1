# The program that makes the book's numbers and figures. Not part of `all`: docs/measure/run builds and runs it.
file(GLOB KV_MEASURE_SOURCES CONFIGURE_DEPENDS docs/measure/*.cpp)
add_executable(kvbook-measure EXCLUDE_FROM_ALL ${KV_MEASURE_SOURCES})
target_compile_definitions(kvbook-measure PRIVATE ${KV_DATA})
kv_link(kvbook-measure "" kv_cuda_cpu ${KV_MEASURE_SOURCES})

# Figures of what scripts have measured.
add_executable(kvbook-draw EXCLUDE_FROM_ALL docs/measure/draw/draw.cpp docs/measure/plot.cpp)
kv_link(kvbook-draw "" kv_cuda_cpu docs/measure/draw/draw.cpp docs/measure/plot.cpp)

# The tables of chapter 6: memory traffic is counted by a build of its own.
file(GLOB KV_LADDER_TABLE_SOURCES CONFIGURE_DEPENDS chapters/06_cuda_kernels/ladder/*.cu)
kv_add_simt_executable(ladder_tables traffic docs/measure/cuda/ladder_tables.cpp docs/measure/cuda/ladder_figures.cpp docs/measure/plot.cpp
  tests/support/mla_cases.cpp ${KV_LADDER_TABLE_SOURCES})
set_target_properties(ladder_tables PROPERTIES EXCLUDE_FROM_ALL ON)

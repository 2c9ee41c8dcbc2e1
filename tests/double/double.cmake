# The source files of chapter 4 and what they stand on, compiled once more with every float a double.
# The rooms, linked behind them, only give what has no floats in it: JSON, threads, shapes.
set(KV_DOUBLE_SOURCES
  common/model/attention.cpp common/tensor/rms_norm.cpp common/tensor/rope.cpp
  chapters/01_uncached_attention/attend.cpp chapters/01_uncached_attention/attend_shared.cpp
  chapters/01_uncached_attention/head_projection.cpp chapters/01_uncached_attention/row_source.cpp
  chapters/03_preallocated_cache/head_cache.cpp chapters/03_preallocated_cache/preallocated_attention.cpp)
file(GLOB KV_LATENT_SOURCES RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/chapters/04_*/*.cpp)
list(APPEND KV_DOUBLE_SOURCES ${KV_LATENT_SOURCES})
list(TRANSFORM KV_DOUBLE_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/)
kv_add_test(04_latent_cache_double double/04_latent_cache_double.cpp double/kernels.cpp ${KV_DOUBLE_SOURCES})
set_target_properties(04_latent_cache_double PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)
target_compile_options(04_latent_cache_double PRIVATE "SHELL:-include ${CMAKE_CURRENT_SOURCE_DIR}/double/prelude.hpp")

# The runtime's own builds for tests: kernels under ThreadSanitizer, under AddressSanitizer, and with their memory
# traffic counted.

# kv_add_simt_test(NAME MODE FILE...): a Catch2 program in one of the modes of kv_add_simt_executable, run by CTest with
# label 06. FILEs: the tests, and all .cu files that they need; kernels are instrumented only in FILEs.
function(kv_add_simt_test name mode)
  kv_add_simt_executable(${name} ${mode} ${ARGN})
  target_link_libraries(${name} PRIVATE Catch2::Catch2WithMain)
  add_dependencies(chapter_06 ${name})
  set(prefix "")
  if(mode STREQUAL "tsan")
    set(prefix ${KV_FIXED_ADDRESSES})
  endif()
  add_test(NAME ${name} COMMAND ${prefix} $<TARGET_FILE:${name}>)
  set_tests_properties(${name} PROPERTIES LABELS 06
    ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1 atexit_sleep_ms=0"
    SKIP_REGULAR_EXPRESSION "ThreadSanitizer: unexpected memory mapping")  # an old one, a new kernel, no setarch
endfunction()

# The planted bugs, in the builds that find them. 06_planted_bugs_test runs them.
foreach(mode plain tsan asan traffic)
  kv_add_simt_executable(planted_bugs_${mode} ${mode} ${CMAKE_CURRENT_LIST_DIR}/planted_bugs.cu)
  target_compile_definitions(06_planted_bugs_test PRIVATE KV_PLANTED_BUGS="$<TARGET_FILE_DIR:planted_bugs_plain>/planted_bugs_")
  add_dependencies(06_planted_bugs_test planted_bugs_${mode})
endforeach()
string(JOIN " " fixed_addresses ${KV_FIXED_ADDRESSES})
target_compile_definitions(06_planted_bugs_test PRIVATE KV_FIXED_ADDRESSES="${fixed_addresses}")

# The primitives' tests are correct kernels: the sanitizers must be silent about them.
kv_add_simt_test(06_primitives_tsan tsan ${CMAKE_CURRENT_SOURCE_DIR}/06_primitives_test.cu)
kv_add_simt_test(06_primitives_asan asan ${CMAKE_CURRENT_SOURCE_DIR}/06_primitives_test.cu)
kv_add_simt_test(06_traffic traffic ${CMAKE_CURRENT_LIST_DIR}/traffic.cu ${CMAKE_CURRENT_SOURCE_DIR}/06_primitives_test.cu)

# A kernel must not depend on the order in which threads and blocks get their turn.
foreach(order 1 2)
  add_test(NAME 06_primitives_order_${order} COMMAND 06_primitives_test)
  set_tests_properties(06_primitives_order_${order} PROPERTIES LABELS 06 ENVIRONMENT SIMT_ORDER=${order})
endforeach()

# The ladder: nothing to find for the sanitizers, the traffic that its rungs promise, the same bits in any order.
file(GLOB KV_LADDER_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/chapters/06_cuda_kernels/ladder/*.cu)
kv_take_places(KV_LADDER_SOURCES)
list(APPEND KV_LADDER_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/support/mla_cases.cpp)
kv_add_simt_test(06_ladder_tsan tsan ${CMAKE_CURRENT_LIST_DIR}/ladder_sanitized.cpp ${KV_LADDER_SOURCES})
kv_add_simt_test(06_ladder_asan asan ${CMAKE_CURRENT_LIST_DIR}/ladder_sanitized.cpp ${KV_LADDER_SOURCES})
kv_add_simt_test(06_ladder_traffic traffic ${CMAKE_CURRENT_LIST_DIR}/ladder_traffic.cpp
  ${CMAKE_CURRENT_LIST_DIR}/ladder_sanitized.cpp ${KV_LADDER_SOURCES})
kv_add_simt_test(06_ladder_order plain ${CMAKE_CURRENT_LIST_DIR}/ladder_order.cpp ${KV_LADDER_SOURCES})

# The model's kernels: no races, nothing read or written outside, right in any order.
file(GLOB KV_MODEL_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/chapters/06_cuda_kernels/model/*.cu)
list(FILTER KV_MODEL_SOURCES EXCLUDE REGEX "_attention\\.cu$|device_model\\.cu$|latent_down\\.cu$|_layers\\.cu$")  # lists of launches
list(PREPEND KV_MODEL_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/06_model_kernels_test.cu)
kv_add_simt_test(06_model_races tsan ${KV_MODEL_SOURCES})
kv_add_simt_test(06_model_asan asan ${KV_MODEL_SOURCES})
file(GLOB KV_STEP_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/chapters/06_cuda_kernels/model/*.cu
  ${PROJECT_SOURCE_DIR}/chapters/06_cuda_kernels/ladder/*.cu)
kv_take_places(KV_STEP_SOURCES)
kv_add_simt_test(06_steps_races tsan ${CMAKE_CURRENT_LIST_DIR}/steps_sanitized.cpp ${KV_STEP_SOURCES})
foreach(order 1 2)
  add_test(NAME 06_model_order_${order} COMMAND 06_model_kernels_test)
  set_tests_properties(06_model_order_${order} PROPERTIES LABELS 06 ENVIRONMENT SIMT_ORDER=${order})
endforeach()

/// @file
/// Linked into the tests that nvcc builds: without a CUDA device they are skipped, and say so.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using Listener = Catch::EventListenerBase;
#else
#include <catch2/catch.hpp>
using Listener = Catch::TestEventListenerBase;
#endif
#include <cstdio>
#include <cstdlib>

#include "common/cuda/device_properties.hpp"

namespace {

constexpr int skipped = 77;  // CTest's SKIP_RETURN_CODE

struct RequireDevice : Listener {
  using Listener::Listener;
  void testRunStarting(const Catch::TestRunInfo&) override {
    if (kv::cuda::device_available()) return;
    std::puts("skipped: no CUDA device");
    std::fflush(stdout);
    std::_Exit(skipped);
  }
};
CATCH_REGISTER_LISTENER(RequireDevice)

}  // namespace

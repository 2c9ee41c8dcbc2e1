/// @file
/// A barrier that is missing, a wait that is missing, an access that goes too far: each is found by the CPU runtime, in
/// the build that looks for it, and the corrected kernel passes in silence. The kernels: tests/cuda/planted_bugs.cu.
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/program.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace {

struct Bug {
  std::string name, message;
};

const std::string race = "ThreadSanitizer: data race";

/// Found in the plain build: by the runtime itself, or by a wrong result that no order of turns can hide.
const std::vector<Bug> found_by_runtime{
    {"divergent_barrier", "divergent __syncthreads: thread 63 is at line"},
    {"barrier_in_a_branch", "deadlock in block 0,0,0: threads 0 to 15 wait for __syncthreads at planted_bugs.cu:"},
    {"named_barrier_disagreement", "named barrier: threads disagree about its thread count at planted_bugs.cu:"},
    {"hand_over_too_few", "threads 32 to 63 wait for named barrier 1 at planted_bugs.cu:"},
    {"hand_over_no_empty", "named barrier: a thread arrives again before the others have come at planted_bugs.cu:"},
    {"hand_over_disagreement", "named barrier: threads disagree about its thread count at planted_bugs.cu:"},
    {"mask_names_exited_lanes", "warp operation: the mask names a lane that has exited at planted_bugs.cu:"},
    {"lane_outside_of_its_mask", "warp operation: the calling lane is not in its own mask at planted_bugs.cu:"},
    {"masks_disagree", "warp operation: lanes disagree about the mask at planted_bugs.cu:"},
    {"operations_disagree", "warp operation: lanes of one mask are in different operations at planted_bugs.cu:"},
    {"shuffle_from_outside_the_mask", "wrong result: out[0] is NaN"},
    {"uninitialised_shared", "wrong result: out[0] is NaN"},
    {"copy_no_wait", "wrong result: out[0] is NaN"},
    {"copy_wait_for_too_few", "wrong result: out[0] is NaN"},
    {"copy_no_commit", "wrong result: out[0] is NaN"},
    {"copy_exit_before_wait", "the thread exits with cp.async copies that it never waited for at planted_bugs.cu:"},
    {"copy_misaligned", "cp.async: addresses are multiples of 16 at planted_bugs.cu:"},
    {"box_no_wait", "wrong result: out[0] is NaN"},
    {"box_nobody_waits", "block 0,0,0 ends with TMA copies that nobody waited for"},
    {"box_too_few_bytes", "wait for an mbarrier (0 arrivals and -4096 bytes missing) at planted_bugs.cu:"},
    {"box_no_init", "mbarrier: used before mbarrier_init at planted_bugs.cu:"},
    {"box_no_init_done", "tma_load: nobody has let TMA see the mbarrier, by mbarrier_init_done of the thread that init"},
    {"box_init_done_first", "tma_load: nobody has let TMA see the mbarrier, by mbarrier_init_done of the thread that init"},
    {"box_too_many_arrivals", "mbarrier: more arrivals than it was initialised for at planted_bugs.cu:"},
    {"box_misaligned", "tma_load: the box starts at a multiple of 1024 at planted_bugs.cu:"},
    {"pipeline_no_wgmma_wait", "wrong result: out[0] is NaN"},
    {"pipeline_no_fence", "wgmma: no wgmma_fence since the thread may have touched D or A at planted_bugs.cu:"},
    {"pipeline_exit_before_wait", "the thread exits with wgmmas that it never waited for at planted_bugs.cu:"},
    {"pipeline_outside", "wgmma: an operand leaves dynamic shared memory at planted_bugs.cu:"},
    {"peer_no_first_sync", "mbarrier: of another block, and no cluster_sync since its mbarrier_init at planted_bugs.cu:"},
    {"peer_no_last_sync", "wrong result: out[0] is NaN"},
    {"peer_arrives_too_late", "cluster: the block of that rank has ended, and its shared memory with it at planted_bugs.cu:"},
    {"peer_static_variable", "cluster: only what lies in dynamic shared memory can be found in another block at planted_bugs"},
    {"peer_no_such_rank", "cluster: there is no block of that rank at planted_bugs.cu:"},
    {"share_no_init_sync", "mbarrier: of another block, and no cluster_sync since its mbarrier_init at planted_bugs.cu:"},
    {"share_expects_own_bytes", "block 0,0,0 ends with TMA copies that nobody waited for"},
    {"share_no_such_rank", "cluster: there is no block of that rank at planted_bugs.cu:"},
    {"share_nobody_waits", "block 0,0,0 ends with TMA copies that nobody waited for"},
    {"early_nobody_waits", "a grid was launched early, and none of its threads has waited for the last one"},
    {"flight_read", "wrong result: out[0] is NaN"},
    {"flight_scaled", "wgmma: D was written while a product was under way, before its wgmma_wait at planted_bugs.cu:"},
    {"flight_no_second_fence", "wgmma: no wgmma_fence since the thread may have touched D or A at planted_bugs.cu:"},
    {"flight_a_unfenced", "wgmma: no wgmma_fence since the thread may have touched D or A at planted_bugs.cu:"},
    {"flight_a_changed", "wgmma: A in registers was written while a product was under way, before its wgmma_wait at planted"},
};

const std::vector<Bug> found_by_tsan{
    {"missing_syncthreads", race}, {"missing_syncwarp", race},       {"shuffle_for_barrier", race},
    {"missing_second_barrier", race}, {"named_barrier_too_few", race}, {"race_of_threads", race},
    {"hand_over_arrives_to_read", race}, {"race_of_blocks", race}, {"last_block_adds_up", race},     {"copy_no_barrier", race},
    {"copy_overwrite", race},      {"box_no_wait", race},            {"box_init_unseen", race},
    {"peer_no_last_sync", race}, {"share_nobody_else_heard", race},
    {"early_reads", race}, {"early_writes", race},
    {"pipeline_early_release", race}, {"pipeline_no_empty_wait", race}, {"pipeline_no_full_wait", race},
};

const std::vector<Bug> found_by_asan{
    {"beyond_global_memory", "AddressSanitizer: heap-buffer-overflow"},
    {"beyond_dynamic_shared", "AddressSanitizer: heap-buffer-overflow"},
    {"beyond_static_shared", "AddressSanitizer: global-buffer-overflow"},
    {"misaligned_vector", "misaligned address"},
    {"peer_no_last_sync", "AddressSanitizer: use-after-poison"},
};

const std::vector<Bug> found_by_seeing_stores{
    {"proxy_product", "wgmma: reads what a thread has stored without fence_proxy_async at planted_bugs.cu:"},
    {"proxy_second_store", "wgmma: reads what a thread has stored without fence_proxy_async at planted_bugs.cu:"},
    {"proxy_box", "tma_load: overwrites what a thread has stored without fence_proxy_async at planted_bugs.cu:"},
};

Finished run_planted(const std::string& mode, const std::string& name, const std::string& version) {
  std::vector<std::string> words;
  if (mode == "tsan") {
    std::istringstream prefix(KV_FIXED_ADDRESSES);
    for (std::string word; prefix >> word;) words.push_back(word);
    setenv("TSAN_OPTIONS", "halt_on_error=1 atexit_sleep_ms=0", 1);  // by itself it waits a second at the end
  }
  words.insert(words.end(), {KV_PLANTED_BUGS + mode, name, version});
  return run_program(words);
}

void check_found(const std::string& mode, const Bug& bug) {
  CAPTURE(mode, bug.name);
  const Finished wrong = run_planted(mode, bug.name, "wrong");
  if (holds(wrong.err, "ThreadSanitizer: unexpected memory mapping")) {
    WARN("skipped: ThreadSanitizer does not start here");
    return;
  }
  CAPTURE(wrong.err);
  CHECK(wrong.exit_code != 0);
  CHECK(holds(wrong.err, bug.message));
  const Finished right = run_planted(mode, bug.name, "right");
  CHECK(right.exit_code == 0);
  CHECK(right.err == "");
}

}  // namespace

TEST_CASE("mistakes that the CPU runtime finds", "[cuda]") {
  for (const Bug& bug : found_by_runtime) check_found("plain", bug);
}

TEST_CASE("mistakes that the race detector finds", "[cuda]") {
  for (const Bug& bug : found_by_tsan) check_found("tsan", bug);
}

TEST_CASE("mistakes that the address sanitizer finds", "[cuda]") {
  for (const Bug& bug : found_by_asan) check_found("asan", bug);
}

TEST_CASE("mistakes that the build which sees every store finds", "[cuda]") {
  for (const Bug& bug : found_by_seeing_stores) check_found("traffic", bug);
}

TEST_CASE("a mistake is found in whatever order threads get their turn", "[cuda]") {
  for (const std::string order : {"1", "5"}) {
    setenv("SIMT_ORDER", order.c_str(), 1);
    for (const char* name : {"copy_no_wait", "box_no_wait", "mask_names_exited_lanes", "masks_disagree"}) {
      CAPTURE(order, name);
      const Finished wrong = run_planted("plain", name, "wrong");
      CHECK(wrong.exit_code != 0);
      CHECK(run_planted("plain", name, "right").exit_code == 0);
    }
    for (const char* name : {"missing_syncwarp", "race_of_blocks", "pipeline_early_release", "pipeline_no_empty_wait"})
      check_found("tsan", {name, race});
    unsetenv("SIMT_ORDER");
  }
}

#include "common/cuda/simt/traffic.hpp"

#include <link.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <tuple>
#include <unistd.h>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/cuda_runtime.hpp"
#include "common/cuda/simt/proxy.hpp"

extern char __bss_start, _end;  // where the program's plain variables lie, by the linker

namespace simt {
namespace {

constexpr std::uintptr_t sector_bytes = 32, word_bytes = 4;
constexpr unsigned banks = 32;
using Piece = std::pair<std::uintptr_t, std::size_t>;  // address, bytes

/// Where in the program: an instruction's address, or a file and line that the runtime was given.
struct Site {
  std::uintptr_t instruction = 0;
  const char* file = nullptr;
  unsigned line = 0;
  auto operator<=>(const Site&) const = default;
};

struct Key {
  Site site;
  bool shared, store;
  const char* allocation;
  auto operator<=>(const Key&) const = default;
};

/// Bytes that were touched, as a set of ranges.
class Touched {
 public:
  void add(std::uintptr_t first, std::uintptr_t last) {
    auto next = ranges_.upper_bound(first);
    if (next != ranges_.begin() && std::prev(next)->second >= first) --next;
    while (next != ranges_.end() && next->first <= last) {
      first = std::min(first, next->first);
      last = std::max(last, next->second);
      next = ranges_.erase(next);
    }
    ranges_[first] = last;
  }
  void add(const Touched& other) {
    for (const auto& [first, last] : other.ranges_) add(first, last);
  }
  long bytes() const {
    long sum = 0;
    for (const auto& [first, last] : ranges_) sum += static_cast<long>(last - first);
    return sum;
  }

 private:
  std::map<std::uintptr_t, std::uintptr_t> ranges_;
};

struct Sum {
  Access access;
  Touched touched;
  void add(const Sum& other) {
    access.requests += other.access.requests;
    access.bytes += other.access.bytes;
    access.sectors += other.access.sectors;
    access.wavefronts += other.access.wavefronts;
    touched.add(other.touched);
  }
  Access result() const {
    Access counted = access;
    counted.unique_bytes = touched.bytes();
    return counted;
  }
};

/// What each thread of the block has done at one place, in order.
using Lanes = std::array<std::vector<Piece>, max_threads>;

struct Counter {
  bool on = false;
  std::map<Key, Lanes> block;  ///< of the block that is running
  std::map<Key, Sum> total;
};

Counter& counter() {
  static Counter one;
  return one;
}

/// The sectors that one request touches.
long sectors_of(const std::vector<Piece>& request) {
  std::set<std::uintptr_t> sectors;
  for (const auto& [address, bytes] : request)
    for (std::uintptr_t at = address / sector_bytes; at <= (address + bytes - 1) / sector_bytes; ++at) sectors.insert(at);
  return static_cast<long>(sectors.size());
}

/// Lanes take turns where together they ask for more than 128 bytes: halves of a warp for 8 bytes each, quarters for
/// 16. In a turn, different words of one bank come one after the other.
long wavefronts_of(const std::vector<Piece>& request) {
  std::size_t widest = word_bytes;
  for (const Piece& piece : request) widest = std::max(widest, piece.second);
  const std::size_t lanes_in_turn = warp_size * word_bytes / widest;
  long wavefronts = 0;
  for (std::size_t first = 0; first < request.size(); first += lanes_in_turn) {
    std::set<std::uintptr_t> words;
    for (std::size_t lane = first; lane < std::min(first + lanes_in_turn, request.size()); ++lane)
      for (std::uintptr_t at = request[lane].first / word_bytes;
           at <= (request[lane].first + request[lane].second - 1) / word_bytes; ++at)
        words.insert(at);
    std::array<long, banks> different{};
    for (const std::uintptr_t word : words) ++different[word % banks];
    wavefronts += *std::max_element(different.begin(), different.end());
  }
  return wavefronts;
}

void add_request(const Key& key, const std::vector<Piece>& request) {
  Sum& sum = counter().total[key];
  ++sum.access.requests;
  for (const auto& [address, bytes] : request) {
    sum.access.bytes += static_cast<long>(bytes);
    sum.touched.add(address, address + bytes);
  }
  if (key.shared)
    sum.access.wavefronts += wavefronts_of(request);
  else
    sum.access.sectors += sectors_of(request);
}

/// The lanes' t-th accesses at one place make the t-th request of the warp.
void add_warp(const Key& key, const Lanes& lanes, unsigned first) {
  std::size_t times = 0;
  for (unsigned lane = first; lane < first + warp_size; ++lane) times = std::max(times, lanes[lane].size());
  for (std::size_t t = 0; t < times; ++t) {
    std::vector<Piece> request;
    for (unsigned lane = first; lane < first + warp_size; ++lane)
      if (t < lanes[lane].size()) request.push_back(lanes[lane][t]);
    add_request(key, request);
  }
}

bool is_shared(const void* address) {
  const char* byte = static_cast<const char*>(address);
  const char* dynamic = dynamic_shared();
  return (byte >= dynamic && byte < dynamic + dynamic_shared_bytes()) || (byte >= &__bss_start && byte < &_end);
}

void count(const void* address, std::size_t bytes, bool store, const Site& site) {
  Counter& all = counter();
  if (!all.on || !in_kernel()) return;
  const bool shared = is_shared(address);
  const char* allocation = shared ? nullptr : allocation_of(address).data;
  if (!shared && !allocation) return;  // a local variable
  all.block[{site, shared, store, allocation}][Block::current()->self().number].push_back(
      {reinterpret_cast<std::uintptr_t>(address), bytes});
}

void note(const void* address, std::size_t bytes, bool store, void* instruction) {
  count(address, bytes, store, {reinterpret_cast<std::uintptr_t>(instruction), nullptr, 0});
  if (store && in_kernel()) note_store(address, bytes);
}

// ---- from instructions to lines ------------------------------------------------------------------------------------

/// How far the program was moved when it was loaded.
std::uintptr_t load_offset() {
  std::uintptr_t offset = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* result) {
        *static_cast<std::uintptr_t*>(result) = info->dlpi_addr;
        return 1;  // the first is the program itself
      },
      &offset);
  return offset;
}

std::pair<std::string, int> split_line(std::string text) {
  text = text.substr(0, text.find_first_of(" \n"));
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos) return {text, 0};
  std::string file = text.substr(0, colon);
  file = file.substr(file.rfind('/') + 1);
  return {file, std::atoi(text.c_str() + colon + 1)};
}

/// Asks addr2line for the line of an instruction, of the kernel rather than of the headers that it inlines.
std::pair<std::string, int> line_of(const Site& site) {
  if (site.file) return split_line(std::string(site.file) + ":" + std::to_string(site.line));
  char command[128];
  std::snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%lx", static_cast<int>(getpid()),
                static_cast<unsigned long>(site.instruction - 1 - load_offset()));
  std::pair<std::string, int> found{"?", 0};
  if (std::FILE* lines = popen(command, "r")) {
    char line[1024];
    while (std::fgets(line, sizeof line, lines)) {
      found = split_line(line);
      if (!std::strstr(line, "common/cuda/")) break;
    }
    pclose(lines);
  }
  return found;
}

Sum& select(std::array<Sum, 4>& sums, const Key& key) { return sums[(key.shared ? 2 : 0) + (key.store ? 1 : 0)]; }

Traffic result() {
  std::map<std::tuple<std::string, int, bool, bool>, Sum> lines;
  std::map<const char*, std::array<Sum, 4>> buffers;
  std::map<Site, std::pair<std::string, int>> known;
  std::array<Sum, 4> sums;
  for (const auto& [key, sum] : counter().total) {
    auto place = known.find(key.site);
    if (place == known.end()) place = known.emplace(key.site, line_of(key.site)).first;
    lines[{place->second.first, place->second.second, key.shared, key.store}].add(sum);
    select(sums, key).add(sum);
    if (key.allocation) select(buffers[key.allocation], key).add(sum);
  }
  Traffic traffic;
  for (const auto& [key, sum] : lines)
    traffic.lines.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), std::get<3>(key), sum.result()});
  for (const auto& [data, of] : buffers) traffic.buffers.push_back({data, of[0].result(), of[1].result()});
  traffic.global_loads = sums[0].result(), traffic.global_stores = sums[1].result();
  traffic.shared_loads = sums[2].result(), traffic.shared_stores = sums[3].result();
  return traffic;
}

}  // namespace

void end_block_traffic() {
  Counter& all = counter();
  for (const auto& [key, lanes] : all.block)
    for (unsigned first = 0; first < max_threads; first += warp_size) add_warp(key, lanes, first);
  all.block.clear();
}

void count_access(const void* address, std::size_t bytes, bool store, const Where& where) {
  count(address, bytes, store, {0, where.file_name(), where.line()});
}

// One request per row: the copy engine is no warp, but it moves sectors too.
void count_bulk_read(const void* address, std::size_t bytes, const Where& where) {
  count(address, bytes, false, {0, where.file_name(), where.line()});
}

void count_bulk_write(const void* address, std::size_t bytes, const Where& where) {
  for (std::size_t row = 0; row < bytes; row += 128)
    count(static_cast<const char*>(address) + row, 128, true, {0, where.file_name(), where.line()});
}

Traffic measure_traffic(const std::function<void()>& launches) {
  Counter& all = counter();
  all.total.clear(), all.block.clear();
  all.on = true;
  launches();
  all.on = false;
  return result();
}

Access Traffic::loads_of(const void* allocation) const {
  for (const Buffer& buffer : buffers)
    if (buffer.data == allocation) return buffer.loads;
  return {};
}

Access Traffic::stores_to(const void* allocation) const {
  for (const Buffer& buffer : buffers)
    if (buffer.data == allocation) return buffer.stores;
  return {};
}

std::string Traffic::text() const {
  std::string table;
  for (const LineTraffic& line : lines) {
    char row[256];
    const Access& access = line.access;
    if (line.shared)
      std::snprintf(row, sizeof row, "  shared %-5s %9ld requests  %5.1f wavefronts each  %s:%d\n",
                    line.store ? "store" : "load", access.requests, access.wavefronts_per_request(), line.file.c_str(),
                    line.line);
    else
      std::snprintf(row, sizeof row, "  global %-5s %9ld requests  %5.1f sectors each, %3.0f%% of their bytes used  %s:%d\n",
                    line.store ? "store" : "load", access.requests,
                    static_cast<double>(access.sectors) / static_cast<double>(access.requests), 100 * access.used(),
                    line.file.c_str(), line.line);
    table += row;
  }
  return table;
}

}  // namespace simt

// ---- what -fsanitize=thread calls ----------------------------------------------------------------------------------

#define SIMT_NOTE(bytes, store) simt::note(address, bytes, store, __builtin_return_address(0))
#define SIMT_ACCESS(bytes)                                                              \
  void __tsan_read##bytes(void* address) { SIMT_NOTE(bytes, false); }                   \
  void __tsan_write##bytes(void* address) { SIMT_NOTE(bytes, true); }                   \
  void __tsan_unaligned_read##bytes(void* address) { SIMT_NOTE(bytes, false); }         \
  void __tsan_unaligned_write##bytes(void* address) { SIMT_NOTE(bytes, true); }         \
  void __tsan_volatile_read##bytes(void* address) { SIMT_NOTE(bytes, false); }          \
  void __tsan_volatile_write##bytes(void* address) { SIMT_NOTE(bytes, true); }
// An atomic read-modify-write counts as a store.
#define SIMT_ATOMIC(bits, T)                                                                                          \
  T __tsan_atomic##bits##_load(const volatile T* address, int) { return __atomic_load_n(address, __ATOMIC_SEQ_CST); } \
  void __tsan_atomic##bits##_store(volatile T* address, T value, int) {                                               \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                               \
  }                                                                                                                   \
  T __tsan_atomic##bits##_exchange(volatile T* address, T value, int) {                                               \
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                                                   \
  T __tsan_atomic##bits##_fetch_add(volatile T* address, T value, int) {                                              \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                                   \
  T __tsan_atomic##bits##_fetch_sub(volatile T* address, T value, int) {                                              \
    return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                                   \
  T __tsan_atomic##bits##_fetch_and(volatile T* address, T value, int) {                                              \
    return __atomic_fetch_and(address, value, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                                   \
  T __tsan_atomic##bits##_fetch_or(volatile T* address, T value, int) {                                               \
    return __atomic_fetch_or(address, value, __ATOMIC_SEQ_CST);                                                       \
  }                                                                                                                   \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* address, T* expected, T value, int, int) {            \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);          \
  }                                                                                                                   \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* place, T* expected, T value, int, int) {                \
    T* address = const_cast<T*>(place);                                                                               \
    SIMT_NOTE(sizeof(T), true);                                                                                       \
    return __atomic_compare_exchange_n(address, expected, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);           \
  }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}
void __tsan_read_range(void* address, unsigned long bytes) { SIMT_NOTE(bytes, false); }
void __tsan_write_range(void* address, unsigned long bytes) { SIMT_NOTE(bytes, true); }
SIMT_ACCESS(1)
SIMT_ACCESS(2)
SIMT_ACCESS(4)
SIMT_ACCESS(8)
SIMT_ACCESS(16)
SIMT_ATOMIC(8, std::uint8_t)
SIMT_ATOMIC(16, std::uint16_t)
SIMT_ATOMIC(32, std::uint32_t)
SIMT_ATOMIC(64, std::uint64_t)
}

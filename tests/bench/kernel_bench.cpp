/// @file
/// How close the tensor core comes to what the machine can do: kernel_bench [--threads T] [--rounds R] [--isa NAME]
/// [--only TEXT] [--json | --book FOLDER --commit NAME].
///
/// Every timing stands between two of the machine's limits taken at once before and after, so that a busy neighbour (who
/// may halve the speed of a shared core) slows both; medians over the rounds. One thread is timed by its processor time,
/// several by the wall clock. A kernel's limit is the later of two: its multiplications at the measured peak, its bytes
/// of weights or rows at the measured bandwidth.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#ifdef KV_OPENBLAS
#include <cblas-openblas.h>
#endif

#include "chapters/01_uncached_attention/attend_shared.hpp"
#include "common/tensor/attention_sums.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/parallel.hpp"
#include "common/tensor/simd/instruction_set.hpp"
#include "common/tensor/softmax.hpp"
#include "tests/bench/kernel_report.hpp"
#include "tests/bench/limits.hpp"

namespace {

using namespace kv;

struct Options {
  index_t thread_count = 1;
  int rounds = 15;
  std::string isa, only, book, commit = "unknown";
  bool json = false;
};

/// Something to time. `run` does `operations` (2 for each multiply-add) and reads `bytes` from memory.
struct Item {
  std::string name;
  double operations, bytes;
  std::function<void()> run;
  std::vector<double> seconds = {}, shares = {};
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

double now(bool wall) {
  timespec time;
  clock_gettime(wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::vector<float> random_floats(index_t count) {
  static std::minstd_rand generator(7);
  std::vector<float> floats(count);
  for (float& value : floats) value = static_cast<float>(generator() % 2000) * 1e-3f - 1.0f;
  return floats;
}

/// Floats on huge pages, like the weights: otherwise the limit would lie below what it limits.
class HugeFloats {
 public:
  explicit HugeFloats(index_t count) : size_(count) {
    constexpr index_t page = index_t{2} << 20;
    const index_t bytes = (count * sizeof(float) + page - 1) / page * page;  // or the end would lie on small ones
    void* memory = nullptr;
    if (posix_memalign(&memory, page, bytes) != 0) throw std::bad_alloc();
#ifdef __linux__
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    data_.reset(static_cast<float*>(memory));
    std::ranges::copy(random_floats(count), data_.get());
  }
  float* data() const { return data_.get(); }
  index_t size() const { return size_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  index_t size_;
  std::unique_ptr<float, Free> data_;
};

/// Weights of one shape in one format: several copies, so that they come from memory and not from a cache. For the formats
/// that are compared with a kernel without order, as many plain matrices, each allocated after a packed one: where memory
/// lies decides on a few percent of the bandwidth.
struct Layers {
  static constexpr index_t inputs = 2048, outputs = 1408;
  std::vector<Linear> copies;
  std::vector<HugeFloats> plain;
  index_t turn = 0, plain_turn = 0;

  explicit Layers(DType type) {
    const index_t size = inputs * outputs;
    const std::vector<float> floats = random_floats(size);
    std::vector<std::byte> bytes(size * element_size(type));
    for (index_t i = 0; i < size; ++i) {
      const std::uint16_t half = type == DType::f16 ? to_f16(floats[i]) : to_bf16(floats[i]);
      if (type == DType::f32) std::memcpy(&bytes[4 * i], &floats[i], 4);
      else if (element_size(type) == 2) std::memcpy(&bytes[2 * i], &half, 2);
      else bytes[i] = static_cast<std::byte>(i * 37 % 127);
    }
    const std::vector<float> scales(16 * 11, 0.5f);
    const index_t copy_count = (200 << 20) / bytes.size() + 1;
    for (index_t i = 0; i < copy_count; ++i) {
      copies.emplace_back(MatrixView{bytes.data(), type, outputs, inputs, inputs, 1,
                                     type == DType::f8_e4m3 ? scales.data() : nullptr});
      if (!compared()) continue;
      plain.emplace_back(bytes.size() / sizeof(float));
      std::memcpy(plain.back().data(), bytes.data(), bytes.size());
    }
  }
  DType type() const { return copies[0].type(); }
  bool compared() const { return type() == DType::f32 || type() == DType::bf16; }
  const Linear& next() { return copies[turn++ % copies.size()]; }
  const float* next_plain() { return plain[plain_turn++ % plain.size()].data(); }
};

/// Memory that the items share.
struct Buffers {
  /// Some of the cache that was not touched for long: all items and the limit take turns through it, or one would find in the
  /// last cache what another has just read.
  const float* next(index_t count) {
    if (count > cache.size() - taken) taken = 0;
    taken += count;
    return cache.data() + taken - count;
  }

  HugeFloats x{512 * 2048}, y{512 * 1408}, cache{index_t{48} << 20};  // the cache has 192 MiB
  HugeFloats queries{128 * 576}, weights{128 * 8192}, out{128 * 8192};

 private:
  index_t taken = 0;
};

/// One row without any order to keep. Stands next to the kernel it is compared with, so that both meet the same minute.
Item unordered_row(Buffers& buffers, Layers& layers) {
  constexpr index_t K = Layers::inputs, N = Layers::outputs;
  const DType type = layers.type();
  const index_t bytes = K * N * element_size(type);
  return {"unordered " + std::string(name(type)) + " rows 1", 2.0 * 4 * K * N, 4.0 * static_cast<double>(bytes), [=, &buffers, &layers] {
            for (int i = 0; i < 4; ++i) {
              const float* w = layers.next_plain();
              if (type == DType::f32)
                bench::multiply_unordered(w, N, K, buffers.x.data(), buffers.y.data());
              else
                bench::multiply_unordered(reinterpret_cast<const std::uint16_t*>(w), N, K, buffers.x.data(), buffers.y.data());
            }
          }};
}

void add_linear(std::vector<Item>& items, Buffers& buffers, std::vector<Layers>& layers) {
  constexpr index_t K = Layers::inputs, N = Layers::outputs;
  for (Layers& layer : layers)
    for (const index_t rows : {1, 2, 4, 8, 14, 15, 24, 48, 128, 512}) {
      const DType type = layer.type();
      // Enough repetitions for a millisecond.
      const index_t repetitions = rows < 8 ? 4 : 1;
      items.push_back({"linear " + std::string(name(type)) + " rows " + std::to_string(rows),
                       2.0 * static_cast<double>(repetitions * rows * K * N),
                       static_cast<double>(repetitions * K * N * element_size(type)), [&buffers, &layer, rows, repetitions] {
                         for (index_t i = 0; i < repetitions; ++i)
                           layer.next().multiply(rows, buffers.x.data(), K, buffers.y.data(), N);
                       }});
      if (rows == 1 && layer.compared()) items.push_back(unordered_row(buffers, layer));
    }
}

/// Q queries over S cached rows of a given width: heads of 128, and latents of 576 whose first 512 are summed.
void add_attention(std::vector<Item>& items, Buffers& buffers) {
  struct Case { index_t queries, count, width, summed; };
  for (const Case c : {Case{1, 8192, 128, 128}, Case{4, 8192, 128, 128}, Case{1, 8192, 576, 512}, Case{16, 1024, 576, 512},
                       Case{16, 8192, 576, 512}, Case{128, 8192, 576, 512}}) {
    const std::string label = std::to_string(c.queries) + " x " + std::to_string(c.count) + " x ";
    const RowsView queries{buffers.queries.data(), c.width, c.queries, c.width};
    const RowsView weights{buffers.weights.data(), c.count, c.queries, c.count};
    const auto rows = [&buffers, c] { return RowsView{buffers.next(c.count * c.width), c.width, c.count, c.width}; };
    const index_t repetitions = c.width == 128 ? 4 : 1;  // or it would be over in a tenth of a millisecond
    const auto work = [&](index_t width) { return 2.0 * static_cast<double>(repetitions * c.queries * c.count * width); };
    const double bytes = 4.0 * static_cast<double>(repetitions * c.count * c.width);
    items.push_back({"dot_rows " + label + std::to_string(c.width), work(c.width), bytes, [=, &buffers] {
                       for (index_t i = 0; i < repetitions; ++i) dot_rows(queries, rows(), buffers.out.data(), c.count);
                     }});
    if (c.queries == 1 && c.width == 128)
      items.push_back({"unordered dot_rows 1 x 8192 x 128", 2.0 * 4 * 8192 * 128, 4.0 * 4 * 8192 * 128, [&buffers] {
                         for (int i = 0; i < 4; ++i)
                           bench::multiply_unordered(buffers.next(8192 * 128), 8192, 128, buffers.queries.data(), buffers.out.data());
                       }});
    items.push_back({"add_weighted_rows " + label + std::to_string(c.summed), work(c.summed), bytes * static_cast<double>(c.summed) / static_cast<double>(c.width),
                     [=, &buffers] {
                       for (index_t i = 0; i < repetitions; ++i) {
                         RowsView values = rows();
                         values.width = c.summed;
                         add_weighted_rows(weights, values, buffers.out.data(), c.summed);
                       }
                     }});
  }
  items.push_back({"softmax 8192", 0, 0, [&buffers] { softmax({buffers.weights.data(), 8192}); }});
}

/// The attention of one new token in one layer, as the chapters compute it: 16 heads that share latents, 4 that share keys and values.
void add_decode_attention(std::vector<Item>& items, Buffers& buffers) {
  struct Case { const char* name; index_t heads, width, summed; bool values_are_keys; };
  constexpr index_t S = 8192;
  for (const Case c : {Case{"attention 16 heads x 8192 latents of 576", 16, 576, 512, true}, Case{"attention 4 heads x 8192 rows of 128", 4, 128, 128, false}}) {
    const index_t size = S * (c.values_are_keys ? c.width : c.width + c.summed);
    items.push_back({c.name, 2.0 * static_cast<double>(c.heads * S * (c.width + c.summed)), 4.0 * static_cast<double>(size),
                     [=, &buffers, visible = std::vector<Visible>(c.heads, {0, S})] {
                       const float* rows = buffers.next(size);
                       const RowsView keys{rows, c.width, S, c.width};
                       const RowsView values{c.values_are_keys ? rows : rows + S * c.width, c.values_are_keys ? c.width : c.summed, S, c.summed};
                       const RowsView queries{buffers.queries.data(), c.width, c.heads, c.width};
                       const SharedQueries shared{queries, queries, visible, 0, buffers.out.data()};
                       attend_shared({&shared, 1}, ContiguousRows({keys, values}, 1));
                     }});
  }
}

#ifdef KV_OPENBLAS
/// Products of many rows by a library that promises no order: a prompt's layer, and the scores and sums of 16 queries.
void add_library(std::vector<Item>& items, Buffers& buffers, index_t thread_count) {
  openblas_set_num_threads(static_cast<int>(thread_count));
  struct Case { std::string name; int M, N, K; CBLAS_TRANSPOSE transposed; };
  constexpr int inputs = Layers::inputs, outputs = Layers::outputs;
  for (const Case& c : {Case{"library f32 rows 48", 48, outputs, inputs, CblasTrans}, Case{"library f32 rows 512", 512, outputs, inputs, CblasTrans},
                        Case{"library dot_rows 16 x 8192 x 576", 16, 8192, 576, CblasTrans},
                        Case{"library add_weighted_rows 16 x 8192 x 512", 16, 512, 8192, CblasNoTrans}}) {
    const int size = c.N * c.K, columns = c.transposed == CblasTrans ? c.K : c.N;
    items.push_back({c.name, 2.0 * c.M * c.N * c.K, 4.0 * size, [=, &buffers] {
                       const float* b = buffers.next(static_cast<index_t>(size));
                       const float* a = c.transposed == CblasTrans ? buffers.x.data() : buffers.weights.data();
                       cblas_sgemm(CblasRowMajor, CblasNoTrans, c.transposed, c.M, c.N, c.K, 1.0f, a, c.K, b, columns, 0.0f, buffers.out.data(), c.N);
                     }});
  }
}
#endif

/// The machine's limits, on all threads at once.
struct Limits {
  Buffers& buffers;
  index_t thread_count;
  std::vector<double> peaks = {}, bandwidths = {};  // FLOP/s, bytes/s

  Limits(Buffers& buffers, index_t thread_count) : buffers(buffers), thread_count(thread_count) {}

  void measure() {
    peaks.push_back(rate([](index_t) { return bench::multiply_add_registers(100000); }));
    const index_t bytes = std::min(index_t{16} << 20, buffers.cache.size() / thread_count * sizeof(float));
    const float* const data = buffers.next(thread_count * bytes / sizeof(float));
    bandwidths.push_back(rate([&](index_t thread) {
      sum += bench::read_all(reinterpret_cast<const std::byte*>(data) + thread * bytes, bytes);
      return static_cast<double>(bytes);
    }));
  }
  /// Seconds that the item needs at the limits of the last two measurements.
  double seconds(const Item& item) const {
    const index_t last = peaks.size() - 1;
    return std::max(item.operations * 2 / (peaks[last] + peaks[last - 1]),
                    item.bytes * 2 / (bandwidths[last] + bandwidths[last - 1]));
  }

 private:
  std::atomic<std::uint64_t> sum = 0;  // so that the reads are not optimised away

  template <class F>
  double rate(F work) {
    std::atomic<double> done = 0;
    const double start = now(thread_count > 1);
    parallel_for(thread_count, 1, [&](index_t first, index_t last) {
      for (index_t thread = first; thread < last; ++thread) done += work(thread);
    });
    return done / (now(thread_count > 1) - start);
  }
};

void print(const bench::MachineLimits& limits, const std::vector<bench::KernelResult>& results) {
  std::printf("%s, %zu thread(s): FMA peak %.1f GFLOP/s, stream read %.2f GB/s\n%-40s %10s %10s %10s %9s\n",
              limits.instruction_set.c_str(), threads(), limits.flop_per_s * 1e-9, limits.bytes_per_s * 1e-9, "kernel",
              "us", "GFLOP/s", "GB/s", "of limit");
  for (const bench::KernelResult& result : results)
    std::printf("%-40s %10.1f %10.2f %10.2f %8.0f%%\n", result.name.c_str(), result.seconds * 1e6,
                result.operations / result.seconds * 1e-9, result.bytes / result.seconds * 1e-9, result.share * 100);
}

Options parse(int count, char** values) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string option = values[i];
    const auto value = [&] { return i + 1 < count ? std::string(values[++i]) : std::string(); };
    if (option == "--json") options.json = true;
    else if (option == "--threads") options.thread_count = std::stoul(value());
    else if (option == "--rounds") options.rounds = std::stoi(value());
    else if (option == "--isa") options.isa = value();
    else if (option == "--only") options.only = value();
    else if (option == "--book") options.book = value();
    else if (option == "--commit") options.commit = value();
    else {
      std::fprintf(stderr, "kernel_bench: unknown option %s\n", option.c_str());
      std::exit(2);
    }
  }
  return options;
}

}  // namespace

int main(int count, char** values) {
  const Options options = parse(count, values);
  set_threads(options.thread_count);
  for (const InstructionSet set : available_instruction_sets())
    if (name(set) == options.isa) use_instruction_set(set);

  Buffers buffers;
  std::vector<Layers> layers;
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::i8}) layers.emplace_back(type);
  std::vector<Item> items;
  add_linear(items, buffers, layers);
  add_attention(items, buffers);
  add_decode_attention(items, buffers);
#ifdef KV_OPENBLAS
  add_library(items, buffers, options.thread_count);
#endif
  std::erase_if(items, [&](const Item& item) { return item.name.find(options.only) == std::string::npos; });

  Limits limits(buffers, options.thread_count);
  limits.measure();
  for (int round = -1; round < options.rounds; ++round)
    for (Item& item : items) {
      const double start = now(options.thread_count > 1);
      item.run();
      const double seconds = now(options.thread_count > 1) - start;
      limits.measure();
      if (round < 0) continue;  // warming up
      item.seconds.push_back(seconds);
      item.shares.push_back(limits.seconds(item) / seconds);
    }
  const bench::MachineLimits machine{std::string(name(instruction_set())), median(limits.peaks), median(limits.bandwidths)};
  std::vector<bench::KernelResult> results;
  for (const Item& item : items)
    results.push_back({item.name, median(item.seconds), item.operations, item.bytes, median(item.shares), item.seconds});
  if (options.json)
    std::puts(json(machine, results).c_str());
  else
    print(machine, results);
  if (!options.book.empty()) write_book(options.book, options.commit, machine, results);
}

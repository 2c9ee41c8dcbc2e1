#pragma once
/// @file
/// Ranks and what they say to each other. A rank computes a part of a model; all ranks run the same steps in the same
/// order, so that each collective is entered by everyone.
///
/// Letters of this chapter: p ranks, r one of them.
#include <cstdint>
#include <string>
#include <vector>

#include "common/files/error.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Another rank has failed, and says why: whoever waits for it stops waiting.
struct Aborted : Error {
  using Error::Error;
};

/// Bytes that a rank has sent to others, by the collective that sent them.
struct Traffic {
  std::uint64_t all_gather = 0, all_reduce = 0, all_to_all = 0, broadcast = 0;

  std::uint64_t total() const { return all_gather + all_reduce + all_to_all + broadcast; }
};

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

/// One rank's end of the line. Every collective is made of one exchange or two, so whoever can exchange (threads, MPI) has
/// them all, with the same bits and the same count of bytes.
class Communicator {
 public:
  virtual index_t rank() const = 0;
  virtual index_t ranks() const = 0;

  /// Says that this rank cannot go on. The others leave the collective they are in, or the next one, with Aborted.
  /// In MPI it ends the job and does not return.
  virtual void abort(const std::string& why) noexcept = 0;

  /// What every rank gives, one after the other, on every rank. Each sends its own part p-1 times.
  /// @param own this rank's numbers  @param all of which counts[r] numbers are rank r's, counts[rank()] as many as `own` has
  void all_gather(std::span<const float> own, std::span<const index_t> counts, std::span<float> all) {
    gather(own, counts, all, sent_.all_gather);
  }

  /// What is said to rank r is heard by it, whatever its length; lengths travel first, 8 bytes each.
  /// @param out a part for each rank  @return a part from each rank
  template <class T>
  std::vector<std::vector<T>> all_to_all(const std::vector<std::vector<T>>& out) {
    std::vector<ConstBytes> parts_out;
    for (const auto& part : out) parts_out.push_back(std::as_bytes(std::span(part)));
    std::vector<std::vector<T>> in;
    std::vector<Bytes> parts_in;
    for (const std::uint64_t bytes : lengths(parts_out)) in.emplace_back(bytes / sizeof(T));
    for (auto& part : in) parts_in.push_back(std::as_writable_bytes(std::span(part)));
    exchange(parts_out, parts_in, sent_.all_to_all);
    return in;
  }

  /// x becomes the sum over all ranks, ((x0 + x1) + x2) + ...: the same bits on every rank and in every run, but others for
  /// another number of ranks. Each rank adds up one p-th (all to all), then all gather it, as a ring does:
  /// \f$ 2\,\tfrac{p-1}{p} \f$ of x is sent by each.
  void all_reduce(std::span<float> x);

  /// What rank 0 has, everyone has.
  void broadcast(Bytes x);
  template <class T, class Allocator>
  void broadcast(std::vector<T, Allocator>& x) { broadcast(std::as_writable_bytes(std::span(x))); }

  /// Nobody leaves before everybody has come.
  void barrier();

  const Traffic& sent() const { return sent_; }

  virtual ~Communicator() = default;

 protected:
  /// Sends part r of `out` to rank r and fills part r of `in` from it; its own part is copied. Spans have the sizes that the
  /// other side expects.
  /// @throws Aborted
  virtual void exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in) = 0;

 private:
  void exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in, std::uint64_t& sent);
  /// Bytes that each rank is about to send to this one, which says as much of its own parts.
  std::vector<std::uint64_t> lengths(const std::vector<ConstBytes>& out);
  void gather(std::span<const float> own, std::span<const index_t> counts, std::span<float> all, std::uint64_t& sent);

  Traffic sent_;
};

/// Consecutive things out of many: rows of a matrix, heads, tokens.
struct Slice {
  index_t first = 0, count = 0;
  index_t end() const { return first + count; }
  /// Where each of these is `width` others: the rows of some heads.
  Slice times(index_t width) const { return {first * width, count * width}; }
  bool operator==(const Slice&) const = default;
};

/// How many of each rank.
std::vector<index_t> counts(const std::vector<Slice>& slices, index_t factor = 1);

/// Everyone's columns side by side.
/// @param own (N,w), w of them this rank's  @param slices of the columns, one for each rank  @return (N, all of them)
Tensor<2> gather_columns(Communicator& communicator, const Tensor<2>& own, const std::vector<Slice>& slices);

}  // namespace kv

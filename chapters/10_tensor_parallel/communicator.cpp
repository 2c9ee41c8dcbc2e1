#include "chapters/10_tensor_parallel/communicator.hpp"

namespace kv {
namespace {

/// Parts of x that lie one behind the other.
template <class T>
std::vector<Bytes> parts(std::span<T> x, std::span<const index_t> counts) {
  std::vector<Bytes> result;
  for (const index_t count : counts) {
    result.push_back(std::as_writable_bytes(x.first(count)));
    x = x.subspan(count);
  }
  return result;
}

}  // namespace

void Communicator::exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in, std::uint64_t& sent) {
  exchange(out, in);
  for (index_t r = 0; r < ranks(); ++r)
    if (r != rank()) sent += out[r].size();
}

std::vector<std::uint64_t> Communicator::lengths(const std::vector<ConstBytes>& out) {
  std::vector<std::uint64_t> own, theirs(ranks());
  for (const ConstBytes& part : out) own.push_back(part.size());
  const std::vector<index_t> one_each(ranks(), 1);
  const std::vector<Bytes> from = parts(std::span(own), one_each);
  exchange({from.begin(), from.end()}, parts(std::span(theirs), one_each), sent_.all_to_all);
  return theirs;
}

void Communicator::gather(std::span<const float> own, std::span<const index_t> counts,
                          std::span<float> all, std::uint64_t& sent) {
  exchange(std::vector<ConstBytes>(ranks(), std::as_bytes(own)), parts(all, counts), sent);
}

// [all_reduce]
void Communicator::all_reduce(std::span<float> x) {
  const index_t p = ranks();
  std::vector<index_t> counts;  // nearly equal shares
  for (index_t r = 0; r < p; ++r) counts.push_back(x.size() * (r + 1) / p - x.size() * r / p);
  const index_t own = counts[rank()];
  std::vector<float> received(p * own), sum(own);  // this rank's share as each rank has it
  const std::vector<Bytes> shares = parts(x, counts);
  exchange({shares.begin(), shares.end()},
           parts(std::span(received), std::vector<index_t>(p, own)), sent_.all_reduce);
  for (index_t i = 0; i < own; ++i) {
    sum[i] = received[i];
    for (index_t r = 1; r < p; ++r) sum[i] += received[r * own + i];
  }
  gather(sum, counts, x, sent_.all_reduce);
}
// [all_reduce]

void Communicator::broadcast(Bytes x) {
  std::vector<ConstBytes> out(ranks());
  std::vector<Bytes> in(ranks());
  if (rank() == 0) std::fill(out.begin() + 1, out.end(), x);
  if (rank() != 0) in[0] = x;
  exchange(out, in, sent_.broadcast);
}

void Communicator::barrier() { exchange(std::vector<ConstBytes>(ranks()), std::vector<Bytes>(ranks())); }

std::vector<index_t> counts(const std::vector<Slice>& slices, index_t factor) {
  std::vector<index_t> result;
  for (const Slice& slice : slices) result.push_back(slice.count * factor);
  return result;
}

Tensor<2> gather_columns(Communicator& communicator, const Tensor<2>& own, const std::vector<Slice>& slices) {
  const index_t N = own.shape(0), width = slices.back().end();
  require_shape("gather: own columns (N,w)", own, {N, slices.at(communicator.rank()).count});
  std::vector<float> blocks(N * width);  // of each rank, (N,w)
  communicator.all_gather({own.data(), own.size()}, counts(slices, N), blocks);
  Tensor<2> all = empty<2>({N, width});
  const float* next = blocks.data();
  for (const Slice& slice : slices)
    for (index_t n = 0; n < N; ++n, next += slice.count) std::copy_n(next, slice.count, row(all, n).data() + slice.first);
  return all;
}

}  // namespace kv

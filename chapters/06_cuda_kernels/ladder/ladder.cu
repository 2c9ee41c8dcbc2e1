#include "chapters/06_cuda_kernels/ladder/ladder.hpp"

#include <stdexcept>
#include <string>

namespace kv::cuda {

// [ladder]
std::span<const Rung> ladder() {
  static const Rung rungs[]{naive(), warp_per_token(), shared_tile(), all_heads(), split(),
                            tensor_cores(), tma(), eight_warps(), one_warpgroup(), two_warpgroups(),
                            wgmma(), queued(), cluster(), few_heads()};
  return rungs;
}
// [ladder]

const Rung& find_rung(std::string_view label) {
  std::string known;
  for (const Rung& rung : ladder()) {
    if (rung.label() == label) return rung;
    known.append(" ").append(rung.label());
  }
  throw std::invalid_argument("ladder: there is no rung " + std::string(label) + ", only" + known);
}

std::string why_not(const Rung& rung, const DeviceProperties& device) {
  if (device_is_cpu()) return "";  // the CPU runtime performs every instruction
  const std::string needs = std::string(rung.name) + " needs ";
  const auto capability = [](int number) { return std::to_string(number / 10) + "." + std::to_string(number % 10); };
  if (device.capability < rung.capability || (rung.only_there && device.capability != rung.capability))
    return needs + "compute capability " + capability(rung.capability) + (rung.only_there ? "" : " or later") + ", " +
           device.name + " has " + capability(device.capability);
  if (device.shared_bytes_per_block < rung.shared_bytes)
    return needs + std::to_string(rung.shared_bytes) + " bytes of shared memory for a block, " + device.name + " has " +
           std::to_string(device.shared_bytes_per_block);
  return "";
}

MlaDecodeOnDevice::MlaDecodeOnDevice(const MlaDecodeOnHost& host) : host_table_(host.block_table) {
  constexpr std::size_t page_size = page_tokens * latent_width;
  problem_ = {};
  problem_.batch = int(host.lengths.size()), problem_.heads = host.heads;
  problem_.pages = int(host.latents.size() / page_size), problem_.table_width = host.table_width;
  problem_.scale = host.scale;
  require_fit(problem_, host.lengths, host.block_table);
  const std::size_t rows = std::size_t(problem_.batch) * problem_.heads;
  require_size("queries (B,H,576)", host.queries.size(), rows * latent_width);
  require_size("latents (pages,64,576)", host.latents.size(), problem_.pages * page_size);

  queries_ = Buffer<bf16>(host.queries), latents_ = Buffer<bf16>(host.latents);
  lengths_ = Buffer<int>(host.lengths), block_table_ = Buffer<int>(host.block_table);
  output_ = Buffer<bf16>(rows * value_width), lse_ = Buffer<float>(rows);
  problem_.queries = queries_.data(), problem_.latents = latents_.data();
  problem_.lengths = lengths_.data(), problem_.block_table = block_table_.data();
  problem_.output = output_.data(), problem_.lse = lse_.data();
  poison();
}

void MlaDecodeOnDevice::set_lengths(std::span<const int> lengths) {
  require_fit(problem_, lengths, host_table_);
  lengths_.upload(lengths);
  check(cudaDeviceSynchronize(), "set_lengths");  // for whoever launches on a stream that does not wait for this one
}

void MlaDecodeOnDevice::poison() {
  if (output_.size() == 0) return;
  check(cudaMemset(output_.data(), 0xff, output_.size() * sizeof(bf16)), "poison");
  check(cudaMemset(lse_.data(), 0xff, lse_.size() * sizeof(float)), "poison");
  check(cudaDeviceSynchronize(), "poison");
}

Decoded decode(const Rung& rung, const MlaDecodeOnHost& host, int multiprocessors) {
  if (multiprocessors < 1) throw std::invalid_argument("mla_decode: needs at least one multiprocessor");
  const MlaDecodeOnDevice device(host);
  Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), multiprocessors));
  rung.launch(device.problem(), {workspace.data(), multiprocessors});
  return device.results();
}

}  // namespace kv::cuda

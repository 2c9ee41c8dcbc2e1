#pragma once
/// @file
/// A whole model on the device. Nothing here needs CUDA to be included.
#include <memory>
#include <span>
#include <vector>

#include "chapters/models/model_tensors.hpp"
#include "common/model/attention.hpp"
#include "common/text/token.hpp"

namespace kv::cuda {

/// A new row: a token of a sequence at its position. Tokens before it have been fed.
struct NewRow {
  Token token;
  index_t sequence, position;
};

/// Keeps a row of cache for each token of each sequence and trusts its caller to say which are valid: a row that is fed
/// again at an earlier position replaces what was there. An uncached model keeps none between calls: a sequence's rows
/// begin at position 0 in each.
class DeviceModel {
 public:
  struct Parts;
  explicit DeviceModel(Parts parts);
  ~DeviceModel();

  /// Feeds rows and computes the logits of some.
  /// @param rows (N), of a sequence ascending and without gaps  @param wanted places among them  @return (wanted.size(),V)
  /// @throws CudaError
  Tensor<2> logits(std::span<const NewRow> rows, std::span<const index_t> wanted);

  /// Feeds rows and chooses the most likely token after some, on the device. Arguments as for logits().
  /// @return (wanted.size())  @throws CudaError; Error where logits are no numbers
  std::vector<Token> most_likely(std::span<const NewRow> rows, std::span<const index_t> wanted);

  /// Feeds one row for each of some sequences, then `steps` - 1 times their next tokens, the most likely ones, without the host.
  /// @return (steps,N)  @throws std::invalid_argument for other rows, for an uncached model, and where a sequence has no room;
  /// Error where logits are no numbers; CudaError
  std::vector<Token> next_tokens(std::span<const NewRow> rows, index_t steps = 1);

  index_t vocabulary() const;
  /// Does a call know what was fed before?
  bool remembers() const;
  /// Bytes allocated for what is remembered.
  std::size_t cache_bytes() const;

 private:
  class Runner;
  std::unique_ptr<Runner> runner_;
};

/// Keys and values of all heads are kept.
std::unique_ptr<DeviceModel> make_naive_model(const ModelTensors& tensors, const Limits& limits);
/// The same, rounded to bf16.
std::unique_ptr<DeviceModel> make_bf16_model(const ModelTensors& tensors, const Limits& limits);
/// Nothing is kept: keys and values of all heads live as long as their layer runs.
std::unique_ptr<DeviceModel> make_uncached_model(const ModelTensors& tensors, const Limits& limits);
/// Latents are kept; every layer must have some.
std::unique_ptr<DeviceModel> make_absorbed_model(const ModelTensors& tensors, const Limits& limits);
/// Latents are kept in bf16 and read by the ladder's best rung.  @throws std::invalid_argument unless they are 512 + 64 wide
std::unique_ptr<DeviceModel> make_ladder_model(const ModelTensors& tensors, const Limits& limits);

}  // namespace kv::cuda

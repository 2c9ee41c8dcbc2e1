#pragma once
/// @file
/// The two seams of the book once more, on the device: rows in, rows out. A layer does not compute, it queues kernels; the
/// list of them is what a CUDA graph records.
#include <memory>

#include "chapters/06_cuda_kernels/model/flash.hpp"
#include "chapters/06_cuda_kernels/model/rope.hpp"
#include "common/model/attention.hpp"

namespace kv::cuda {

/// Memory for what a layer needs only while it runs. Pieces are taken from one block and all given back at once, so that
/// all layers of a model share it, and a graph finds the same piece at the same address.
class Scratch {
 public:
  /// Only counts: its pieces begin at `nowhere`, and nobody may read or write them.
  explicit Scratch(void* nowhere) : begin_(static_cast<std::byte*>(nowhere)) {}
  explicit Scratch(std::size_t bytes) : memory_(bytes), begin_(memory_.data()) {}

  /// A piece for as long as the frame that was opened last.  @throws std::logic_error when there is no room
  template <class T>
  T* take(std::size_t count) {
    T* const piece = reinterpret_cast<T*>(begin_ + used_);
    used_ += (count * sizeof(T) + 255) / 256 * 256;
    most_ = std::max(most_, used_);
    if (memory_.size() > 0 && used_ > memory_.size()) throw std::logic_error("scratch: a layer takes more than was counted");
    return piece;
  }
  /// Bytes that have been in use at a time.
  std::size_t most() const { return most_; }

  /// Gives back what has been taken since.
  class Frame {
   public:
    explicit Frame(Scratch& scratch) : scratch_(scratch), used_(scratch.used_) {}
    ~Frame() { scratch_.used_ = used_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    std::size_t used_;
  };

 private:
  Buffer<std::byte> memory_;
  std::byte* begin_;
  std::size_t used_ = 0, most_ = 0;
};

/// One pass over a batch's new rows.
struct Step {
  Tokens tokens;
  std::span<const Prompt> prompts;  ///< of all rows, or none
  Scratch& scratch;
  int multiprocessors;
  cudaStream_t stream;
  int rows() const { return tokens.count; }
};

/// What all layers share in a step, queued before the first.
struct StepWork {
  virtual void queue(const Step& step) = 0;
  virtual ~StepWork() = default;
};

/// Attention of one layer, with its cache.
struct AttentionLayer {
  /// Appends the rows to the cache and attends.  @param x (N,M)  @param y (N,M), other memory
  virtual void queue(const float* x, float* y, const Step& step) = 0;
  /// Bytes allocated for what is remembered.
  virtual std::size_t cache_bytes() const = 0;
  virtual ~AttentionLayer() = default;
};

/// Feed-forward half of one layer.
struct FeedForwardLayer {
  /// What is returned may lie in scratch memory, which this function takes and the caller gives back.
  /// @param x (N,M)  @param y (N,M), other memory, for what has no better place
  virtual Change queue(const float* x, float* y, const Step& step) = 0;
  virtual ~FeedForwardLayer() = default;
};

/// A norm that owns its weights.
class OwnedNorm {
 public:
  OwnedNorm(const Tensor<1>& weight, float epsilon)
      : weight_(std::span<const float>(weight.data(), weight.size())), epsilon_(epsilon) {}
  operator Norm() const { return {weight_.data(), static_cast<int>(weight_.size()), epsilon_}; }
  /// Null for a model without it.
  const float* weight() const { return weight_.size() == 0 ? nullptr : weight_.data(); }

 private:
  Buffer<float> weight_;
  float epsilon_;
};

/// Room for `width` numbers for each token of each sequence.
template <class T>
class OwnedCache {
 public:
  OwnedCache(const Limits& limits, index_t width)
      : memory_(limits.sequences * limits.capacity * width), of_sequence_(limits.capacity * width),
        of_token_(static_cast<int>(width)) {}
  operator StoredRows<T>() { return {memory_.data(), of_sequence_, of_token_}; }
  std::size_t bytes() const { return memory_.size() * sizeof(T); }

 private:
  Buffer<T> memory_;
  std::size_t of_sequence_;
  int of_token_;
};

}  // namespace kv::cuda

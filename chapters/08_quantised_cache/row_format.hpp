#pragma once
/// @file
/// How some numbers of a row are kept in fewer bytes: what every format of this chapter says of
/// itself.
#include <memory>

#include "common/tensor/tensor.hpp"

namespace kv {

/// Rows as they are stored, at equal distances. All begin at even addresses.
struct StoredRows {
  const std::byte* data;
  index_t stride, count;  // stride in bytes
};

class ScaledRows;

// [format]
/// A format for rows of `width()` numbers. What is stored of a row depends on that row and on
/// nothing else: no chunk, no batch and no thread appears here, so none can change a bit.
class RowFormat {
 public:
  explicit RowFormat(index_t width) : width_(width) {}
  virtual ~RowFormat() = default;

  index_t width() const { return width_; }
  /// What one row takes, an even number.
  virtual index_t bytes() const = 0;
  /// @param row (width)  @param out bytes() bytes, written in full
  virtual void store(std::span<const float> row, std::byte* out) const = 0;
  /// What is read back of every row.  @param out `count` rows of width(), `stride` floats apart
  virtual void widen(const StoredRows& rows, float* out, index_t stride) const = 0;
  /// Itself, if its numbers can be added up as integers.
  virtual const ScaledRows* in_integers() const { return nullptr; }

 private:
  index_t width_;
};
// [format]

/// The two formats of a row: of a head its key's and its value's, of a latent row its plain and its
/// rotated part's.
struct RowFormats {
  std::shared_ptr<const RowFormat> first, second;

  index_t width() const { return first->width() + second->width(); }
  index_t bytes() const { return first->bytes() + second->bytes(); }
  /// What the second format has stored of these rows.
  StoredRows second_of(const StoredRows& rows) const {
    return {rows.data + first->bytes(), rows.stride, rows.count};
  }
};

}  // namespace kv

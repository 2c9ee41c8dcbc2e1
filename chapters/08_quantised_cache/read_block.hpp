#pragma once
/// @file
/// From stored rows to the block that attention asks for.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/07_long_context/row_layout.hpp"
#include "chapters/08_quantised_cache/row_format.hpp"

namespace kv {

/// At most 128 rows of one head, in the pieces in which they lie. A row is what its first format
/// stores and behind that what its second stores. 8-bit integers are added up as they are
/// (code_block.hpp), other formats are widened into this thread's scratch: a block is in a cache
/// when the sums go over it. Good until this thread asks again.
/// @param next the rows of the next block, if the caller knows where they are
const RowBlock& read_block(const RowFormats& formats, const RowLayout& layout,
                           std::span<const StoredRows> pieces, const NextRows& next = {});

}  // namespace kv

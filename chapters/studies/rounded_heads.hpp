#pragma once
/// @file
/// How far a model's logits may move when attention takes its sums in another order.
///
/// A constant cannot say it: what one layer's rounding does to the logits depends on how many layers follow and on how large the
/// terms are that cancel. But it can be tried. A sum of n products in f32, in any order, is the exact sum of products that are
/// each off by about \f$ \sqrt n\,2^{-24} \f$ of themselves, so attention with other sums is attention on heads that are off by as
/// much. The model is run again on such heads, and what becomes of the logits, through all layers, is the answer.
/// @see Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1, and 2.8 on the square root
#include "chapters/decoders.hpp"

namespace kv {

/// Stage `preallocated` on queries, keys and values of which every number is \f$ \sqrt n\,2^{-24} \f$ larger or smaller than it is,
/// by a coin that knows layer, position and place. Absorbed scores are sums over a latent's rank, of numbers that are sums over a head's
/// width: n is both together. Heads that keep keys and values have their sums broken over ranks: those of the output matrix and
/// of the feed-forward half, n is both together.
Stage on_rounded_heads(const Json& config);

/// What another order of the sums is held to: so many times the largest difference that on_rounded_heads makes. One draw of coins is
/// not the worst one. tests/04_rounding_bound_test.cpp holds `absorbed` between a tenth of the bound and all of it, from 4 to 61 layers.
inline constexpr double rounding_margin = 3.0;

}  // namespace kv

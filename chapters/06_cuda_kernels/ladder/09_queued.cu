/// @file
/// Rung 9: queued products. On rung 8 the first warpgroup waits until the values of a page are done, and only then asks for
/// the scores of the next. Between the two the tensor cores have nothing. Here the first box of the next page's scores is
/// queued behind the values, and the wait that follows is for the values alone. One box and no more: the page that is done
/// with is given back when that box is there, and must not wait for the others.
/// What makes it possible is the lazy maximum of rung 8: the output waits for no factor, so nobody touches it in between.
///
/// Removes: the gap between the values of a page and the scores of the next.
/// Bottleneck now: the places for pages, as on rung 8; and the softmax.
/// Prediction: 82-84% of the roofline at (batch 128, context 4096, 16 heads), 67-69% at 128 heads. The gap, a wait, 128
/// arrivals and the start of a product, is 150 to 200 clocks of the 2800 for which rung 8 uses a page: 0.1 us of 1.65. With
/// two places half of that is won: 3 us of 165 at 16 heads, 6 of 274 at 128. Never run on a GPU.
/// Error of the lazy maximum, here as on rung 8: none of its own. A weight is at most e^5, and rounding it to bf16 is off by
/// 2^-8 of itself whatever its size; sum and output grow alike.
/// Traffic, shared memory, architecture, grid: as rung 8.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {
namespace {

struct Queued {
  // [order]
  /// The first box of the next page's scores is queued behind the values of this one.
  template <class Shared, class Attend>
  static __device__ void pages(Shared& shared, Count& n, PageRange part, Attend attend) {
    WgmmaScores score;
    score_boxes(score, shared, n.pages, 0, boxes);
    wgmma_wait<0>();
    for (int i = part.first; i < part.end; ++i, ++n.pages, ++n.messages) {
      attend(score, i);
      if (i + 1 == part.end) {
        wgmma_wait<0>();
        shared.stages.release(n.pages);
      } else {
        score_boxes(score, shared, n.pages + 1, 0, 1);
        wgmma_wait<1>();  // for the values alone
        shared.stages.release(n.pages);
        score_boxes(score, shared, n.pages + 1, 1, boxes);
        wgmma_wait<0>();
      }
    }
  }
  // [order]
};

}  // namespace

Rung queued() {
  return boxes_rung<TwoWarpgroupsKernel<Queued>>(
      {.number = 9,
       .name = "queued products",
       .idea = "the next page's scores begin behind the values of this one",
       .removes = "the gap between two products",
       .prediction = {Percent{82, 84}, Percent{67, 69}},
       .untried = true});
}

}  // namespace kv::cuda

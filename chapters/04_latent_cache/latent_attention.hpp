#pragma once
/// @file
/// Stage `latent`: latents are cached, and every read takes the cheaper form.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_cache_attention.hpp"

namespace kv {

/// Prompts are expanded, decode steps absorbed: expanding_is_cheaper() decides for each segment by its own T and S, so a
/// batch changes no bit. Chunks do: a prompt fed in pieces may be read in another form and then differs by rounding.
class LatentAttention : public LatentCacheAttention {
 public:
  LatentAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption, const Limits& limits);

 protected:
  Tensor<3> attend_caches(const Tensor<3>& queries, const Batch& batch) const override;

 private:
  Absorption absorption_;
};

}  // namespace kv

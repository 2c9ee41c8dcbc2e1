#pragma once
/// @file
/// One answer on its way.
#include <memory>
#include <optional>

#include "chapters/09_paged_cache/request.hpp"

namespace kv {

/// What a scheduler knows of an answer. It is waiting, or it has a place in the batch: a sequence of the decoder, which holds
/// the first `fed` of its tokens.
struct Sequence {
  std::shared_ptr<const Request> request;
  RequestId id;
  index_t answer;
  Sampler sampler;
  std::vector<Token> tokens;  // the prompt and what was drawn
  std::optional<index_t> place = {};
  index_t fed = 0;
  index_t reused = 0, preemptions = 0;  // reused: when it was first admitted
  bool admitted_before = false;
  bool ended = false;  // it only waits to be taken out of the list

  index_t pending() const { return tokens.size() - fed; }
  index_t new_tokens() const { return tokens.size() - request->prompt.size(); }
};

}  // namespace kv

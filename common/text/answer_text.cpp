#include "common/text/answer_text.hpp"

#include <algorithm>

namespace kv {

StopString::StopString(std::string text) : text_(std::move(text)), shorter_(text_.size() + 1, 0) {
  for (index_t i = 1; i < text_.size(); ++i) shorter_[i + 1] = advance(shorter_[i], text_[i]);
}

// [stop string]
index_t StopString::advance(index_t matched, char byte) const {
  while (matched == text_.size() || text_[matched] != byte) {
    if (matched == 0) return 0;
    matched = shorter_[matched];
  }
  return matched + 1;
}
// [stop string]

AnswerText::AnswerText(const Tokenizer& tokenizer, StopStrings stops)
    : stream_(tokenizer), stops_(std::move(stops)), matched_(stops_->size(), 0) {}

std::string AnswerText::take(const std::string& text) {
  for (const char byte : text) {
    if (stopped_) break;
    held_ += byte;
    index_t complete = 0;
    for (index_t i = 0; i < matched_.size(); ++i) {
      const StopString& stop = (*stops_)[i];
      matched_[i] = stop.advance(matched_[i], byte);
      if (matched_[i] == stop.length()) complete = std::max(complete, stop.length());
    }
    if (complete == 0) continue;
    stopped_ = true;
    held_.resize(held_.size() - complete);
    matched_.clear();
  }
  const index_t kept = matched_.empty() ? 0 : *std::ranges::max_element(matched_);
  std::string certain = held_.substr(0, held_.size() - kept);
  held_.erase(0, certain.size());
  return certain;
}

std::string AnswerText::finish() {
  std::string rest = take(stream_.finish());
  rest += held_;
  held_.clear();
  return rest;
}

}  // namespace kv

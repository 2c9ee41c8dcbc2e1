#include "common/text/pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "common/files/error.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

template <class T, void (*release)(T*)>
struct Release {
  void operator()(T* held) const { release(held); }
};
template <class T, void (*release)(T*)>
using Owner = std::unique_ptr<T, Release<T, release>>;
using Code = Owner<pcre2_code, pcre2_code_free>;
using CompileContext = Owner<pcre2_compile_context, pcre2_compile_context_free>;
using MatchContext = Owner<pcre2_match_context, pcre2_match_context_free>;
using MatchData = Owner<pcre2_match_data, pcre2_match_data_free>;

std::string library_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

Code compile(std::string_view pattern, std::uint32_t options, const std::string& where) {
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  std::size_t offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset,
                          context.get()));
  if (!code) throw Error(where + " is not a valid pattern: " + library_message(error));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter does
  return code;
}

/// Walks an Oniguruma pattern and writes it for PCRE2.
class Translation {
 public:
  Translation(std::string_view pattern, const std::string& where) : left_(pattern), where_(where) {}

  std::string run() {
    while (!left_.empty()) {
      if (left_.front() == '\\') escape();
      else if (in_class_) inside_class();
      else outside_class();
    }
    return out_;
  }

 private:
  void escape() {
    if (left_.size() < 2) refuse("\\");
    const char kind = left_[1];
    if (kind == 's' || (kind == 'S' && !in_class_)) {
      // PCRE2 counts U+180E as white space, Unicode no longer does.
      constexpr std::string_view white_space =
          "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
      if (in_class_) out_ += white_space;
      else out_.append(kind == 's' ? "[" : "[^").append(white_space).append("]");
      left_.remove_prefix(2);
    } else if (std::string_view("SwWbBhHRXKkgyYZ").find(kind) != std::string_view::npos) {
      refuse(left_.substr(0, 2));
    } else {
      const bool property = kind == 'p' || kind == 'P' || kind == 'x';
      const std::size_t end = property && left_.substr(2, 1) == "{" ? left_.find('}') : 1;
      copy(end == left_.npos ? left_.size() : end + 1);
    }
  }

  void inside_class() {
    if (left_.front() == '[' || left_.starts_with("&&")) refuse("a set inside [ ]");
    in_class_ = left_.front() != ']';
    copy(1);
  }

  void outside_class() {
    if (left_.starts_with("(?")) group();
    else if (left_.starts_with("}+")) refuse("}+");  // greedy twice there, possessive here
    else if (left_.front() == '[') open_class();
    else copy(1);
  }

  void open_class() {
    in_class_ = true;
    copy(left_.starts_with("[^") ? 2 : 1);
    if (left_.starts_with(']')) copy(1);  // first in its class it is a character
  }

  /// (?i) (?i:...) (?:...) and the four lookarounds mean the same; (?m) does not.
  void group() {
    for (const std::string_view same : {"(?i)", "(?i:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"})
      if (left_.starts_with(same)) return copy(same.size());
    refuse(left_.substr(0, 4));
  }

  void copy(std::size_t count) {
    out_ += left_.substr(0, count);
    left_.remove_prefix(count);
  }

  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(where_ + " has " + excerpt(what) + ", which is not supported in patterns");
  }

  std::string_view left_;
  const std::string& where_;
  std::string out_;
  bool in_class_ = false;
};

}  // namespace

std::string to_pcre2(std::string_view pattern, const std::string& where) { return Translation(pattern, where).run(); }

struct Pattern::Compiled {
  Code code;
  std::string where;
  MatchContext context{pcre2_match_context_create(nullptr)};

  Compiled(Code compiled, std::string name) : code(std::move(compiled)), where(std::move(name)) {
    pcre2_set_heap_limit(context.get(), 256 * 1024);  // KiB
  }

  int match(std::string_view text, std::size_t from, pcre2_match_data* data) const {
    // Checking the text for every match would be quadratic: the caller's is UTF-8.
    const auto attempt = [&](std::uint32_t options) {
      return pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                         PCRE2_NO_UTF_CHECK | options, data, context.get());
    };
    const int count = attempt(0);
    return count == PCRE2_ERROR_JIT_STACKLIMIT ? attempt(PCRE2_NO_JIT) : count;  // the interpreter uses the heap
  }
};

Pattern Pattern::regex(std::string_view pattern, const std::string& where) {
  // In Oniguruma's Ruby syntax ^ and $ match at line ends too.
  constexpr std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;
  return Pattern(std::make_shared<const Compiled>(compile(to_pcre2(pattern, where), options, where), where));
}

Pattern Pattern::literal(std::string_view text, const std::string& where) {
  return Pattern(std::make_shared<const Compiled>(compile(text, PCRE2_UTF | PCRE2_LITERAL, where), where));
}

Pattern Pattern::read(const Json& json) {
  require_known_keys(json, {"Regex", "String"});
  if (json.has("String")) return literal(json.at("String").text(), json.at("String").where());
  return regex(json.at("Regex").text(), json.at("Regex").where());
}

std::vector<Span> Pattern::matches(std::string_view text) const {
  const MatchData data(pcre2_match_data_create_from_pattern(compiled_->code.get(), nullptr));
  std::vector<Span> found;
  for (std::size_t from = 0; from <= text.size();) {
    const int count = compiled_->match(text, from, data.get());
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) throw Error(compiled_->where + " cannot be matched: " + library_message(count));
    const std::size_t* const ends = pcre2_get_ovector_pointer(data.get());
    const Span match{ends[0], ends[1]};
    const bool empty = match.begin == match.end;
    if (empty && !found.empty() && found.back().end == match.end) {  // found already: look one character further
      if (from == text.size()) break;
      from += character_length(text.substr(from));
      continue;
    }
    found.push_back(match);
    from = match.end;
  }
  return found;
}

std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content) {
  std::string out;
  std::size_t copied = 0;
  for (const Span match : pattern.matches(text)) {
    out.append(text.substr(copied, match.begin - copied)).append(content);
    copied = match.end;
  }
  return out.append(text.substr(copied));
}

}  // namespace kv

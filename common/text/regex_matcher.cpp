#include "common/text/regex_matcher.hpp"

#include <algorithm>
#include <optional>

#include "common/text/utf8.hpp"

namespace kv {
namespace {

using Kind = RegexNode::Kind;
using Operation = RegexProgram::Operation;
using Instruction = RegexProgram::Instruction;
using Letters = RegexProgram::Letters;

/// One text, spelt in the pattern's alphabet, and the ways through it that are left to try.
class Matcher {
 public:
  Matcher(const RegexProgram& program, std::string_view letters, Budget& budget)
      : program_(program), letters_(letters), budget_(budget), marks_(program.slots) {}

  /// The first match that begins at `from` or later.
  std::optional<Span> search(std::size_t from) {
    for (std::size_t begin = from; begin <= letters_.size(); ++begin) {
      if (program_.first != RegexProgram::no_set) {
        const std::size_t next = run_end(program_.sets[program_.first], begin, letters_.size(), false);
        spend(next - begin);
        if (next == letters_.size()) break;
        begin = next;
      }
      if (const auto end = match(0, begin, std::nullopt)) return Span{begin, *end};
    }
    return std::nullopt;
  }

 private:
  /// A way that was left: what is done there depends on the instruction that left it.
  struct Way {
    std::uint32_t instruction;
    std::size_t place;  // of a mark: the one before
    std::size_t limit;  // of a run: where it cannot be shorter, or longer
  };
  static constexpr std::size_t work_of_a_way = 32;

  void spend(std::size_t work) { budget_.spend(work, program_.where); }

  bool next_is_in(std::uint32_t set) const {
    return place_ < letters_.size() && program_.sets[set][static_cast<unsigned char>(letters_[place_])];
  }

  /// How far letters go on that are in a set, or are not.
  std::size_t run_end(const Letters& set, std::size_t begin, std::size_t limit, bool inside) const {
    while (begin < limit && set[static_cast<unsigned char>(letters_[begin])] == inside) ++begin;
    return begin;
  }

  void leave(std::size_t place, std::size_t limit = 0) {
    spend(work_of_a_way);
    ways_.push_back({instruction_, place, limit});
  }

  /// Where a match from here ends that reaches `accept`.  @param end where it has to end, if that is fixed
  std::optional<std::size_t> match(std::uint32_t instruction, std::size_t place, std::optional<std::size_t> end) {
    const std::size_t ways_before = ways_.size();
    instruction_ = instruction;
    place_ = place;
    while (true) {
      spend(1);
      const Instruction& now = program_.instructions[instruction_];
      if (now.operation == Operation::accept && (!end || *end == place_)) {
        ways_.resize(ways_before);
        return place_;
      }
      if (!step(now) && !take_way(ways_before)) return std::nullopt;
    }
  }

  /// Does one instruction.  @return whether it fits
  bool step(const Instruction& now) {
    switch (now.operation) {
      case Operation::take:
        if (!next_is_in(now.set)) return false;
        ++place_;
        break;
      case Operation::run:
      case Operation::run_lazy:
      case Operation::run_possessive: return step_run(now);
      case Operation::fork:
        if (now.set != RegexProgram::no_set && !next_is_in(now.set)) return go_to(now.target);
        leave(place_);
        break;
      case Operation::fork_away: leave(place_); return go_to(now.target);
      case Operation::jump: return go_to(now.target);
      case Operation::mark:
        leave(marks_[now.least]);
        marks_[now.least] = place_;
        break;
      case Operation::jump_if_moved:
        if (marks_[now.least] != place_) return go_to(now.target);
        break;
      case Operation::apart: return step_apart(now);
      case Operation::place:
        if (!is_at(now)) return false;
        break;
      case Operation::accept: return false;  // at another place than it has to be
    }
    ++instruction_;
    return true;
  }

  bool go_to(std::uint32_t instruction) {
    instruction_ = instruction;
    return true;
  }

  bool step_run(const Instruction& now) {
    const std::size_t left = letters_.size() - place_;
    if (left < now.least) return false;
    const bool lazy = now.operation == Operation::run_lazy;
    const std::size_t shortest = place_ + now.least, longest = place_ + std::min<std::size_t>(left, now.most);
    const std::size_t end = run_end(program_.sets[now.set], place_, lazy ? shortest : longest, true);
    spend(end - place_);
    if (end < shortest) return false;
    if (lazy && end < longest) leave(end, longest);
    if (now.operation == Operation::run && end > shortest) leave(end, shortest);
    place_ = end;
    ++instruction_;
    return true;
  }

  /// A part that is matched for itself: its ways are forgotten when it matches.
  bool step_apart(const Instruction& now) {
    const std::uint32_t part = instruction_ + 1;
    const std::size_t begin = place_;
    std::optional<std::size_t> end;
    if (now.kind == Kind::behind || now.kind == Kind::not_behind) {
      for (std::size_t width = now.least; !end && width <= std::min<std::size_t>(now.most, begin); ++width)
        end = match(part, begin - width, begin);
    } else {
      end = match(part, begin, std::nullopt);
    }
    const bool wanted = now.kind != Kind::not_ahead && now.kind != Kind::not_behind;
    place_ = now.kind == Kind::atomic && end ? *end : begin;
    instruction_ = now.target;
    return end.has_value() == wanted;
  }

  bool is_at(const Instruction& now) const {
    const bool at_start = place_ == 0, at_end = place_ == letters_.size();
    const auto is_in = [&](std::size_t place) {
      return program_.sets[now.set][static_cast<unsigned char>(letters_[place])];
    };
    switch (now.kind) {
      case Kind::text_start: return at_start;
      case Kind::text_end: return at_end;
      case Kind::line_start: return at_start || (!at_end && is_in(place_ - 1));
      case Kind::line_end: return at_end || is_in(place_);
      case Kind::last_line_end: return at_end || (place_ + 1 == letters_.size() && is_in(place_));
      default: {
        const bool changes = (!at_start && is_in(place_ - 1)) != (!at_end && is_in(place_));
        return changes == (now.kind == Kind::word_boundary);
      }
    }
  }

  /// Goes back to the way that was left last.  @return whether there is one above `bottom`
  bool take_way(std::size_t bottom) {
    while (ways_.size() > bottom) {
      spend(1);
      Way& way = ways_.back();
      const Instruction& left_by = program_.instructions[way.instruction];
      if (left_by.operation == Operation::mark) {
        marks_[left_by.least] = way.place;
        ways_.pop_back();
        continue;
      }
      place_ = way.place;
      if (left_by.operation == Operation::fork) return forget_way(left_by.target);
      if (left_by.operation == Operation::fork_away) return forget_way(way.instruction + 1);
      if (left_by.operation == Operation::run) --place_;
      else if (next_is_in(left_by.set)) ++place_;
      else {
        ways_.pop_back();
        continue;
      }
      way.place = place_;
      if (place_ == way.limit) return forget_way(way.instruction + 1);
      return go_to(way.instruction + 1);
    }
    return false;
  }

  bool forget_way(std::uint32_t instruction) {
    ways_.pop_back();
    return go_to(instruction);
  }

  const RegexProgram& program_;
  std::string_view letters_;
  Budget& budget_;
  std::vector<Way> ways_;
  std::vector<std::size_t> marks_;
  std::uint32_t instruction_ = 0;
  std::size_t place_ = 0;
};

/// Turns numbers of characters into numbers of bytes; they have to ascend.
class ByteCounter {
 public:
  explicit ByteCounter(std::string_view text) : text_(text) {}

  std::size_t bytes(std::size_t characters) {
    for (; characters_ < characters; ++characters_) bytes_ += character_length(text_.substr(bytes_));
    return bytes_;
  }

 private:
  std::string_view text_;
  std::size_t characters_ = 0, bytes_ = 0;
};

}  // namespace

std::vector<Span> find_matches(const RegexProgram& program, std::string_view text, Budget& budget) {
  if (text.empty()) return {};  // not even a pattern that matches nothing is looked for
  budget.spend(text.size(), program.where);
  const std::string letters = program.alphabet.spell(text);
  Matcher matcher(program, letters, budget);
  ByteCounter counter(text);
  std::vector<Span> found;
  std::optional<std::size_t> last_end;
  for (std::size_t from = 0; from <= letters.size();) {
    const auto match = matcher.search(from);
    if (!match) break;
    if (match->begin == match->end && last_end == match->end) {  // found already: look one character further
      ++from;
      continue;
    }
    budget.spend(sizeof(Span), program.where);
    const std::size_t begin = counter.bytes(match->begin);
    found.push_back({begin, counter.bytes(match->end)});
    last_end = from = match->end;
  }
  return found;
}

}  // namespace kv

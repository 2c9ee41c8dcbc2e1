#include "common/text/regex_program.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "common/files/error.hpp"

namespace kv {
namespace {

using Kind = RegexNode::Kind;
using Mode = RegexNode::Mode;
using Operation = RegexProgram::Operation;
using Instruction = RegexProgram::Instruction;
using Letters = RegexProgram::Letters;

constexpr std::size_t largest_program = 20'000;

bool is_place(Kind kind) { return kind >= Kind::text_start; }
bool is_look(Kind kind) { return Kind::ahead <= kind && kind <= Kind::not_behind; }

void collect_sets(const RegexNode& node, std::map<CodePoints, std::uint32_t>& sets) {
  if (node.kind == Kind::set || is_place(node.kind)) sets.emplace(node.set, 0);
  for (const RegexNode& part : node.parts) collect_sets(part, sets);
}

/// The letters of a set: all or none of a letter's characters are in it.
Letters letters_of(const CodePoints& set, const RegexAlphabet& alphabet) {
  Letters letters{};
  for (const char32_t representative : alphabet.representatives())
    letters[alphabet.letter(representative)] = set.contains(representative);
  return letters;
}

/// How many characters a node can match.
struct Width {
  std::uint32_t least = 0, most = 0;
};

std::uint32_t limited(std::uint64_t width) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(width, RegexNode::unlimited));
}

Width width(const RegexNode& node) {
  if (node.kind == Kind::set) return {1, 1};
  if (is_place(node.kind) || is_look(node.kind)) return {};
  if (node.kind == Kind::repeat) {
    const Width one = width(node.parts.front());
    return {limited(std::uint64_t{one.least} * node.least), limited(std::uint64_t{one.most} * node.most)};
  }
  Width all = node.kind == Kind::choice ? Width{RegexNode::unlimited, 0} : Width{};
  for (const RegexNode& part : node.parts) {
    const Width one = width(part);
    if (node.kind == Kind::choice) all = {std::min(all.least, one.least), std::max(all.most, one.most)};
    else all = {limited(std::uint64_t{all.least} + one.least), limited(std::uint64_t{all.most} + one.most)};
  }
  return all;
}

class Compiler {
 public:
  Compiler(const RegexNode& pattern, const std::string& where) : sets_(numbered(pattern)), program_(prepared(where)) {
    if (width(pattern).least > 0) program_.first = add_letters(first_of(pattern));
    write(pattern);
    add({.operation = Operation::accept});
  }

  RegexProgram program() { return std::move(program_); }

 private:
  using SetNumbers = std::map<CodePoints, std::uint32_t>;

  static SetNumbers numbered(const RegexNode& pattern) {
    SetNumbers sets;
    collect_sets(pattern, sets);
    std::uint32_t next = 0;
    for (auto& [set, number] : sets) number = next++;
    return sets;
  }

  RegexProgram prepared(const std::string& where) const {
    std::vector<CodePoints> sets;
    for (const auto& [set, number] : sets_) sets.push_back(set);
    RegexProgram program{.where = where, .alphabet = RegexAlphabet(sets, where)};
    for (const CodePoints& set : sets) program.sets.push_back(letters_of(set, program.alphabet));
    return program;
  }

  // ---- what comes first ----

  std::uint32_t add_letters(const Letters& letters) {
    program_.sets.push_back(letters);
    return static_cast<std::uint32_t>(program_.sets.size() - 1);
  }

  /// The letters that a match of a node can begin with. One that matches nothing may have others behind it.
  Letters first_of(const RegexNode& node) const {
    Letters letters{};
    if (node.kind == Kind::set) return program_.sets[sets_.at(node.set)];
    if (is_look(node.kind)) return letters;
    for (const RegexNode& part : node.parts) {
      const Letters of_part = first_of(part);
      std::ranges::transform(letters, of_part, letters.begin(), std::logical_or<>());
      if (node.kind == Kind::sequence && width(part).least > 0) break;
    }
    return letters;
  }

  // ---- instructions ----

  std::uint32_t here() const { return static_cast<std::uint32_t>(program_.instructions.size()); }

  std::uint32_t add(Instruction instruction) {
    if (here() == largest_program) throw Error(program_.where + " is too large a pattern");
    program_.instructions.push_back(instruction);
    return here() - 1;
  }

  /// Leaves another way than the node that follows; it goes to where `lead_here` is called.
  std::uint32_t fork(const RegexNode& node, bool away) {
    if (away) return add({.operation = Operation::fork_away});
    const bool may_be_empty = width(node).least == 0;
    return add({.operation = Operation::fork,
                .set = may_be_empty ? RegexProgram::no_set : add_letters(first_of(node))});
  }
  void lead_here(std::uint32_t instruction) { program_.instructions[instruction].target = here(); }

  void write(const RegexNode& node) {
    if (node.kind == Kind::set) {
      add({.operation = Operation::take, .set = sets_.at(node.set)});
    } else if (is_place(node.kind)) {
      add({.operation = Operation::place, .kind = node.kind, .set = sets_.at(node.set)});
    } else if (node.kind == Kind::sequence) {
      for (const RegexNode& part : node.parts) write(part);
    } else if (node.kind == Kind::choice) {
      write_choice(node);
    } else if (node.kind == Kind::repeat) {
      write_repeat(node);
    } else {
      write_apart(node.kind, node.parts.front());
    }
  }

  void write_choice(const RegexNode& node) {
    std::vector<std::uint32_t> ends;
    for (const RegexNode& part : node.parts) {
      if (&part == &node.parts.back()) {
        write(part);
        break;
      }
      const std::uint32_t other = fork(part, false);
      write(part);
      ends.push_back(add({.operation = Operation::jump}));
      lead_here(other);
    }
    for (const std::uint32_t end : ends) lead_here(end);
  }

  void write_apart(Kind kind, const RegexNode& node) {
    const Width of_node = width(node);
    if (kind == Kind::behind || kind == Kind::not_behind)
      for (const RegexNode& way : node.parts)  // Oniguruma does not let possessive parts read past the place itself
        if (width(way).least != width(way).most)
          throw Error(program_.where + " looks behind over a varying length, which is not supported in patterns");
    const std::uint32_t begin =
        add({.operation = Operation::apart, .kind = kind, .least = of_node.least, .most = of_node.most});
    write(node);
    add({.operation = Operation::accept});
    lead_here(begin);
  }

  void write_repeat(const RegexNode& node) {
    const RegexNode& part = node.parts.front();
    if (part.kind == Kind::set) {
      static constexpr Operation operations[] = {Operation::run, Operation::run_lazy, Operation::run_possessive};
      add({.operation = operations[static_cast<int>(node.mode)], .set = sets_.at(part.set), .least = node.least,
           .most = node.most});
    } else if (node.mode == Mode::possessive) {
      RegexNode greedy = node;
      greedy.mode = Mode::greedy;
      write_apart(Kind::atomic, greedy);
    } else {
      for (std::uint32_t i = 0; i < node.least; ++i) write(part);
      if (node.most == RegexNode::unlimited) write_loop(part, node.mode == Mode::lazy);
      else write_options(part, node.most - node.least, node.mode == Mode::lazy);
    }
  }

  /// x{0,count}
  void write_options(const RegexNode& part, std::uint32_t count, bool lazy) {
    std::vector<std::uint32_t> ends;
    for (std::uint32_t i = 0; i < count; ++i) {
      ends.push_back(fork(part, lazy));
      write(part);
    }
    for (const std::uint32_t end : ends) lead_here(end);
  }

  /// x*, which ends when x matches nothing.
  void write_loop(const RegexNode& part, bool lazy) {
    const bool may_be_empty = width(part).least == 0;
    const std::uint32_t slot = program_.slots;
    const std::uint32_t begin = fork(part, lazy);
    if (may_be_empty) {
      ++program_.slots;
      add({.operation = Operation::mark, .least = slot});
    }
    write(part);
    add({.operation = may_be_empty ? Operation::jump_if_moved : Operation::jump, .target = begin, .least = slot});
    lead_here(begin);
  }

  SetNumbers sets_;
  RegexProgram program_;
};

}  // namespace

RegexProgram compile_regex(const RegexNode& pattern, const std::string& where) {
  return Compiler(pattern, where).program();
}

}  // namespace kv

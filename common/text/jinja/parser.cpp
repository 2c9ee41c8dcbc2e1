#include "common/text/jinja/parser.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/text/jinja/lexer.hpp"
#include "common/text/tokenizer_json.hpp"

namespace kv::jinja {
namespace {

constexpr int deepest =
    100;  // brackets and tags inside of one another, which are read by recursion
constexpr int longest = 250;  // operators in a row: their tree is walked by recursion too

using Words = std::vector<std::string_view>;
bool contains(const Words& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

/// Recursive descent. The order of the functions is that of Jinja's own parser, so that all
/// operators bind alike.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokens_of(source)) {}

  Block run() {
    Block block = statements();
    if (peek().kind != Token::end) fail("the tag " + excerpt(peek(1).value) + " closes nothing");
    return block;
  }

 private:
  // ---- tokens ----

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const std::string& take() { return tokens_[at_++].value; }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error("line " + std::to_string(peek().line) + ": " + problem);
  }
  [[noreturn]] void fail_unsupported(const std::string& what) const {
    fail(what + " is not supported in a chat template");
  }

  /// At a name or symbol.
  bool at(std::string_view word, std::size_t ahead = 0) const {
    const Token& token = peek(ahead);
    return (token.kind == Token::name || token.kind == Token::symbol) && token.value == word;
  }
  bool at_any(const Words& words) const {
    return std::ranges::any_of(words, [this](std::string_view word) { return at(word); });
  }
  bool skip(std::string_view word) {
    const bool found = at(word);
    at_ += found;
    return found;
  }
  void expect(std::string_view word) {
    if (!skip(word)) fail("'" + std::string(word) + "' is missing");
  }
  void expect(Token::Kind end) {
    if (peek().kind != end) fail("the end of the tag is missing before " + excerpt(peek().value));
    ++at_;
  }
  std::string name() {
    if (peek().kind != Token::name) fail("a name is missing");
    return take();
  }

  /// Counts what is open while it lives.
  struct Nesting {
    explicit Nesting(Parser& parser) : open(parser.nesting_) {
      if (++open > deepest)
        parser.fail("brackets or tags are nested deeper than " + std::to_string(deepest) +
                    " levels");
    }
    ~Nesting() { --open; }
    int& open;
  };

  // ---- statements ----

  /// Up to a tag that belongs to the tag around, or to none.
  Block statements() {
    const Nesting nesting(*this);
    Block block;
    while (peek().kind != Token::end) {
      const std::string& tag = peek(1).value;
      const int line = peek().line;
      if (peek().kind == Token::data) {
        block.push_back({Statement::data, line, take()});
      } else if (peek().kind == Token::begin_output) {
        ++at_;
        block.push_back({Statement::output, line, "", {}, false, {tuple()}});
        expect(Token::end_output);
      } else if (tag.starts_with("end") || tag == "else" || tag == "elif") {
        break;
      } else {
        ++at_;
        block.push_back(statement({Statement::scope, line, take()}));
      }
    }
    return block;
  }

  /// What stands between a tag and one of those that may end it.  @return which of them it was
  std::string body(Statement& made, const Words& ends) {
    expect(Token::end_tag);
    made.blocks.push_back(statements());
    if (peek().kind == Token::end || !contains(ends, peek(1).value))
      fail("{% " + std::string(ends.back()) + " %} is missing");
    ++at_;
    return take();
  }
  Statement with_body(Statement made, std::string_view end) {
    body(made, {end});
    expect(Token::end_tag);
    return made;
  }
  /// The same, with a block for {% else %} if there is one.
  Statement with_bodies(Statement made, std::string_view end) {
    if (body(made, {"else", end}) == "else") return with_body(std::move(made), end);
    expect(Token::end_tag);
    return made;
  }

  Statement statement(Statement made) {
    const std::string tag = std::move(made.text);
    if (tag == "if") return condition(std::move(made));
    if (tag == "for") return loop(std::move(made));
    if (tag == "set") return assignment(std::move(made));
    if (tag == "macro") return macro(std::move(made));
    if (tag == "generation")
      return with_body(std::move(made), "endgeneration");  // marks for training what a model says
    if (tag == "filter") {
      made.kind = Statement::filtered;
      made.expressions.push_back(filter(make(Expression::constant)));
      return with_body(std::move(made), "endfilter");
    }
    if (tag != "break" && tag != "continue") fail_unsupported("the tag " + excerpt(tag));
    if (loops_ == 0) fail("'" + tag + "' stands outside of a loop");
    made.kind = tag == "break" ? Statement::leave_loop : Statement::next_round;
    expect(Token::end_tag);
    return made;
  }

  Statement condition(Statement made) {
    made.kind = Statement::condition;
    std::string end;
    do {
      made.expressions.push_back(tuple(false));
      end = body(made, {"elif", "else", "endif"});
    } while (end == "elif");
    if (end == "else") return with_body(std::move(made), "endif");
    expect(Token::end_tag);
    return made;
  }

  Statement loop(Statement made) {
    made.kind = Statement::loop;
    made.names = targets();
    expect("in");
    made.expressions.push_back(tuple(false));
    if (skip("if")) made.expressions.push_back(expression());
    if (at("recursive")) fail_unsupported("a recursive loop");
    ++loops_;
    made = with_bodies(std::move(made), "endfor");
    --loops_;
    return made;
  }

  std::vector<std::string> targets() {
    const bool bracket = skip("(");
    std::vector<std::string> names{name()};
    while (skip(",")) names.push_back(name());
    if (bracket) expect(")");
    return names;
  }

  Statement assignment(Statement made) {
    made.names = targets();
    made.in_namespace = made.names.size() == 1 && skip(".");
    if (made.in_namespace) made.names.push_back(name());
    made.kind = at("=") ? Statement::assignment : Statement::capture;
    if (!skip("=")) {
      made.expressions.push_back(filters(make(Expression::constant)));
      return with_body(std::move(made), "endset");
    }
    made.expressions.push_back(tuple());
    expect(Token::end_tag);
    return made;
  }

  Statement macro(Statement made) {
    made.kind = Statement::macro;
    made.text = name();
    expect("(");
    while (!skip(")")) {
      if (!made.names.empty()) expect(",");
      made.names.push_back(name());
      if (skip("=")) made.expressions.push_back(expression());
      else if (!made.expressions.empty())
        fail("a parameter without a default stands behind one with a default");
    }
    const int loops_outside = std::exchange(loops_, 0);
    made = with_body(std::move(made), "endmacro");
    loops_ = loops_outside;
    return made;
  }

  // ---- expressions ----

  template <class... Parts>
  Expression make(Expression::Kind kind, std::string text = "", Parts... parts) const {
    Expression made{kind, peek().line, std::move(text)};
    (add(made, std::move(parts)), ...);
    return made;
  }
  void add(Expression& whole, Expression part) const {
    whole.depth = std::max(whole.depth, part.depth + 1);
    if (whole.depth > longest)
      fail("an expression has more than " + std::to_string(longest) + " operators in a row");
    whole.parts.push_back(std::move(part));
  }

  /// "a, b" is a list too.  @param conditions without, "a if b" ends before the "if"
  Expression tuple(bool conditions = true) {
    const auto one = [&] { return conditions ? expression() : disjunction(); };
    Expression first = one();
    if (!at(",")) return first;
    Expression made = make(Expression::list, "", std::move(first));
    while (skip(",") && peek().kind != Token::end_output && peek().kind != Token::end_tag &&
           !at(")"))
      add(made, one());
    return made;
  }

  Expression expression() {
    const Nesting nesting(*this);
    Expression result = disjunction();
    while (skip("if")) {
      Expression condition = disjunction(), otherwise = make(Expression::constant);
      otherwise.value = make_undefined("a condition without 'else'");
      if (skip("else")) otherwise = expression();
      result = make(Expression::conditional, "", std::move(condition), std::move(result),
                    std::move(otherwise));
    }
    return result;
  }

  /// "a o b o c" is "(a o b) o c" for all operators o of a level.
  template <class Operand>
  Expression chain(const Words& operators, Operand operand) {
    Expression left = operand();
    while (at_any(operators)) {
      std::string symbol = take();
      left = make(Expression::binary, std::move(symbol), std::move(left), operand());
    }
    return left;
  }
  Expression disjunction() {
    return chain({"or"}, [this] { return conjunction(); });
  }
  Expression conjunction() {
    return chain({"and"}, [this] { return negation(); });
  }

  Expression negation() {
    int count = 0;
    while (skip("not")) ++count;
    Expression result = comparison();
    for (; count > 0; --count) result = make(Expression::unary, "not", std::move(result));
    return result;
  }

  Expression comparison() {
    Expression made = make(Expression::comparison, "", sum());
    for (;;) {
      const bool not_in = at("not") && at("in", 1);
      if (!not_in && !at_any({"==", "!=", "<", "<=", ">", ">=", "in"})) break;
      at_ += not_in;
      made.operators.push_back((not_in ? "not " : "") + take());
      add(made, sum());
    }
    return made.operators.empty() ? std::move(made.parts[0]) : made;
  }

  Expression sum() {
    return chain({"+", "-"}, [this] { return joined(); });
  }

  Expression joined() {
    Expression made = make(Expression::joined, "", product());
    while (skip("~")) add(made, product());
    return made.parts.size() == 1 ? std::move(made.parts[0]) : made;
  }

  Expression product() {
    Expression made = chain({"*", "//", "%"}, [this] { return unary(); });
    if (at_any({"/", "**"})) fail_unsupported("the operator '" + peek().value + "'");
    return made;
  }

  /// @param filtered "-x | f" filters -x; of "- -x | f", the outer one alone
  Expression unary(bool filtered = true) {
    const Nesting nesting(*this);
    Expression result = at_any({"-", "+"}) ? sign() : postfix(primary());
    for (;;) {
      if (filtered && at("|")) result = filters(std::move(result));
      else if (filtered && skip("is")) result = test(std::move(result));
      else if (filtered && at("("))
        result = arguments(make(Expression::call, "", std::move(result)));
      else return result;
    }
  }

  Expression sign() {
    std::string symbol = take();
    return make(Expression::unary, std::move(symbol), unary(false));
  }

  Expression primary() {
    Expression made = make(Expression::constant);
    const Token& token = peek();
    if (token.kind == Token::string) {
      std::string text;
      while (peek().kind == Token::string) text += take();
      made.value = make_text(std::move(text));
    } else if (token.kind == Token::number) {
      made.value = {std::int64_t{std::stoll(take())}};
    } else if (token.kind == Token::name) {
      const std::string& word = take();
      if (word == "true" || word == "True" || word == "false" || word == "False")
        made.value = {word.size() == 4};
      else if (word != "none" && word != "None") made = make(Expression::name, word);
    } else if (skip("(")) {
      made = at(")") ? make(Expression::list) : tuple();
      expect(")");
    } else if (skip("[")) {
      made = items(make(Expression::list), "]");
    } else if (skip("{")) {
      made = items(make(Expression::dict), "}");
    } else {
      fail("an expression is missing" +
           (token.value.empty() ? "" : " before " + excerpt(token.value)));
    }
    return made;
  }

  /// "a, b, c]", or "a: b, c: d}"
  Expression items(Expression made, std::string_view closing) {
    while (!skip(closing)) {
      if (!made.parts.empty()) expect(",");
      if (skip(closing)) break;
      add(made, expression());
      if (made.kind != Expression::dict) continue;
      expect(":");
      add(made, expression());
    }
    return made;
  }

  Expression postfix(Expression left) {
    for (;;) {
      if (skip(".")) {
        if (peek().kind == Token::number)
          left = make(Expression::subscript, "", std::move(left), primary());
        else left = make(Expression::attribute, name(), std::move(left));
      } else if (skip("[")) {
        left = subscript(make(Expression::subscript, "", std::move(left)));
      } else if (at("(")) {
        left = arguments(make(Expression::call, "", std::move(left)));
      } else {
        return left;
      }
    }
  }

  /// "[i]" or "[start:stop:step]"
  Expression subscript(Expression made) {
    do {
      add(made, at(":") || at("]") ? make(Expression::constant) : expression());
      if (at(":")) made.kind = Expression::slice;
    } while (skip(":"));
    expect("]");
    if (made.parts.size() > 4) fail("a slice has at most three parts");
    if (made.kind == Expression::slice) made.parts.resize(4, make(Expression::constant));
    return made;
  }

  /// "(a, b, c=d)" behind a call, filter or test.
  Expression arguments(Expression made) {
    expect("(");
    for (bool first = true; !skip(")"); first = false) {
      if (!first) expect(",");
      if (skip(")")) break;
      if (at_any({"*", "**"})) fail_unsupported("'*' before an argument");
      const bool named = peek().kind == Token::name && at("=", 1);
      if (named) {
        made.keywords.push_back(name());
        expect("=");
      } else if (!made.keywords.empty()) {
        fail("an argument without a name stands behind one with a name");
      }
      add(made, expression());
    }
    return made;
  }

  Expression filters(Expression left) {
    while (skip("|")) left = filter(std::move(left));
    return left;
  }
  Expression filter(Expression left) {
    Expression made = make(Expression::filter, name(), std::move(left));
    return at("(") ? arguments(std::move(made)) : made;
  }

  Expression test(Expression left) {
    const bool negated = skip("not");
    Expression made = make(Expression::test, name(), std::move(left));
    const bool operand = peek().kind == Token::string || peek().kind == Token::number ||
                         at_any({"[", "{"}) ||
                         (peek().kind == Token::name && !at_any({"else", "or", "and", "is"}));
    if (at("(")) made = arguments(std::move(made));
    else if (operand) add(made, postfix(primary()));
    return negated ? make(Expression::unary, "not", std::move(made)) : made;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int nesting_ = 0, loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).run(); }

}  // namespace kv::jinja

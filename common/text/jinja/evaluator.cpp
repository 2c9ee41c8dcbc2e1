#include "common/text/jinja/evaluator.hpp"

#include <algorithm>
#include <deque>
#include <limits>

#include "common/text/jinja/functions.hpp"
#include "common/text/jinja/python_text.hpp"
#include "common/text/tokenizer_json.hpp"

namespace kv::jinja {
namespace {

constexpr int deepest =
    400;  // expressions and statements that are being evaluated, macros in macros included

/// Names and what they stand for. An assignment is made in the innermost scope and ends with it.
struct Scope {
  const Scope* outer = nullptr;
  std::map<std::string, Value, std::less<>> names = {};

  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope; scope = scope->outer)
      if (const auto found = scope->names.find(name); found != scope->names.end())
        return &found->second;
    return nullptr;
  }
};

class Evaluator {
 public:
  Evaluator(const Given& given, Meter& meter) : given_(given), meter_(meter) {
    root_.names = given.variables;
    for (const std::string_view name :
         {"range", "namespace", "dict", "raise_exception", "strftime_now"})
      root_.names.try_emplace(std::string(name), Value{Function{name, nullptr}});
  }

  std::string run(const Block& block) {
    Writer out(meter_);
    try {
      execute(block, root_, out);
    } catch (const Error& error) {
      throw Error("line " + std::to_string(line_) + ": " + error.what());
    }
    return out.take();
  }

 private:
  enum class Flow { on, leave_loop, next_round };

  /// Counts what is being evaluated while it lives.
  struct Nesting {
    explicit Nesting(int& depth) : depth(depth) {
      if (++depth > deepest)
        throw Error("the chat template is nested deeper than " + std::to_string(deepest) +
                    " levels");
    }
    ~Nesting() { --depth; }
    int& depth;
  };

  // ---- statements ----

  Flow execute(const Block& block, Scope& scope, Writer& out) {
    const Nesting nesting(depth_);
    for (const Statement& statement : block)
      if (const Flow flow = execute(statement, scope, out); flow != Flow::on) return flow;
    return Flow::on;
  }

  Flow execute(const Statement& statement, Scope& scope, Writer& out) {
    meter_.step();
    line_ = statement.line;
    switch (statement.kind) {
      case Statement::data: out.add(statement.text); break;
      case Statement::output: out.add(printed(evaluate(statement.expressions[0], scope))); break;
      case Statement::condition: return condition(statement, scope, out);
      case Statement::loop: return loop(statement, scope, out);
      case Statement::assignment:
        assign(statement, evaluate(statement.expressions[0], scope), scope);
        break;
      case Statement::capture: assign(statement, captured(statement, scope), scope); break;
      case Statement::filtered: out.add(printed(captured(statement, scope))); break;
      case Statement::macro:
        if (scope.outer)
          throw Error(
              "a macro inside of another tag than 'if' is not supported in a chat template");
        scope.names.insert_or_assign(statement.text, Value{Function{statement.text, &statement}});
        break;
      case Statement::scope: {
        Scope inner{&scope};
        return execute(statement.blocks[0], inner, out);
      }
      case Statement::leave_loop: return Flow::leave_loop;
      case Statement::next_round: return Flow::next_round;
    }
    return Flow::on;
  }

  Flow condition(const Statement& statement, Scope& scope, Writer& out) {
    for (std::size_t i = 0; i < statement.blocks.size(); ++i)
      if (i == statement.expressions.size() || truth(evaluate(statement.expressions[i], scope)))
        return execute(statement.blocks[i], scope, out);
    return Flow::on;
  }

  Flow loop(const Statement& statement, Scope& scope, Writer& out) {
    std::vector<Value> items = items_of(evaluate(statement.expressions[0], scope), meter_);
    if (statement.expressions.size() > 1)
      std::erase_if(items, [&](const Value& item) {
        Scope inner{&scope};
        unpack(statement.names, item, inner);
        return !truth(evaluate(statement.expressions[1], inner));
      });
    if (items.empty())
      return statement.blocks.size() > 1 ? execute(statement.blocks[1], scope, out) : Flow::on;
    const auto state = std::make_shared<Loop>();
    state->items = make_list(std::move(items), meter_).as<std::shared_ptr<const List>>();
    for (; state->index < state->items->items.size(); ++state->index) {
      Scope inner{&scope};
      inner.names.emplace("loop", Value{std::shared_ptr<const Loop>(state)});
      unpack(statement.names, state->items->items[state->index], inner);
      if (execute(statement.blocks[0], inner, out) == Flow::leave_loop) break;
    }
    return Flow::on;
  }

  void assign(const Statement& statement, const Value& value, Scope& scope) {
    if (!statement.in_namespace) return unpack(statement.names, value, scope);
    const Value* const target = scope.find(statement.names[0]);
    if (!target || !target->is<Namespace*>())
      throw Error(excerpt(statement.names[0]) + " is no namespace, so nothing in it can be set");
    target->as<Namespace*>()->members.insert_or_assign(statement.names[1], value);
  }

  void unpack(const std::vector<std::string>& names, const Value& value, Scope& scope) {
    if (names.size() == 1) {
      scope.names.insert_or_assign(names[0], value);
      return;
    }
    const std::vector<Value> parts = items_of(value, meter_);
    if (parts.size() != names.size())
      throw Error(std::to_string(parts.size()) + " values cannot be given " +
                  std::to_string(names.size()) + " names");
    for (std::size_t i = 0; i < names.size(); ++i) scope.names.insert_or_assign(names[i], parts[i]);
  }

  Value captured(const Statement& statement, Scope& scope) {
    Writer text(meter_);
    Scope inner{&scope};
    execute(statement.blocks[0], inner, text);
    return filtered(statement.expressions[0], make_text(text.take()), scope);
  }
  /// The filters of an expression that has no value of its own.
  Value filtered(const Expression& expression, Value text, Scope& scope) {
    if (expression.kind != Expression::filter) return text;
    const Value input = filtered(expression.parts[0], std::move(text), scope);
    return apply_filter(expression.text, input, arguments(expression, scope), meter_);
  }

  // ---- expressions ----

  Value evaluate(const Expression& expression, Scope& scope) {
    const Nesting nesting(depth_);
    meter_.step();
    line_ = expression.line;
    const auto part = [&](std::size_t i) { return evaluate(expression.parts[i], scope); };
    switch (expression.kind) {
      case Expression::constant: return expression.value;
      case Expression::name: {
        const Value* const found = scope.find(expression.text);
        return found ? *found : make_undefined(expression.text);
      }
      case Expression::list: return make_list(arguments(expression, scope, 0).positional, meter_);
      case Expression::dict: return dictionary(expression, scope);
      case Expression::attribute: return attribute(part(0), expression.text, meter_);
      case Expression::subscript: {
        const Value value = part(0);
        return subscript(value, part(1), meter_);
      }
      case Expression::slice: return slice(expression, scope);
      case Expression::call: return call(expression, scope);
      case Expression::filter: {
        const Value input = part(0);
        return apply_filter(expression.text, input, arguments(expression, scope), meter_);
      }
      case Expression::test: {
        const Value input = part(0);
        return {apply_test(expression.text, input, arguments(expression, scope), meter_)};
      }
      case Expression::unary: return unary(expression.text, part(0));
      case Expression::binary: return binary(expression, scope);
      case Expression::comparison: return comparison(expression, scope);
      case Expression::conditional: return truth(part(0)) ? part(1) : part(2);
      case Expression::joined: {
        Writer text(meter_);
        for (std::size_t i = 0; i < expression.parts.size(); ++i) text.add(printed(part(i)));
        return make_text(text.take());
      }
    }
    return {};
  }

  Arguments arguments(const Expression& expression, Scope& scope, std::size_t first = 1) {
    Arguments result;
    const std::size_t named = expression.parts.size() - expression.keywords.size();
    for (std::size_t i = first; i < named; ++i)
      result.positional.push_back(evaluate(expression.parts[i], scope));
    for (std::size_t i = named; i < expression.parts.size(); ++i)
      result.named.emplace_back(expression.keywords[i - named],
                                evaluate(expression.parts[i], scope));
    return result;
  }

  Value dictionary(const Expression& expression, Scope& scope) {
    std::vector<std::pair<Value, Value>> members;
    for (std::size_t i = 0; i < expression.parts.size(); i += 2) {
      Value key = evaluate(expression.parts[i], scope);
      members.emplace_back(std::move(key), evaluate(expression.parts[i + 1], scope));
    }
    return make_dict(std::move(members), meter_);
  }

  Value slice(const Expression& expression, Scope& scope) {
    const Value whole = evaluate(expression.parts[0], scope);
    std::optional<std::int64_t> bounds[3];
    for (std::size_t i = 0; i < 3; ++i)
      if (const Value bound = evaluate(expression.parts[i + 1], scope); !bound.is<None>())
        bounds[i] = integer(bound, "slice at");
    if (!whole.text() && !whole.list()) refuse("slice", whole);
    const std::vector<Value> items = items_of(whole, meter_);
    std::vector<Value> taken;
    Writer text(meter_);
    for (const std::size_t i : slice_positions(static_cast<std::int64_t>(items.size()), bounds[0],
                                               bounds[1], bounds[2].value_or(1), meter_)) {
      if (whole.text()) text.add(*items[i].text());
      else taken.push_back(items[i]);
    }
    return whole.text() ? make_text(text.take()) : make_list(std::move(taken), meter_);
  }

  Value unary(std::string_view symbol, const Value& operand) {
    if (symbol == "not") return {!truth(operand)};
    const std::int64_t number = integer(operand, "change the sign of");
    return {symbol == "-" ? -number : number};
  }

  Value binary(const Expression& expression, Scope& scope) {
    const std::string& symbol = expression.text;
    Value left = evaluate(expression.parts[0], scope);
    if (symbol == "and" || symbol == "or")
      return truth(left) == (symbol == "or") ? left : evaluate(expression.parts[1], scope);
    const Value right = evaluate(expression.parts[1], scope);
    if (symbol == "+" && left.text() && right.text()) {
      Writer sum(meter_);
      sum.add(*left.text());
      sum.add(*right.text());
      return make_text(sum.take());
    }
    if (symbol == "+" && left.list() && right.list()) {
      std::vector<Value> sum = items_of(left, meter_);
      for (Value& item : items_of(right, meter_)) sum.push_back(std::move(item));
      return make_list(std::move(sum), meter_);
    }
    if (symbol == "*" && left.text())
      return repeated(*left.text(), integer(right, "repeat a text by"));
    const std::string verb = "compute with '" + symbol + "' and";
    return arithmetic(symbol, integer(left, verb), integer(right, verb));
  }

  Value repeated(std::string_view text, std::int64_t times) {
    Writer out(meter_);
    for (; times > 0; --times) out.add(text);
    return make_text(out.take());
  }

  static Value arithmetic(std::string_view symbol, std::int64_t left, std::int64_t right) {
    std::int64_t result = 0;
    bool fits = true;
    if (symbol == "+") fits = !__builtin_add_overflow(left, right, &result);
    if (symbol == "-") fits = !__builtin_sub_overflow(left, right, &result);
    if (symbol == "*") fits = !__builtin_mul_overflow(left, right, &result);
    if (symbol == "//" || symbol == "%") {
      if (right == 0) throw Error("division by zero");
      if (right == -1) return {symbol == "%" ? 0 : -left};
      const bool down = left % right != 0 && (left < 0) != (right < 0);  // Python rounds down
      result = symbol == "//" ? left / right - down : left % right + (down ? right : 0);
    }
    if (!fits || result == std::numeric_limits<std::int64_t>::min())
      throw Error("a number becomes too large");
    return {result};
  }

  Value comparison(const Expression& expression, Scope& scope) {
    Value left = evaluate(expression.parts[0], scope);
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
      Value right = evaluate(expression.parts[i + 1], scope);
      if (!holds(left, expression.operators[i], right)) return {false};
      left = std::move(right);
    }
    return {true};
  }
  bool holds(const Value& left, std::string_view symbol, const Value& right) {
    if (symbol == "==") return equal(left, right, meter_);
    if (symbol == "!=") return !equal(left, right, meter_);
    if (symbol == "in") return contains(right, left, meter_);
    if (symbol == "not in") return !contains(right, left, meter_);
    if (symbol == "<") return less(left, right);
    if (symbol == ">") return less(right, left);
    return symbol == "<=" ? !less(right, left) : !less(left, right);
  }

  // ---- calls ----

  Value call(const Expression& expression, Scope& scope) {
    const Expression& callee = expression.parts[0];
    Value function;
    if (callee.kind == Expression::attribute) {
      const Value self = evaluate(callee.parts[0], scope);
      if (!self.is<Namespace*>())
        return call_method(self, callee.text, arguments(expression, scope), meter_);
      function = attribute(self, callee.text, meter_);
    } else {
      function = evaluate(callee, scope);
    }
    if (!function.is<Function>()) refuse("call", function);
    const Arguments given = arguments(expression, scope);
    line_ = expression.line;
    const auto& [name, macro] = function.as<Function>();
    if (macro) return call_macro(*macro, given);
    if (name == "range") return range(given);
    if (name == "namespace") return make_namespace(given);
    if (name == "dict") return make_dict(named_members(given), meter_);
    if (name == "strftime_now") return strftime_now(given);
    const Value* const message = given.in_order({"message"})[0];
    throw Error("the template says: " + excerpt(message ? printed(*message) : ""));
  }

  Value call_macro(const Statement& macro, const Arguments& given) {
    if (given.positional.size() > macro.names.size())
      throw Error("the macro '" + macro.text + "' has too many arguments");
    Scope scope{&root_};
    for (std::size_t i = 0; i < given.positional.size(); ++i)
      scope.names.emplace(macro.names[i], given.positional[i]);
    for (const auto& [name, value] : given.named) {
      if (std::ranges::find(macro.names, name) == macro.names.end() ||
          !scope.names.emplace(name, value).second)
        throw Error("the macro '" + macro.text + "' has no argument " + excerpt(name) + " left");
    }
    const std::size_t required = macro.names.size() - macro.expressions.size();
    for (std::size_t i = 0; i < macro.names.size(); ++i) {
      if (scope.names.contains(macro.names[i])) continue;
      scope.names.emplace(macro.names[i], i < required
                                              ? make_undefined(macro.names[i])
                                              : evaluate(macro.expressions[i - required], scope));
    }
    Writer text(meter_);
    execute(macro.blocks[0], scope, text);
    return make_text(text.take());
  }

  Value range(const Arguments& given) {
    if (given.positional.empty() || given.positional.size() > 3 || !given.named.empty())
      throw Error("'range' needs 1 to 3 numbers");
    const auto number = [&](std::size_t i) { return integer(given.positional[i], "count by"); };
    const bool one = given.positional.size() == 1;
    const std::int64_t start = one ? 0 : number(0), stop = number(one ? 0 : 1),
                       step = given.positional.size() == 3 ? number(2) : 1;
    if (step == 0) throw Error("'range' cannot have the step 0");
    std::vector<Value> numbers;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
      meter_.elements(1);
      numbers.push_back({i});
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return make_list(std::move(numbers), meter_);
  }

  static std::vector<std::pair<Value, Value>> named_members(const Arguments& given) {
    if (!given.positional.empty())
      throw Error("a dictionary or namespace is made of arguments with names here");
    std::vector<std::pair<Value, Value>> members;
    for (const auto& [name, value] : given.named)
      members.emplace_back(make_text(std::string(name)), value);
    return members;
  }

  Value make_namespace(const Arguments& given) {
    meter_.elements(10);
    namespaces_.emplace_back();
    for (const auto& [name, value] : named_members(given))
      namespaces_.back().members.insert_or_assign(*name.text(), value);
    return {&namespaces_.back()};
  }

  Value strftime_now(const Arguments& given) {
    const Value* const format = given.in_order({"format"})[0];
    if (!format || !format->text()) throw Error("'strftime_now' needs a text");
    if (!given_.today)
      throw Error("it asks for today's date, which must be given: --date YYYY-MM-DD");
    meter_.bytes(10 * format->text()->size());
    return make_text(strftime(*given_.today, *format->text()));
  }

  const Given& given_;
  Meter& meter_;
  Scope root_;
  std::deque<Namespace> namespaces_;
  int line_ = 1, depth_ = 0;
};

}  // namespace

std::string render_block(const Block& block, const Given& given, Meter& meter) {
  return Evaluator(given, meter).run(block);
}

}  // namespace kv::jinja

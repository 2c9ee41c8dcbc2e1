#include "chapters/program/kvbook.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <iomanip>
#include <iostream>
#include <system_error>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/files/new_path.hpp"
#include "common/tensor/input_format.hpp"
#include "common/tensor/simd/instruction_set.hpp"
#include "common/text/one_line.hpp"

namespace {

using kv::Command;

constexpr std::array commands{
    &kv::tour_command,    &kv::stages_command,  &kv::generate_command,   &kv::chat_command,   &kv::serve_command,
    &kv::traffic_command, &kv::compare_command, &kv::trace_command,      &kv::bench_command,  &kv::logits_command,
    &kv::inspect_command, &kv::budget_command,  &kv::experts_command,    &kv::balance_command, &kv::perplexity_command,
    &kv::needle_command,  &kv::quantise_command, &kv::pack_command,      &kv::gpu_bench_command, &kv::tokenise_command,
    &kv::claim_command};

void print_help() {
  std::cout << "kvbook: an executable book about the KV cache in LLM inference\n\n"
               "usage: kvbook COMMAND [OPTION ...]\n\ncommands:\n";
  for (const Command* command : commands)
    std::cout << "  " << std::left << std::setw(12) << command->name << command->summary << "\n";
  std::cout << "\n  kvbook COMMAND --help   options of a command\n  kvbook --version\n";
}

/// A command that takes a stage takes the options of all stages: the stage says which of them it has.
std::vector<kv::Option> options_of(const Command& command) {
  std::vector<kv::Option> options = command.options;
  const auto takes_stage = [](const kv::Option& option) { return option.name == "--stage" || option.name == "--stages"; };
  if (std::ranges::any_of(options, takes_stage)) std::ranges::copy(kv::stage_options(), std::back_inserter(options));
  return options;
}

void print_help(const Command& command) {
  std::cout << "kvbook " << command.name << ": " << command.summary << "\n\nusage: kvbook " << command.name
            << (command.options.empty() ? "" : " [OPTION ...]");
  for (const kv::Option& option : command.options)
    if (!option.name.starts_with("--")) std::cout << " [" << option.name << "]";
  std::cout << "\n\noptions:\n";
  for (const kv::Option& option : options_of(command))
    std::cout << "  " << std::left << std::setw(26) << std::string(option.name) + " " + std::string(option.value)
              << option.help << "\n";
  std::cout << "  " << std::left << std::setw(26) << "--help" << "this text\n";
}

/// The set that brings an instruction for a format.
kv::InstructionSet made_for(kv::InputFormat format) {
  if (integers(format)) return kv::InstructionSet::avx512_vnni;
  return format == kv::InputFormat::bf16 ? kv::InstructionSet::avx512_bf16 : kv::InstructionSet::amx;
}

/// With what this processor computes each format of inputs.
void print_version() {
  const std::vector<kv::InstructionSet> sets = kv::available_instruction_sets();
  const std::string vectors(name(std::min(sets.back(), kv::InstructionSet::avx512)));
  std::cout << "kvbook " KV_VERSION "\ninputs: f32 by " << vectors;
  for (const kv::InputFormat format : kv::input_formats()) {
    if (format == kv::InputFormat::f32) continue;
    const kv::InstructionSet set = made_for(format);
    const bool used = set == sets.back() || (integers(format) && std::ranges::count(sets, set) != 0);
    std::cout << ", " << name(format) << " by " << (used ? name(set) : vectors);
  }
  std::cout << "\n";
}

bool asks_for_help(const std::string& word) { return word == "--help" || word == "-h"; }

void run(const std::vector<std::string>& words) {
  if (words.empty()) throw kv::UsageError("no command given; kvbook --help lists them");
  if (asks_for_help(words[0]) || words[0] == "help") return print_help();
  if (words[0] == "--version") {
    return print_version();
  }
  const auto found = std::ranges::find(commands, words[0], &Command::name);
  if (found == commands.end()) throw kv::UsageError("unknown command '" + words[0] + "'; kvbook --help lists them");
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (std::ranges::any_of(rest, asks_for_help)) return print_help(**found);
  (*found)->run(kv::Arguments(rest, options_of(**found)));
}

/// As if the signal had not waited.
void end_by(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

namespace kv {

std::optional<Failure> run_kvbook(const std::vector<std::string>& words) {
  try {
    run(words);
    std::cout.flush();
    if (!std::cout) throw Error("standard output cannot be written: is the disk full?");
    return std::nullopt;
  } catch (const UsageError& error) {
    return Failure{2, error.what()};
  } catch (const Interrupted& interrupted) {
    end_by(interrupted.signal);
    return Failure{128 + interrupted.signal, "interrupted"};
  } catch (const std::bad_alloc&) {
    return Failure{1, "not enough memory: a smaller model, capacity or batch is needed"};
  } catch (const std::system_error& error) {
    const bool is_thread = error.code() == std::errc::resource_unavailable_try_again;
    return Failure{1, is_thread ? "the system gives no more threads: ask for fewer with --threads" : error.what()};
  } catch (const std::exception& error) {
    return Failure{1, error.what()};
  }
}

void print_error(std::string_view message) { std::cerr << "kvbook: error: " << one_line(message) << "\n"; }

}  // namespace kv

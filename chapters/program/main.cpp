/// @file
/// The kvbook program: finds the subcommand, reports errors. Each subcommand is a file of its own, <name>_command.cpp.
#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/tensor/memory.hpp"

namespace {

using kv::Command;

constexpr std::array commands{&kv::tour_command,   &kv::stages_command,  &kv::generate_command, &kv::chat_command,
                              &kv::serve_command,  &kv::compare_command, &kv::bench_command,    &kv::logits_command,
                              &kv::inspect_command, &kv::budget_command, &kv::experts_command,  &kv::balance_command,
                              &kv::perplexity_command, &kv::needle_command, &kv::quantise_command, &kv::gpu_bench_command,
                              &kv::tokenise_command};

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

bool asks_for_help(const std::string& word) { return word == "--help" || word == "-h"; }

void run(const std::vector<std::string>& words) {
  if (words.empty()) throw kv::UsageError("no command given; kvbook --help lists them");
  if (asks_for_help(words[0]) || words[0] == "help") return print_help();
  if (words[0] == "--version") {
    std::cout << "kvbook " KV_VERSION "\n";
    return;
  }
  const auto found = std::ranges::find(commands, words[0], &Command::name);
  if (found == commands.end()) throw kv::UsageError("unknown command '" + words[0] + "'; kvbook --help lists them");
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (std::ranges::any_of(rest, asks_for_help)) return print_help(**found);
  (*found)->run(kv::Arguments(rest, options_of(**found)));
}

/// One line, whatever a message quotes from the command line or a file.
void print_error(std::string message) {
  for (char& c : message)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  std::cerr << "kvbook: error: " << message << "\n";
}

}  // namespace

int main(int count, char** words) {
  kv::keep_freed_memory();
  try {
    run({words + 1, words + count});
    std::cout.flush();
    if (!std::cout) throw kv::Error("standard output cannot be written: is the disk full?");
    return 0;
  } catch (const kv::UsageError& error) {
    print_error(error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    print_error("not enough memory: a smaller model, capacity or batch is needed");
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return 1;
}

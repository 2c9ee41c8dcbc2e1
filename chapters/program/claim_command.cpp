#include <iostream>

#include "chapters/program/claims.hpp"
#include "chapters/program/session.hpp"
#include "chapters/program/shipped.hpp"
#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

void list() {
  Table table({"claim", "verdict", "what is said"});
  for (index_t i = 0; i < claims().size(); ++i)
    table.add({std::to_string(i + 1), std::string(verdict_name(claims()[i].verdict)), std::string(claims()[i].says)});
  std::cout << table.text();
}

/// A claim's numbers, found just now; a line is added to `outside` for each that is not where it must be.
std::vector<std::string> find_numbers(index_t number, const Arguments& arguments, std::string& outside) {
  std::vector<std::string> found;
  for (const ClaimNumber& each : claims()[number - 1].numbers) {
    show_progress("claim " + std::to_string(number) + ": " + std::string(each.what));
    const double value = each.find(arguments.text_or("--model", shipped(each.model).string()));
    found.push_back(number_text(value));
    if (!(value >= each.least && value <= each.most))
      outside += (outside.empty() ? "claim " : "; claim ") + std::to_string(number) + ", " + std::string(each.what) + ": " +
                 number_text(value) + " is not " + interval_text(each);
  }
  clear_progress();
  return found;
}

void print(index_t number, const std::vector<std::string>& found) {
  const Claim& claim = claims()[number - 1];
  const Source& source = claim_sources()[claim.source];
  std::cout << "claim " << number << ": " << claim.says << "\nfrom: " << source.title << " (" << source.original << ")\n"
            << verdict_name(claim.verdict) << reason(claim) << "\nin the book: " << claim.place.substr(0, claim.place.find('-')) << ".html#"
            << claim.place << "\n";
  if (claim.numbers.empty()) return;
  Table table({"number", "model", "found", "must be"});
  for (index_t i = 0; i < found.size(); ++i)
    table.add({std::string(claim.numbers[i].what), std::string(claim.numbers[i].model), found[i], interval_text(claim.numbers[i])});
  std::cout << "\n" << table.text();
}

/// All of them as the book's page shows them, a table for each source. Doxygen takes no heading of Markdown from an included file.
void print_page(const Arguments& arguments, std::string& outside) {
  for (index_t i = 0; i < claims().size(); ++i) {
    const index_t source = claims()[i].source;
    if (i == 0 || source != claims()[i - 1].source)
      std::cout << "\n<h2>" << claim_sources()[source].title << "</h2>\n\n" << claim_sources()[source].original
                << "\n\n| | what is said | what is found | numbers |\n|---|---|---|---|\n";
    std::cout << markdown_row(i + 1, find_numbers(i + 1, arguments, outside));
  }
}

void run(const Arguments& arguments) {
  set_threads(arguments.size_or("--threads", 1, 1));
  std::string outside;
  if (arguments.has("--markdown")) {
    print_page(arguments, outside);
  } else if (!arguments.has("N")) {
    list();
  } else {
    const index_t number = parse_size(arguments.text("N"), "N");
    if (number < 1 || number > claims().size())
      throw UsageError("there is no claim " + std::to_string(number) + ", there are 1 to " + std::to_string(claims().size()) +
                       ": kvbook claim lists them");
    print(number, find_numbers(number, arguments, outside));
  }
  if (!outside.empty()) throw Error(outside);
}

}  // namespace

const Command claim_command{"claim",
                            "what articles say of the KV cache, and the numbers that decide it",
                            {{"N", "", "the claim's number; without it all are listed"},
                             {"--model", "DIR", "find its numbers on another model than they name; they need not lie where they must then"},
                             {"--markdown", "", "find the numbers of all, and print the book's page"},
                             {"--threads", "T", "threads (default 1: times then depend less on what else runs)"}},
                            run};

}  // namespace kv

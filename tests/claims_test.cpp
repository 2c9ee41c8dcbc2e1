/// Claims of articles: each has a verdict and a place in the book, its command finds its numbers where they must lie, and the
/// book's page is what the command says. And the changed feed-forward halves that some numbers come from.
#include <cmath>
#include <regex>
#include <set>

#include "chapters/program/claims.hpp"
#include "chapters/program/claim_numbers.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/program.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;
namespace fs = std::filesystem;

namespace {

Finished claim(std::vector<std::string> words) {
  words.insert(words.begin(), {KV_PROGRAM, "claim"});
  return run_program(words);
}

/// Anchors of all sections of the book.
std::set<std::string> anchors() {
  static const std::regex anchor("\n#+ [^\n]*\\{#([\\w-]+)\\}");
  std::set<std::string> found;
  for (const char* folder : {"chapters", "docs"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(KV_ROOT) / folder)) {
      if (entry.path().extension() != ".md") continue;
      const std::string text = contents_of(entry.path());
      for (auto match = std::sregex_iterator(text.begin(), text.end(), anchor); match != std::sregex_iterator(); ++match)
        found.insert((*match)[1]);
    }
  return found;
}

struct NoFeedForward : FeedForward {
  Tensor<2> forward(const Tensor<2>& x) const override { return zeros<2>({x.shape(0), x.shape(1)}); }
};

bool timed(const Claim& claim) { return std::ranges::any_of(claim.numbers, &ClaimNumber::timed); }

}  // namespace

TEST_CASE("53 claims of four articles, each with a reason, and a place that the book has", "[claims]") {
  REQUIRE(claims().size() == 53);
  REQUIRE(claim_sources().size() == 4);
  const std::set<std::string> places = anchors();
  REQUIRE(places.size() > 100);
  index_t source = 0;
  std::set<std::string_view> said;
  for (const Claim& each : claims()) {
    CAPTURE(each.says);
    CHECK(said.insert(each.says).second);
    CHECK(each.says.ends_with('.'));
    CHECK(each.why.size() > 5);
    CHECK(each.why.ends_with('.'));
    CHECK(places.contains(std::string(each.place)));
    CHECK((each.source == source || each.source == source + 1));
    source = each.source;
    CHECK((each.verdict == Verdict::not_tested || !each.numbers.empty()));
    for (const ClaimNumber& number : each.numbers) {
      CHECK(number.least <= number.most);
      CHECK(fs::exists(fs::path(KV_DATA) / number.model / "config.json"));
    }
  }
  CHECK(source == 3);
}

TEST_CASE("the command finds every number that needs no clock where it must lie", "[claims]") {
  for (index_t i = 0; i < claims().size(); ++i) {
    if (timed(claims()[i])) continue;  // tests/run --all
    const Finished finished = claim({std::to_string(i + 1)});
    INFO(finished.out << finished.err);
    CHECK(finished.exit_code == 0);
    CHECK(finished.err == "");
    for (const std::string_view part : {claims()[i].says, claims()[i].why, claims()[i].place}) CHECK(holds(finished.out, std::string(part)));
    for (const ClaimNumber& number : claims()[i].numbers) CHECK(holds(finished.out, interval_text(number)));
  }
}

TEST_CASE("a number that lies elsewhere is an error, and so is a claim that is not there", "[claims]") {
  const Finished outside = claim({"16", "--model", KV_DATA "/configs/deepseek-v2"});
  CHECK(outside.exit_code == 1);
  CHECK(holds(outside.err, "kvbook: error: claim 16, weights in bf16, GB: 471.5 is not 31.4 to 31.5"));
  CHECK(std::ranges::count(outside.err, '\n') == 1);
  for (const char* number : {"0", "54"}) CHECK(holds(claim({number}).err, "there is no claim " + std::string(number)));
  CHECK(claim({"0"}).exit_code == 2);
  CHECK(claim({"first"}).exit_code == 2);
}

TEST_CASE("without a number all are listed", "[claims]") {
  const Finished finished = claim({});
  CHECK(finished.exit_code == 0);
  for (const Claim& each : claims()) CHECK(holds(finished.out, std::string(each.says)));
}

TEST_CASE("what the exercises ask to be measured lies where they say", "[claims]") {
  static const std::regex row("\n\\| [^|]+\\? \\| `build/kvbook claim (\\d+)` \\| ([^|]+) \\|");
  index_t chapters = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(KV_ROOT) / "chapters")) {
    const fs::path file = entry.path() / "exercises/exercises.md";
    if (!fs::exists(file)) continue;
    const std::string text = contents_of(file), questions = text.substr(std::min(text.find("\n## Measure it\n"), text.size()));
    CAPTURE(file);
    std::ptrdiff_t found = 0;
    for (auto match = std::sregex_iterator(questions.begin(), questions.end(), row); match != std::sregex_iterator(); ++match, ++found) {
      const Claim& asked = claims().at(std::stoul((*match)[1]) - 1);
      CHECK(std::ranges::count(asked.numbers, (*match)[2].str(), interval_text) > 0);
    }
    CHECK(found > 0);
    CHECK(found == std::ranges::count(questions, '?'));
    ++chapters;
  }
  CHECK(chapters == 10);
}

TEST_CASE("the book's page is what the command says, with numbers that lie where they must", "[claims]") {
  INFO("made anew by: build/kvbook claim --markdown, see docs/measure/run");
  const std::string page = contents_of(fs::path(KV_ROOT) / "docs/measured/claims.md");
  for (index_t i = 0; i < claims().size(); ++i) {
    CAPTURE(i + 1);
    const std::size_t start = page.find("\n| " + std::to_string(i + 1) + " | ");
    REQUIRE(start != page.npos);
    const std::string row = page.substr(start + 1, page.find('\n', start + 1) - start);
    std::vector<std::string> found;
    static const std::regex number(": \\*\\*([^*]+)\\*\\* \\(");
    for (auto match = std::sregex_iterator(row.begin(), row.end(), number); match != std::sregex_iterator(); ++match)
      found.push_back((*match)[1]);
    REQUIRE(found.size() == claims()[i].numbers.size());
    CHECK(row == markdown_row(i + 1, found));
    for (index_t n = 0; n < found.size(); ++n) {
      const double slack = 1e-3 * std::abs(std::stod(found[n]));  // four digits
      CHECK(std::stod(found[n]) >= claims()[i].numbers[n].least - slack);
      CHECK(std::stod(found[n]) <= claims()[i].numbers[n].most + slack);
    }
  }
}

TEST_CASE("parts of a row by magnitude become 0, the others stay", "[claims]") {
  const std::vector<float> row{3, -5, 0.5F, -1, 4, 2, -0.25F, 0};
  const auto without = [&](double first, double last) {
    std::vector<float> changed = row;
    zero_by_magnitude(changed, first, last);
    return changed;
  };
  CHECK(without(0.25, 1.0) == std::vector<float>{0, -5, 0, 0, 4, 0, 0, 0});
  CHECK(without(0.0, 0.25) == std::vector<float>{3, 0, 0.5F, -1, 0, 2, -0.25F, 0});
  CHECK(without(0.0, 1.0) == std::vector<float>(row.size()));
  CHECK(without(0.5, 0.5) == row);
}

TEST_CASE("a row in fp8 and back is off by a sixteenth of each number at most, and by a step of the smallest", "[claims]") {
  std::vector<float> row(300);
  for (index_t i = 0; i < row.size(); ++i) row[i] = std::sin(static_cast<float>(i)) * static_cast<float>(i + 1);
  std::vector<float> rounded = row;
  round_to_fp8(rounded);
  CHECK(rounded != row);
  for (index_t i = 0; i < row.size(); ++i) {
    const float scale = static_cast<float>(std::min<index_t>(i / 128 * 128 + 128, row.size())) / 448;
    CHECK(std::abs(rounded[i] - row[i]) <= std::max(std::abs(row[i]) / 16, scale / 512));
  }
}

TEST_CASE("feed-forward halves that are not changed give the model's own bits, changed ones others", "[claims]") {
  for (const char* model : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint checkpoint(fs::path(KV_DATA) / model);
    const std::vector<Token> tokens{1, 52, 7, 301, 9};
    const auto logits = [&](const MakeFeedForward& make) {
      return make_decoder(checkpoint, find_stage("uncached"), {.sequences = 1, .capacity = 5}, make).logits(0, tokens);
    };
    const Tensor<2> own = make_decoder(checkpoint, find_stage("uncached"), {.sequences = 1, .capacity = 5}).logits(0, tokens);
    CAPTURE(model);
    CHECK((logits(with_change({})) == own));
    CHECK((logits(with_change({.inputs = round_to_fp8, .hidden = {}})) != own));
    CHECK((logits(with_change({.inputs = {}, .hidden = round_to_fp8})) != own));
    const auto nothing = [](std::span<float> row) { std::ranges::fill(row, 0.0f); };
    CHECK((logits(with_change({.inputs = {}, .hidden = nothing})) ==
           logits([](const Checkpoint&, index_t) { return std::make_shared<NoFeedForward>(); })));
    CHECK((logits(with_chosen_experts(4)) == own));
    CHECK(((logits(with_chosen_experts(3)) == own) == (std::string_view(model) == "tiny-gqa")));
  }
}

TEST_CASE("logits that differ are counted", "[claims]") {
  CHECK(differences_step_by_step(fs::path(KV_DATA) / "tiny-gqa", "fp8") > 60'000);
  CHECK(differences_step_by_step(fs::path(KV_DATA) / "tiny-gqa", "paged") == 0);
}

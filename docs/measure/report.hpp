#pragma once
/// @file
/// Where measurements go: tables and figures for the book, and one JSON with everything.
#include <filesystem>
#include <string>
#include <vector>

#include "common/files/json.hpp"
#include "docs/measure/plot.hpp"

namespace kv::book {

/// What the numbers were taken on. Stands beside every timing.
struct Circumstances {
  std::string date, device, commit;  ///< "2025-11-21", "Intel Xeon, 2 cores", "1a2b3c4"
  std::string model;                 ///< "tiny-gqa: 5 layers, M 192, H 6, G 2, D 32, F 384, V 2,048; bf16 weights, f32 activations"
  index_t threads;
};

/// A table in Markdown. The first row is the head; the first column stands to the left, the others to the right.
using MarkdownTable = std::vector<std::vector<std::string>>;

/// Collects results and writes them as files in one folder.
class Report {
 public:
  Report(std::filesystem::path folder, Circumstances circumstances);

  /// The same folder and moment, for tables and figures about another model. Its numbers() are not kept.
  Report with_model(std::string model) const;

  const std::filesystem::path& folder() const { return folder_; }

  /// NAME.md, to be pulled into a page by `@include{doc}`. `note` says how it was measured, in one or two sentences.
  void table(const std::string& name, const MarkdownTable& table, const std::string& note) const;
  /// NAME.svg, for `@image html`.
  void figure(const std::string& name, const Plot& plot) const;
  /// The numbers behind both, unrounded, under `name` in the file that finish() writes.
  void numbers(const std::string& name, const std::vector<JsonObject>& rows);
  /// @param file "measured.json"
  void finish(const std::string& file);

 private:
  std::string threads() const;
  void write(const std::string& file, const std::string& text) const;

  std::filesystem::path folder_;
  Circumstances circumstances_;
  JsonObject all_;
};

/// This machine and this moment.  @param commit as git calls it
Circumstances circumstances(std::string commit, std::string model);

}  // namespace kv::book

#pragma once
/// @file
/// The one table of every stage of the book.
#include <functional>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "chapters/09_paged_cache/page_table.hpp"
#include "chapters/models/architectures.hpp"
#include "chapters/models/layer_parts.hpp"
#include "chapters/models/stage_options.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/transformer.hpp"

namespace kv {

/// What a stage promises: how its logits compare with those of another one.
struct Equality {
  double tolerance = 0.0;        ///< relative to the largest logit, for a few layers; 0: equal bit for bit
  std::string_view reason = {};  ///< why not bit for bit; empty when it is
  std::string_view reference = "uncached";
  bool other_sums = false;  ///< attention's own, in another order: compare tries what that may do to this very model
  bool lossy = false;  ///< it forgets or rounds on purpose: what that costs is measured and not promised

  bool exact() const { return tolerance == 0.0 && !lossy; }
};

using MakeLayers = std::function<MakeLayer(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options)>;
/// The same on a page table that is there already, because a scheduler keeps it too.
using MakeLayersOnPages = std::function<MakeLayer(const Checkpoint& checkpoint, std::shared_ptr<PageTable> table)>;
/// Makes the whole model.
using MakeTransformer =
    std::function<std::unique_ptr<Transformer>(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options)>;

/// How far back a stage looks.
enum class Reach {
  as_made,      ///< as the model was made to: on everything, or on a layer's window
  everything,   ///< so a layer with a window cannot be run past it
  beyond_made,  ///< positions are counted among the rows that are kept: a text may outgrow the model's context
};

/// What a stage's linear layers are given, which decides what --inputs may make of it.
enum class LinearInputs {
  whole_rows,  ///< any format
  parts,       ///< of rows: none that gives a whole row one scale
  on_device,   ///< of products that are not ours to choose
};

/// One way to attend.
struct Stage {
  std::string_view name;
  int chapter;
  std::string_view idea;
  std::vector<Family> families;  ///< the checkpoints it runs on
  Equality equality;
  std::variant<MakeLayers, MakeTransformer> make;
  StageOptions options = {};
  Reach reach = Reach::as_made;
  MakeLayersOnPages make_on_pages = {};  ///< of a stage that keeps pages
  LinearInputs linear_inputs = LinearInputs::whole_rows;
};

/// The page table that a stage makes for itself: --page and --pages, or as many as all sequences take when they are full.
/// @throws UsageError for a page that is no power of two, or for fewer pages than one sequence takes
std::shared_ptr<PageTable> make_page_table(const Limits& limits, const StageOptions& options);

/// The same stage on a page table that the caller keeps, to reuse prefixes and to know what is free.
/// @throws Error when it keeps no pages
Stage on_table(Stage stage, std::shared_ptr<PageTable> table);

/// All stages, in the order of the book.
const std::vector<Stage>& stages();

/// Those that run on a family of checkpoints.
std::vector<Stage> stages(Family family);

/// Those that run on a checkpoint as far as its context reaches.
std::vector<Stage> stages(const Checkpoint& checkpoint);

/// A stage by its name or its chapter's number ("03" or "3": the chapter's first stage).
/// @throws UsageError naming the stages there are
const Stage& find_stage(std::string_view name_or_chapter);

}  // namespace kv

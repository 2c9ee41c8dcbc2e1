#include <iostream>
#include <map>

#include "chapters/models/cache_bytes.hpp"
#include "chapters/models/window_config.hpp"
#include "chapters/program/session.hpp"
#include "chapters/studies/memory_budget.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

constexpr index_t f32_bytes = 4, bf16_bytes = 2;

/// Bytes and tensors of every number format.
struct Stored {
  std::size_t bytes = 0;
  index_t tensors = 0;
};

std::map<std::string, Stored> stored_by_dtype(const Checkpoint& weights) {
  std::map<std::string, Stored> result;
  for (const std::string& name : weights.names()) {
    const RawTensor raw = weights.raw(name);
    Stored& stored = result[raw.dtype];
    stored.bytes += raw.data.size();
    ++stored.tensors;
  }
  return result;
}

JsonObject describe_dtypes(const Checkpoint& weights) {
  JsonObject object;
  for (const auto& [dtype, stored] : stored_by_dtype(weights)) object.set(dtype, stored.bytes);
  return object;
}

/// "12 tensors in BF16, 847,616 bytes; 35 in ..."
std::string dtypes_text(const Checkpoint& weights) {
  std::string text;
  for (const auto& [dtype, stored] : stored_by_dtype(weights))
    text += (text.empty() ? "" : "; ") + std::to_string(stored.tensors) + (text.empty() ? " tensors" : "") + " in " + dtype + ", " +
            grouped(stored.bytes) + " bytes";
  return text;
}

JsonObject describe_format(const Json& config, std::string_view stage) {
  return JsonObject().set("stage", stage).set("bytes_per_token", cache_bytes_per_token(config, stage));
}

/// What the checkpoint's own layout takes in every format.
std::string formats_text(const Json& config, index_t context) {
  Table table({"rows in stage", "bytes/token", "bytes/token/layer", "of f32", "GiB at full context"});
  const std::vector<std::string_view> stages = counted_stages(config);
  const double f32 = cache_bytes_per_token(config, stages.front());
  const index_t layers = model_sizes(config).layers;
  for (const std::string_view stage : stages) {
    const double bytes = cache_bytes_per_token(config, stage);
    const double whole = static_cast<double>(cache_bytes(config, stage, {1, context}));
    table.add({std::string(stage), grouped(static_cast<std::size_t>(bytes)),
               grouped(static_cast<std::size_t>(bytes) / layers), decimal(100 * bytes / f32, 1) + "%",
               decimal(whole / (1u << 30), 4)});
  }
  return table.text();
}

JsonObject describe(const Layout& layout, index_t layers) {
  JsonObject object;
  object.set("layout", layout.name)
      .set("own", layout.is_checkpoints_own)
      .set("values_per_token_per_layer", layout.values_per_layer)
      .set("bytes_per_token_bf16", bytes_per_token(layout, layers, bf16_bytes))
      .set("bytes_per_token_f32", bytes_per_token(layout, layers, f32_bytes));
  return object;
}

/// Layers that look back on so many tokens only; none: {0, no_window}.
struct Windows {
  index_t layers, tokens;
};

Windows windows_of(const Json& config, index_t layers) {
  Windows found{0, no_window};
  for (index_t layer = 0; layer < layers; ++layer)
    if (const index_t window = attention_window(config, layer); window != no_window) found = {found.layers + 1, window};
  return found;
}

void run(const Arguments& arguments) {
  const std::filesystem::path directory = model_directory(arguments);
  const Json config = Json::read(directory / "config.json");
  const Family kind = family(config);
  const ModelSizes sizes = model_sizes(config);
  const std::vector<Layout> kinds = layouts(config);
  const std::optional<Checkpoint> weights = weights_of(directory);
  const Windows windows = windows_of(config, sizes.layers);

  if (arguments.has("--json")) {
    std::vector<JsonObject> list;
    for (const Layout& layout : kinds) list.push_back(describe(layout, sizes.layers));
    JsonObject object;
    object.set("model", directory.string())
        .set("architecture", architecture(config).name)
        .set("family", name(kind))
        .set("layers", sizes.layers)
        .set("width", sizes.width)
        .set("vocabulary", sizes.vocabulary)
        .set("context", sizes.context);
    if (windows.layers != 0) object.set("windowed_layers", windows.layers).set("window", windows.tokens);
    if (weights) object.set("parameters", weights->parameters()).set("weight_bytes", weights->bytes()).set("weight_bytes_by_dtype", describe_dtypes(*weights));
    std::vector<JsonObject> formats;
    for (const std::string_view stage : counted_stages(config)) formats.push_back(describe_format(config, stage));
    std::cout << object.set("layouts", list).set("formats", formats).text() << "\n";
    return;
  }
  std::cout << directory.string() << ": " << architecture(config).name << ", attention "
            << name(kind) << "\n"
            << sizes.layers << " layers, width " << sizes.width << ", vocabulary " << grouped(sizes.vocabulary)
            << ", context " << grouped(sizes.context) << "\n";
  if (windows.layers != 0)
    std::cout << windows.layers << " of " << sizes.layers << " layers look back on a window of " << grouped(windows.tokens)
              << " tokens: stage ring keeps no more rows of these\n";
  if (weights)
    std::cout << grouped(weights->parameters()) << " parameters, " << grouped(weights->bytes()) << " bytes of weights\n"
              << dtypes_text(*weights) << "\n\n";
  else
    std::cout << "no weights here: sizes from config.json alone\n\n";
  Table table({"layout", "values/token/layer", "bytes/token bf16", "bytes/token f32", "GiB at full context, bf16"});
  for (const Layout& layout : kinds) {
    const std::size_t bytes = bytes_per_token(layout, sizes.layers, bf16_bytes);
    table.add({layout.name + (layout.is_checkpoints_own ? " *" : ""), grouped(layout.values_per_layer), grouped(bytes),
               grouped(bytes_per_token(layout, sizes.layers, f32_bytes)),
               decimal(static_cast<double>(bytes) * static_cast<double>(sizes.context) / (1u << 30), 4)});
  }
  std::cout << table.text() << "* what the checkpoint is made for\n\n"
            << formats_text(config, sizes.context);
}

}  // namespace

const Command inspect_command{"inspect",
                              "config, parameters, cache bytes per token in every layout",
                              {model_option, json_option},
                              run};

}  // namespace kv

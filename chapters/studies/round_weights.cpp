#include "chapters/studies/round_weights.hpp"

#include <algorithm>
#include <array>

#include "chapters/models/family.hpp"
#include "common/checkpoint/safetensors_writer.hpp"
#include "common/files/error.hpp"
#include "common/files/mapped_file.hpp"
#include "common/files/new_path.hpp"
#include "common/files/replace_file.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

/// Weights that are in memory at a time.
constexpr index_t piece_elements = index_t{1} << 22;

/// Matrices y = W x of every architecture that the book runs.
constexpr std::array rounded_modules{"q_proj",  "k_proj", "v_proj",  "o_proj",    "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa",
                                     "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "lm_head"};

std::string scale_name(const std::string& tensor) { return tensor + "_scale"; }

void require_new(const fs::path& directory) {
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(directory, ignored)))
    throw Error(directory.string() + ": exists already, and nothing is overwritten; give another name or remove it");
}

// ---- tensors ----

/// A tensor of the new file.
StoredTensor stored(const std::string& name, const std::string& dtype, const std::vector<index_t>& shape, std::size_t bytes) {
  return {name, dtype, shape, 0, bytes};
}

std::vector<StoredTensor> new_tensors(const Checkpoint& checkpoint) {
  std::vector<StoredTensor> tensors;
  for (const std::string& name : checkpoint.names()) {
    const RawTensor raw = checkpoint.raw(name);
    if (!is_rounded(name, raw.shape)) {
      tensors.push_back(stored(name, raw.dtype, raw.shape, raw.data.size()));
      continue;
    }
    const index_t rows = raw.shape[0], columns = raw.shape[1];
    tensors.push_back(stored(name, "I8", raw.shape, rows * columns));
    tensors.push_back(stored(scale_name(name), "F32", {rows, 1}, rows * sizeof(float)));
  }
  return tensors;
}

/// Rounds a matrix in pieces of rows.
void write_rounded(const Checkpoint& checkpoint, const std::string& name, SafetensorsWriter& writer) {
  const TensorEntry& entry = checkpoint.entry(name);
  const index_t rows = entry.shape[0], columns = entry.shape[1], step = piece_elements / (columns + 1) + 1;
  const MatrixView matrix{entry.data, entry.type, rows, columns, columns, 1};
  try {
    for (index_t first = 0; first < rows; first += step) {
      const RoundedMatrix piece = rounded_to_i8(matrix.row_slice(first, std::min(step, rows - first)));
      writer.write(name, first * columns, std::as_bytes(std::span(piece.values)));
      writer.write(scale_name(name), first * sizeof(float), std::as_bytes(std::span(piece.scales)));
    }
  } catch (const std::invalid_argument&) {
    throw Error(checkpoint.directory().string() + ": tensor '" + name + "' has a weight that is not finite; it cannot be rounded");
  }
}

void require_not_rounded(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  if (std::ranges::count(config.keys(), "quantization_config"))
    throw Error(config.where() + ": has a quantization_config: its weights are rounded already; quantise the checkpoint they were made from");
  for (const std::string& name : checkpoint.names()) {
    if (!is_rounded(name, checkpoint.raw(name).shape)) continue;
    const DType type = checkpoint.entry(name).type;
    if (type == DType::i8 || type == DType::f8_e4m3)
      throw Error(checkpoint.directory().string() + ": tensor '" + name + "' is in " + std::string(kv::name(type)) +
                  ": its weights are rounded already; quantise the checkpoint they were made from");
    if (checkpoint.has(scale_name(name)))
      throw Error(checkpoint.directory().string() + ": tensor '" + scale_name(name) + "' is in the way of the scales");
  }
}

// ---- other files ----

/// Modules that a reader would otherwise expect to be rounded: matrices that are no embedding, and an output matrix that
/// is the embedding and so has no tensor of its own.
std::vector<std::string> modules_left(const Checkpoint& checkpoint) {
  constexpr std::string_view ending = ".weight";
  std::vector<std::string> modules;
  if (!checkpoint.has("lm_head.weight")) modules.push_back("lm_head");
  for (const std::string& name : checkpoint.names()) {
    const std::vector<index_t> shape = checkpoint.raw(name).shape;
    if (shape.size() == 2 && !is_rounded(name, shape) && name.ends_with(ending) && name != "model.embed_tokens.weight")
      modules.push_back(name.substr(0, name.size() - ending.size()));
  }
  return modules;
}

/// @see https://github.com/neuralmagic/compressed-tensors
JsonObject quantization_config(const Checkpoint& checkpoint) {
  const auto weights = JsonObject().set("num_bits", index_t{8}).set("type", "int").set("symmetric", true).set("strategy", "channel").set("dynamic", false);
  const auto group = JsonObject().set("targets", std::vector<std::string>{"Linear"}).set("weights", weights);
  return JsonObject()
      .set("quant_method", "compressed-tensors")
      .set("format", "int-quantized")
      .set("quantization_status", "compressed")
      .set("config_groups", JsonObject().set("group_0", group))
      .set("ignore", modules_left(checkpoint));
}

/// The original text with one member more, so that nothing of it is lost.
void write_config(const Checkpoint& checkpoint, const fs::path& folder) {
  const MappedFile original(checkpoint.directory() / "config.json");
  std::string text(original.text().substr(0, original.text().rfind('}')));
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  text += ",\n  \"quantization_config\": ";
  for (const char c : quantization_config(checkpoint).text()) text += c == '\n' ? "\n  " : std::string(1, c);
  text += "\n}\n";
  replace_file(folder / "config.json", {text});
}

bool holds_weights(const fs::path& file) {
  constexpr std::array endings{".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".index.json", ".kvbook"};
  return std::ranges::any_of(endings, [&](const char* ending) { return file.string().ends_with(ending); });
}

void copy_other_files(const fs::path& from, const fs::path& to) {
  for (const auto& each : fs::directory_iterator(from)) {
    const fs::path name = each.path().filename();
    if (!each.is_regular_file() || name == "config.json" || name.string().starts_with('.') || holds_weights(name)) continue;
    std::error_code error;
    fs::copy_file(each.path(), to / name, error);
    if (error) throw Error(each.path().string() + ": cannot be copied to " + to.string() + ": " + error.message());
  }
}

}  // namespace

bool is_rounded(std::string_view tensor, const std::vector<index_t>& shape) {
  const std::string path = "." + std::string(tensor);  // lm_head stands at the top
  const bool has_numbers = std::ranges::find(shape, index_t{0}) == shape.end();  // of nothing there is nothing to round
  return shape.size() == 2 && has_numbers && std::ranges::any_of(rounded_modules, [&](const std::string& module) { return path.ends_with("." + module + ".weight"); });
}

// [quantise]
Quantised quantise(const Checkpoint& checkpoint, const fs::path& output, const std::function<void(const std::string&)>& on_tensor) {
  require_not_rounded(checkpoint);
  family(checkpoint.config());
  require_new(output);
  NewPath folder(output, NewPath::Kind::directory);
  const std::vector<StoredTensor> tensors = new_tensors(checkpoint);
  Quantised result{0, 0, checkpoint.bytes(), 0};
  for (const StoredTensor& tensor : tensors) result.bytes += tensor.bytes;

  SafetensorsWriter writer(folder.path() / "model.safetensors", tensors);
  for (const std::string& name : checkpoint.names()) {
    if (on_tensor) on_tensor(name);
    const RawTensor raw = checkpoint.raw(name);
    const bool rounded = is_rounded(name, raw.shape);
    if (rounded) write_rounded(checkpoint, name, writer);
    else writer.write(name, 0, raw.data);
    checkpoint.drop(name);
    ++(rounded ? result.rounded : result.copied);
  }
  writer.close();
  write_config(checkpoint, folder.path());
  copy_other_files(checkpoint.directory(), folder.path());
  folder.complete();
  return result;
}
// [quantise]

}  // namespace kv

// Packed weights that are kept in a file. exact: logits with it and without it, on every family and number format. Files that
// belong to other weights, are cut off or changed are refused, in one line that says what to do.
#include "common/checkpoint/packed_weights.hpp"

#include <fstream>

#include "chapters/models/model_tensors.hpp"
#include "chapters/studies/round_weights.hpp"
#include "common/checkpoint/safetensors_writer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/model_oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;
namespace fs = std::filesystem;

namespace {

void copy_model(const char* name, const TemporaryDirectory& to) {
  for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(fs::path(KV_DATA) / name / file, to.path() / file);
}

fs::path keep(const fs::path& directory) {
  const Checkpoint checkpoint(directory);
  return checkpoint.keep_packed(multiplied(model_tensors(checkpoint)), [](const MatrixView&) {});
}

Tensor<2> logits(const fs::path& directory) {
  const Checkpoint checkpoint(directory);
  return whole_logits(checkpoint, find_stage("uncached"), random_tokens(20, model_sizes(checkpoint.config()).vocabulary, 3));
}

std::string error_at_start(const fs::path& directory) {
  return error_of([&] { logits(directory); });
}

/// All bytes of the largest tensor of the kept file become zeros.
void clear_weights(const fs::path& file) {
  std::string bytes = contents_of(file);
  const std::vector<StoredTensor> tensors = safetensors_contents(std::as_bytes(std::span(bytes)), "packed");
  const auto largest = std::ranges::max_element(tensors, {}, &StoredTensor::bytes);
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(largest->begin), largest->bytes, '\0');
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("packed weights: a kept file changes no bit, and is what is multiplied with", "[pack]") {
  const char* const model = GENERATE("tiny-gqa", "tiny-mla");
  CAPTURE(model);
  const TemporaryDirectory directory;
  copy_model(model, directory);
  const Tensor<2> before = logits(directory.path());
  const fs::path file = keep(directory.path());
  CHECK(exact(logits(directory.path()), before));
  for (const StoredTensor& tensor : safetensors_contents(MappedFile(file).bytes(), file.string())) CHECK((tensor.begin % 64 == 0 || tensor.name == "sources"));

  SECTION("twice the same file") {
    const std::string once = contents_of(file);
    keep(directory.path());
    CHECK(contents_of(file) == once);
  }
  SECTION("the weights are not read again") {
    clear_weights(file);
    CHECK_FALSE(exact(logits(directory.path()), before));
  }
}

TEST_CASE("packed weights: every number format", "[pack]") {
  const DType type = GENERATE(DType::f32, DType::bf16, DType::f16);
  CAPTURE(name(type));
  const SmallCheckpoint files({.type = type, .seed = 4});
  const Tensor<2> before = logits(files.path());
  keep(files.path());
  CHECK(exact(logits(files.path()), before));
}

TEST_CASE("packed weights: every architecture, and fp8 with its blocks of scales", "[pack]") {
  for (const auto& model : fs::directory_iterator(fs::path(KV_GOLDEN) / "models")) {
    CAPTURE(model.path().filename());
    const TemporaryDirectory directory;
    fs::copy(model.path(), directory.path());
    const Tensor<2> before = logits(directory.path());
    index_t packed = 0;
    keep(directory.path());
    const Checkpoint checkpoint(directory.path());
    checkpoint.on_packed([&](std::size_t) { ++packed; });
    CHECK(exact(whole_logits(checkpoint, find_stage("uncached"), random_tokens(20, model_sizes(checkpoint.config()).vocabulary, 3)), before));
    CHECK(packed == 0);
  }
}

TEST_CASE("packed weights: integers with their scales", "[pack]") {
  const TemporaryDirectory directory;
  const fs::path rounded = directory.path() / "rounded";
  quantise(Checkpoint(fs::path(KV_DATA) / "tiny-mla"), rounded, {});
  const Tensor<2> before = logits(rounded);
  keep(rounded);
  CHECK(exact(logits(rounded), before));
  quantise(Checkpoint(fs::path(KV_DATA) / "tiny-mla"), directory.path() / "again", {});
  CHECK_FALSE(fs::exists(directory.path() / "again" / "packed.kvbook"));
}

TEST_CASE("packed weights: a file that belongs to other weights is refused", "[pack]") {
  const TemporaryDirectory directory;
  copy_model("tiny-gqa", directory);
  const fs::path file = keep(directory.path()), weights = directory.path() / "model.safetensors";
  const std::string stale = file.string() + ": was not packed from the weights that are beside it now; run kvbook pack again, or delete it";
  SECTION("a later time") {
    fs::last_write_time(weights, fs::last_write_time(weights) + std::chrono::seconds(1));
    CHECK(error_at_start(directory.path()) == stale);
    keep(directory.path());
    CHECK(error_at_start(directory.path()) == "no error");
  }
  SECTION("another model's") {
    const TemporaryDirectory other;
    copy_model("tiny-mla", other);
    fs::copy_file(file, other.path() / file.filename());
    CHECK(error_at_start(other.path()) == (other.path() / file.filename()).string() + stale.substr(file.string().size()));
  }
  SECTION("another header of the same size and time") {
    const auto time = fs::last_write_time(weights);
    std::string bytes = contents_of(weights);
    bytes[bytes.find("\"__metadata__\"") + 2] = 'x';
    std::ofstream(weights, std::ios::binary) << bytes;
    fs::last_write_time(weights, time);
    CHECK(error_at_start(directory.path()) != "no error");
  }
  SECTION("gone") {
    fs::remove(file);
    CHECK(error_at_start(directory.path()) == "no error");
  }
  SECTION("who does not multiply does not look at it") {
    std::ofstream(file) << "nothing";
    CHECK(Checkpoint(directory.path()).parameters() > 0);
  }
}

TEST_CASE("packed weights: a damaged file is refused", "[pack]") {
  const TemporaryDirectory directory;
  copy_model("tiny-gqa", directory);
  const fs::path file = keep(directory.path());
  const std::string whole = contents_of(file);
  const auto with = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    return error_at_start(directory.path());
  };
  CHECK(holds(with(whole.substr(0, whole.size() / 2)), "truncated"));
  CHECK(holds(with(""), "is empty"));
  CHECK(holds(with("{}"), file.string()));
  std::string renamed = whole;
  renamed.replace(renamed.find("sources"), 7, "sourceS");
  CHECK(holds(with(renamed), "run kvbook pack again, or delete it"));

  // Whole, from the same weights, and one matrix 64 bytes short.
  std::vector<StoredTensor> tensors = safetensors_contents(std::as_bytes(std::span(whole)), "packed");
  const std::vector<StoredTensor> before = tensors;
  tensors[0].bytes -= 64;
  tensors[0].shape = {tensors[0].bytes};
  SafetensorsWriter writer(file, tensors);
  for (index_t i = 0; i < tensors.size(); ++i)
    writer.write(tensors[i].name, 0, std::as_bytes(std::span(whole)).subspan(before[i].begin, tensors[i].bytes));
  writer.close();
  CHECK(holds(error_at_start(directory.path()), "has " + std::to_string(tensors[0].bytes) + " bytes of "));
  fs::remove(file);
  fs::create_directory(file);
  CHECK(holds(error_at_start(directory.path()), "is a directory"));
}

TEST_CASE("packed weights: what cannot be packed leaves nothing behind", "[pack]") {
  const TemporaryDirectory directory;
  copy_model("tiny-gqa", directory);
  std::string bytes = contents_of(directory.path() / "model.safetensors");
  std::fill(bytes.end() - 4096, bytes.end(), '\xff');  // NaN
  directory.write("model.safetensors", bytes);
  CHECK(error_of([&] { keep(directory.path()); }) != "no error");
  CHECK(std::distance(fs::directory_iterator(directory.path()), fs::directory_iterator()) == 2);
}

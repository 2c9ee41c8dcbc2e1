/// Files written piece by piece: what the reader finds in them, and what is refused.
#include "common/checkpoint/safetensors_writer.hpp"

#include "common/files/mapped_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(const MappedFile& file, const StoredTensor& tensor) { return std::string(file.text().substr(tensor.begin, tensor.bytes)); }

}  // namespace

TEST_CASE("writer: tensors in pieces and in any order", "[safetensors]") {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "x.safetensors";
  SafetensorsWriter writer(path, {{"odd", "I8", {5, 1}, 0, 5}, {"b\"ig", "F32", {2}, 0, 8}, {"none", "F32", {0, 3}, 0, 0}, {"half", "BF16", {3}, 0, 6}, {"a", "F32", {}, 0, 4}});
  writer.write("half", 2, bytes("CDEF"));
  writer.write("odd", 0, bytes("12345"));
  writer.write("b\"ig", 4, bytes("4567"));
  writer.write("a", 0, bytes("wxyz"));
  writer.write("half", 0, bytes("AB"));
  writer.write("b\"ig", 0, bytes("0123"));
  writer.write("none", 0, {});
  writer.close();

  const MappedFile file(path);
  const std::vector<StoredTensor> found = safetensors_contents(file.bytes(), "x");
  std::vector<std::string> names, contents;
  for (const StoredTensor& tensor : found) {
    const std::size_t width = tensor.name == "odd" ? 1 : tensor.name == "half" ? 2 : 4;
    CHECK(tensor.begin % width == 0);
    if (tensor.bytes > 0) names.push_back(tensor.name), contents.push_back(text_of(file, tensor));
  }
  CHECK(found.size() == 5);
  CHECK(names == std::vector<std::string>{"a", "b\"ig", "half", "odd"});
  CHECK(contents == std::vector<std::string>{"wxyz", "01234567", "ABCDEF", "12345"});
  CHECK(holds(std::string(file.text()), R"("__metadata__":{"format":"pt"})"));
}

TEST_CASE("writer: bytes that are missing, too many, or of no tensor", "[safetensors]") {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "x.safetensors";
  SafetensorsWriter writer(path, {{"a", "I8", {4}, 0, 4}, {"b", "I8", {4}, 0, 4}});
  CHECK_THROWS_AS(writer.write("c", 0, bytes("x")), std::out_of_range);
  CHECK_THROWS_AS(writer.write("a", 2, bytes("xyz")), std::out_of_range);
  CHECK_THROWS_AS(writer.write("a", 5, bytes("")), std::out_of_range);
  writer.write("a", 0, bytes("1234"));
  CHECK_THROWS_AS(writer.close(), std::logic_error);
  CHECK_THROWS_AS(SafetensorsWriter(path, {{"a", "I8", {4}, 0, 4}, {"a", "I8", {4}, 0, 4}}), std::invalid_argument);
}

TEST_CASE("writer: what cannot be written is an error with the system's reason", "[safetensors]") {
  CHECK(error_of([] { SafetensorsWriter("/nonexistent/x", {}); }) == "/nonexistent/x: cannot be written: No such file or directory");
  if (!std::filesystem::exists("/dev/full")) return;
  const std::string megabyte(1 << 20, 'x');
  CHECK(error_of([&] {
          SafetensorsWriter writer("/dev/full", {{"a", "I8", {megabyte.size()}, 0, megabyte.size()}});
          writer.write("a", 0, bytes(megabyte));
          writer.close();
        }) == "/dev/full: cannot be written: No space left on device");
}

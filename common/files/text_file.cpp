#include "common/files/text_file.hpp"

#include <fstream>
#include <iterator>

#include "common/files/error.hpp"

namespace kv {

std::string read_text(const std::filesystem::path& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) throw Error(file.string() + ": is a directory, expected a file of text");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(file.string() + ": cannot be read: is the path right?");
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (text.empty()) throw Error(file.string() + ": is empty, expected text");
  return text;
}

}  // namespace kv

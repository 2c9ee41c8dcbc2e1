#include "common/files/npy.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "common/files/error.hpp"
#include "common/files/mapped_file.hpp"
#include "common/files/replace_file.hpp"

// xtensor has a reader too (xnpy.hpp). It multiplies the sizes unchecked, does not notice that a file ends early, asks
// for the keys in one order, and takes a second more to compile.

namespace kv {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::string_view magic = "\x93NUMPY"sv;
constexpr std::size_t most_axes = 32;  // NumPy 1's limit

// ---- the header: {'descr': '<f4', 'fortran_order': False, 'shape': (48, 97), } ----

/// Reads the few Python literals that a header consists of. Every step throws Error where the text is something else.
class Header {
 public:
  Header(std::string_view text, const std::string& where) : rest_(text), where_(where) {}

  NpyContents read() {
    expect('{');
    while (!take('}')) {
      read_entry();
      if (take(',')) continue;
      expect('}');
      break;
    }
    skip_space();
    if (!rest_.empty()) fail("text after the dictionary");
    if (!type_ || !row_major_ || !shape_) fail("expected descr, fortran_order and shape");
    if (!*row_major_) throw Error(where_ + ": is in Fortran order; save it with numpy.ascontiguousarray");
    return {*type_, *shape_, {}};
  }

 private:
  void read_entry() {
    const std::string key = text();
    expect(':');
    if (key == "descr" && !type_) type_ = text();
    else if (key == "fortran_order" && !row_major_) row_major_ = !flag();
    else if (key == "shape" && !shape_) shape_ = tuple();
    else fail("an unknown or repeated key");
  }

  std::string text() {
    skip_space();
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    expect(quote);
    const auto end = rest_.find(quote);
    if (end == rest_.npos) fail("an open string");
    const std::string result(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return result;
  }

  bool flag() {
    skip_space();
    for (const auto& [word, value] : {std::pair{"True"sv, true}, std::pair{"False"sv, false}})
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    fail("expected True or False");
  }

  std::vector<index_t> tuple() {
    std::vector<index_t> sizes;
    expect('(');
    while (!take(')')) {
      if (sizes.size() == most_axes) fail("too many axes");
      sizes.push_back(size());
      if (take(',')) continue;
      expect(')');
      break;
    }
    return sizes;
  }

  index_t size() {
    skip_space();
    index_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc{}) fail("expected a size");
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }
  bool take(char c) {
    skip_space();
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail("expected " + std::string(1, c));
  }
  [[noreturn]] void fail(const std::string& what) const { throw Error(where_ + ": is no valid .npy file: " + what); }

  std::string_view rest_;
  const std::string& where_;
  std::optional<std::string> type_;
  std::optional<bool> row_major_;
  std::optional<std::vector<index_t>> shape_;
};

/// Cuts the header's text off the front of `file`.
std::string_view take_header(std::span<const std::byte>& file, const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(magic) || text.size() < magic.size() + 2) throw Error(where + ": is no .npy file");
  const int version = std::to_integer<int>(file[magic.size()]);
  if (version < 1 || version > 3)
    throw Error(where + ": has .npy version " + std::to_string(version) + ", expected 1, 2 or 3");
  const std::size_t length_at = magic.size() + 2, length_bytes = version == 1 ? 2 : 4;
  if (text.size() < length_at + length_bytes) throw Error(where + ": is truncated in the header");
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= std::to_integer<std::size_t>(file[length_at + i]) << (8 * i);
  const std::size_t start = length_at + length_bytes;
  if (length > text.size() - start) throw Error(where + ": is truncated in the header");
  file = file.subspan(start + length);
  return text.substr(start, length);
}

/// Elements of `size` bytes, where they do not overflow.
std::optional<std::size_t> byte_size(const std::vector<index_t>& shape, std::size_t bytes) {
  for (const index_t size : shape) {
    if (size != 0 && bytes > std::numeric_limits<std::size_t>::max() / size) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

NpyContents require_type(const NpyContents& contents, std::string_view type, const fs::path& path) {
  if (contents.type == type) return contents;
  throw Error(path.string() + ": holds " + contents.type + ", expected " + std::string(type));
}

}  // namespace

NpyContents npy_contents(std::span<const std::byte> file, const std::string& where) {
  NpyContents contents = Header(take_header(file, where), where).read();
  if (contents.type != "<f4" && contents.type != "<i4")
    throw Error(where + ": does not hold little-endian f32 or int32 (descr <f4 or <i4)");
  const auto needed = byte_size(contents.shape, 4);
  if (!needed || *needed != file.size())
    throw Error(where + ": has " + std::to_string(file.size()) + " bytes of data, which is not what shape " +
                shape_text(contents.shape) + " needs");
  contents.data = file;
  return contents;
}

// ---- reading ----

template <std::size_t N>
Tensor<N> read_npy_f32(const fs::path& path) {
  const MappedFile file(path);
  const NpyContents contents = require_type(npy_contents(file.bytes(), path.string()), "<f4", path);
  if (contents.shape.size() != N)
    throw Error(path.string() + ": has shape " + shape_text(contents.shape) + ", expected " + std::to_string(N) +
                (N == 1 ? " axis" : " axes"));
  Shape<N> shape;
  std::ranges::copy(contents.shape, shape.begin());
  Tensor<N> tensor = empty(shape);
  if (tensor.size() != 0) std::memcpy(tensor.data(), contents.data.data(), contents.data.size());
  return tensor;
}

std::vector<std::int32_t> read_npy_i32(const fs::path& path, std::vector<index_t>& shape) {
  const MappedFile file(path);
  NpyContents contents = require_type(npy_contents(file.bytes(), path.string()), "<i4", path);
  std::vector<std::int32_t> values(contents.data.size() / sizeof(std::int32_t));
  if (!values.empty()) std::memcpy(values.data(), contents.data.data(), contents.data.size());
  shape = std::move(contents.shape);
  return values;
}

std::vector<std::int32_t> read_npy_i32(const fs::path& path) {
  std::vector<index_t> shape;
  return read_npy_i32(path, shape);
}

// ---- writing ----

namespace {

/// A Python tuple: (2, 3), but (2,).
std::string tuple_text(std::span<const index_t> shape) {
  std::string sizes;
  for (const index_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  return "(" + sizes + (shape.size() == 1 ? ",)" : ")");
}

/// Magic, version 1.0, length and dictionary, padded so that the data starts at a multiple of 64.
std::string header_text(std::span<const index_t> shape) {
  std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': " + tuple_text(shape) + ", }";
  const std::size_t before = magic.size() + 4;
  dictionary.append(63 - (before + dictionary.size()) % 64, ' ').push_back('\n');
  std::string header(magic);
  header += {'\1', '\0', static_cast<char>(dictionary.size() % 256), static_cast<char>(dictionary.size() / 256)};
  return header + dictionary;
}

}  // namespace

template <std::size_t N>
void write_npy(const fs::path& path, const Tensor<N>& tensor) {
  const std::string header = header_text(std::span<const index_t>(tensor.shape()));
  const std::string_view data(reinterpret_cast<const char*>(tensor.data()), tensor.size() * sizeof(float));
  replace_file(path, {header, data});
}

template Tensor<1> read_npy_f32<1>(const fs::path&);
template Tensor<2> read_npy_f32<2>(const fs::path&);
template Tensor<3> read_npy_f32<3>(const fs::path&);
template void write_npy<1>(const fs::path&, const Tensor<1>&);
template void write_npy<2>(const fs::path&, const Tensor<2>&);
template void write_npy<3>(const fs::path&, const Tensor<3>&);

}  // namespace kv

/// .npy files: written as NumPy reads them, and read with every number checked.
#include "common/files/npy.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

/// A .npy file with any header text and data.
std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += {static_cast<char>(version), '\0'};
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file + header + data;
}

std::string header(const std::string& type, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(T)};
}

/// The message, without the directory, of reading a file as f32 of rank 2.
std::string error_reading(const std::string& file) {
  const TemporaryDirectory directory;
  const auto path = directory.write("x.npy", file);
  const std::string message = error_of([&] { read_npy_f32(path); }), before = directory.path().string() + "/";
  return message.starts_with(before) ? message.substr(before.size()) : message;
}

std::string error_with_header(const std::string& text) { return error_reading(npy(text, std::string(24, '\0'))); }

std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().filename());
  return names;
}

/// Files cannot grow beyond `bytes` while it lives: as if the disk were full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit lower{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_;
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a tensor is written as NumPy writes it", "[npy]") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "x.npy";
  write_npy(path, Tensor<2>{{1, 2, 3}, {4, 5, 6.5f}});
  const std::string file = contents_of(path);
  CHECK(file.substr(0, 10) == std::string("\x93NUMPY\1\0v\0", 10));  // 'v': 118 bytes of header follow
  CHECK(file.substr(10, 59) == "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
  CHECK(file.substr(69, 58) == std::string(58, ' '));
  CHECK(file[127] == '\n');
  CHECK(file.substr(128) == bytes_of<float>({1, 2, 3, 4, 5, 6.5f}));
}

TEST_CASE("a tensor reads back the same bits", "[npy]") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "x.npy";
  const float infinity = std::numeric_limits<float>::infinity();
  write_npy(path, Tensor<1>{0.1f, -0.0f, 1e-45f, infinity});
  const Tensor<1> back = read_npy_f32<1>(path);
  CHECK((back == Tensor<1>{0.1f, -0.0f, 1e-45f, infinity}));
  CHECK(std::signbit(back(1)));

  write_npy(path, Tensor<3>{{{1, 2}, {3, 4}, {5, 6}}});
  CHECK((read_npy_f32<3>(path) == Tensor<3>{{{1, 2}, {3, 4}, {5, 6}}}));
  write_npy(path, zeros<2>({0, 5}));
  CHECK(read_npy_f32(path).shape(1) == 5);
}

TEST_CASE("the header's data starts at a multiple of 64 for every shape", "[npy]") {
  const TemporaryDirectory directory;
  for (const index_t rows : {1, 10, 100, 1000, 10000, 100000, 1000000}) {
    write_npy(directory.path() / "x.npy", zeros<2>({rows, 1}));
    const std::string file = contents_of(directory.path() / "x.npy");
    CHECK((file.size() - rows * 4) % 64 == 0);
    CHECK(file[file.size() - rows * 4 - 1] == '\n');
  }
}

TEST_CASE("headers of NumPy's versions 1, 2 and 3, however they are spelled", "[npy]") {
  const TemporaryDirectory directory;
  const std::string data = bytes_of<float>({1, 2, 3, 4, 5, 6});
  const auto read = [&](const std::string& file) { return read_npy_f32(directory.write("x.npy", file)); };
  const Tensor<2> expected{{1, 2, 3}, {4, 5, 6}};
  for (const int version : {1, 2, 3}) CHECK((read(npy(header("<f4", "(2, 3)"), data, version)) == expected));
  CHECK((read(npy("{'descr':'<f4','fortran_order':False,'shape':(2,3)}", data)) == expected));
  CHECK((read(npy("{\"shape\": (2, 3,), \"fortran_order\": False, \"descr\": \"<f4\"}\n", data)) == expected));
  CHECK((read(npy("  { 'shape' : ( 2 , 3 ) , 'descr' : '<f4' , 'fortran_order' : False , }  \n", data)) == expected));
}

TEST_CASE("int32 values come with their shape", "[npy]") {
  const TemporaryDirectory directory;
  const auto path = directory.write("x.npy", npy(header("<i4", "(2, 2)"), bytes_of<std::int32_t>({1, -2, 3, 1 << 30})));
  std::vector<index_t> shape;
  CHECK(read_npy_i32(path, shape) == std::vector<std::int32_t>{1, -2, 3, 1 << 30});
  CHECK(shape == std::vector<index_t>{2, 2});
  CHECK(read_npy_i32(directory.write("y.npy", npy(header("<i4", "(3,)"), bytes_of<std::int32_t>({7, 8, 9})))) ==
        std::vector<std::int32_t>{7, 8, 9});
  CHECK(read_npy_i32(directory.write("z.npy", npy(header("<i4", "(0,)"), ""))).empty());
  CHECK(read_npy_i32(directory.write("s.npy", npy(header("<i4", "()"), bytes_of<std::int32_t>({7})))).size() == 1);
  CHECK(holds(error_of([&] { read_npy_f32(path); }), "/x.npy: holds <i4, expected <f4"));
}

TEST_CASE("goldens written by NumPy", "[npy]") {
  const std::filesystem::path golden = std::filesystem::path(KV_GOLDEN) / "models" / "deepseek-v3-moe";
  const auto tokens = read_npy_i32(golden / "tokens.npy");
  CHECK(read_npy_f32(golden / "logits.npy").shape(0) == tokens.size());
  CHECK(read_npy_f32<3>(golden / "expert_weights.npy").shape(1) == tokens.size());
  std::vector<index_t> shape;
  read_npy_i32(golden / "experts.npy", shape);
  CHECK(shape.size() == 3);

  const TemporaryDirectory directory;
  const auto copy = directory.path() / "copy.npy";
  write_npy(copy, read_npy_f32(golden / "logits.npy"));
  CHECK(contents_of(copy) == contents_of(golden / "logits.npy"));
  write_npy(copy, read_npy_f32<3>(golden / "expert_weights.npy"));
  CHECK(contents_of(copy) == contents_of(golden / "expert_weights.npy"));
}

TEST_CASE("files that are cut off, or something else", "[npy]") {
  CHECK(error_reading("") == "x.npy: is empty; copy or download it again");
  CHECK(error_reading("hello") == "x.npy: is no .npy file");
  CHECK(error_reading("\x93NUMPY") == "x.npy: is no .npy file");
  CHECK(error_reading(npy("{}", "", 4)) == "x.npy: has .npy version 4, expected 1, 2 or 3");
  CHECK(error_reading(npy("{}", "", 200)) == "x.npy: has .npy version 200, expected 1, 2 or 3");
  CHECK(error_reading(std::string("\x93NUMPY\2\0\xff\xff\xff\xff{}", 14)) == "x.npy: is truncated in the header");
  const std::string whole = npy(header("<f4", "(2, 3)"), std::string(24, '\0'));
  CHECK(error_reading(whole) == "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(error_reading(whole.substr(0, size)).starts_with("x.npy: "));
  }
  CHECK(error_reading(whole + "x") == "x.npy: has 25 bytes of data, which is not what shape (2,3) needs");
}

TEST_CASE("headers that are no dictionary of the three keys", "[npy]") {
  const auto text = GENERATE(as<std::string>(), "", "{", "}", "{}", "x", "{'descr' '<f4'}", "{'descr': '<f4'}",
                             "{'descr': '<f4', 'fortran_order': False}", "{'descr': '<f4\", 'fortran_order': False}",
                             "{'descr': '<f4', 'descr': '<f4', 'shape': (2, 3)}",
                             "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
                             "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}",
                             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}");
  CAPTURE(text);
  CHECK(error_with_header(text).starts_with("x.npy: is no valid .npy file: "));
}

TEST_CASE("shapes that are no tuple of sizes", "[npy]") {
  const auto shape = GENERATE(as<std::string>(), "", "6", "[2, 3]", "(2, 3", "(2, 3)", "(2, 3)} x", "(,)}", "(2 3)}",
                              "(-2, -3)}", "(2.0, 3)}", "('2', 3)}", "(99999999999999999999999,)}");
  CAPTURE(shape);
  CHECK(error_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape)
            .starts_with("x.npy: is no valid .npy file: "));
}

TEST_CASE("arrays of another kind", "[npy]") {
  CHECK(error_with_header(header("<f4", "(2, 3)", "True")) ==
        "x.npy: is in Fortran order; save it with numpy.ascontiguousarray");
  for (const auto* type : {">f4", "<f8", "<f2", "|O", "<i8", "|b1", "a\nb"}) {
    CAPTURE(type);
    CHECK(error_with_header(header(type, "(2, 3)")) ==
          "x.npy: does not hold little-endian f32 or int32 (descr <f4 or <i4)");
  }
  CHECK(error_with_header(header("<i4", "(2, 3)")) == "x.npy: holds <i4, expected <f4");
  CHECK(error_with_header(header("<f4", "(6,)")) == "x.npy: has shape (6), expected 2 axes");
  CHECK(error_with_header(header("<f4", "(1, 2, 3)")) == "x.npy: has shape (1,2,3), expected 2 axes");
}

TEST_CASE("shapes that do not fit the data, or overflow", "[npy]") {
  const auto shape = GENERATE(as<std::string>(), "(2, 2)", "(3, 3)", "(4294967296, 4294967296)", "(0, 3)", "()",
                              "(4611686018427387904, 4)", "(4611686018427387910, 1)", "(1, 18446744073709551615)");
  CAPTURE(shape);
  CHECK(holds(error_with_header(header("<f4", shape)), "x.npy: has 24 bytes of data, which is not what shape ("));
  std::string many = "(1";
  for (int i = 0; i < 40; ++i) many += ", 1";
  CHECK(error_with_header(header("<f4", many + ")")) == "x.npy: is no valid .npy file: too many axes");
}

TEST_CASE("a file that cannot be written leaves nothing behind", "[npy]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string();
  const Tensor<2> x{{1, 2}};
  CHECK(error_of([&] { write_npy(path + "/none/x.npy", x); }) ==
        path + "/none/x.npy: cannot be written: No such file or directory");
  CHECK(error_of([&] { write_npy(path, x); }) == path + ": is a directory, expected a file to write");
  CHECK(names_in(path).empty());
}

TEST_CASE("a file is replaced as a whole, and no temporary file stays", "[npy]") {
  const TemporaryDirectory directory;
  const auto path = directory.write("x.npy", "what was there before");
  write_npy(path, Tensor<2>{{1, 2}});
  CHECK((read_npy_f32(path) == Tensor<2>{{1, 2}}));
  CHECK(names_in(directory.path()) == std::vector<std::string>{"x.npy"});
}

TEST_CASE("a write that fails halfway leaves the file that was there", "[npy]") {
  const TemporaryDirectory directory;
  const auto path = directory.write("x.npy", "what was there before");
  {
    const FileSizeLimit limit(1000);
    CHECK(error_of([&] { write_npy(path, zeros<2>({1000, 1000})); }) ==
          path.string() + ": cannot be written: File too large");
  }
  CHECK(contents_of(path) == "what was there before");
  CHECK(names_in(directory.path()) == std::vector<std::string>{"x.npy"});
}

TEST_CASE("a link stays a link", "[npy]") {
  const TemporaryDirectory directory;
  const auto link = directory.path() / "link.npy";
  std::filesystem::create_symlink("target.npy", link);
  for (const float value : {1.0f, 2.0f}) {  // the target is first missing, then there
    write_npy(link, Tensor<2>{{value}});
    CHECK(std::filesystem::is_symlink(link));
    CHECK(read_npy_f32(directory.path() / "target.npy")(0, 0) == value);
  }
  const auto circle = directory.path() / "circle.npy";
  std::filesystem::create_symlink("circle.npy", circle);
  CHECK(holds(error_of([&] { write_npy(circle, Tensor<2>{{1}}); }), "/circle.npy: cannot be written: Too many"));
}

TEST_CASE("a pipe stays a pipe, as /dev/null has to", "[npy]") {
  const TemporaryDirectory directory;
  const auto pipe = directory.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::string received;
  std::thread reader([&] { received = contents_of(pipe); });
  write_npy(pipe, Tensor<2>{{1, 2}});
  reader.join();
  CHECK(received.size() == 128 + 8);
  CHECK(std::filesystem::is_fifo(pipe));
}

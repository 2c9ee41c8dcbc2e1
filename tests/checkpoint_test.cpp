/// Checkpoints: what good files give, and what hostile files must not do.
#include "common/checkpoint/checkpoint.hpp"

#include <bit>
#include <cstring>
#include <limits>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

/// The bytes of a safetensors file. The header need not be true, nor JSON.
std::string safetensors(const std::string& header, const std::string& data, std::uint64_t length) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(length >> (8 * i) & 0xff);
  return file + header + data;
}
std::string safetensors(const std::string& header, const std::string& data) {
  return safetensors(header, data, header.size());
}

/// "name":{...}, one entry of a header.
std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape, std::uint64_t begin,
                   std::uint64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string bytes_of(std::initializer_list<float> values) {
  return {reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(float)};
}
std::string bytes_of16(std::initializer_list<std::uint16_t> values) {
  return {reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(std::uint16_t)};
}

/// A checkpoint directory with one safetensors file.
class Single {
 public:
  explicit Single(const std::string& file, const std::string& config = "{}") {
    directory_.write("config.json", config);
    directory_.write("model.safetensors", file);
  }
  Checkpoint open() const { return Checkpoint(directory_.path()); }
  /// The message without the directory.
  std::string error() const { return short_error([&] { open(); }); }
  template <class Action>
  std::string short_error(Action action) const {
    const std::string message = error_of(action), before = directory_.path().string() + "/";
    return message.starts_with(before) ? message.substr(before.size()) : message;
  }

 private:
  TemporaryDirectory directory_;
};

/// What opening a file with this header and so many bytes of data says.
std::string error_with(const std::string& header, std::size_t data_bytes = 0) {
  return Single(safetensors(header, std::string(data_bytes, '\0'))).error();
}

MatrixView first_matrix(const Single& files, index_t rows, index_t columns) {
  return files.open().matrix("w", rows, columns);
}

}  // namespace

// ---- good files ----

TEST_CASE("vectors are widened from f32, bf16 and f16", "[checkpoint]") {
  const std::string header = "{" + tensor("a", "F32", "2", 0, 8) + "," + tensor("b", "BF16", "3", 8, 14) + "," +
                             tensor("c", "F16", "2", 14, 18) + "}";
  const Single files(safetensors(header, bytes_of({1.5f, -2.0f}) + bytes_of16({0x3f80, 0xc040, 0x3eaa}) +
                                             bytes_of16({0x3c00, 0x0001})));
  const Checkpoint checkpoint = files.open();
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b", "c"});
  CHECK((checkpoint.vector("a", 2) == Tensor<1>{1.5f, -2.0f}));
  CHECK((checkpoint.vector("b", 3) == Tensor<1>{1.0f, -3.0f, 0.33203125f}));
  CHECK((checkpoint.vector("c", 2) == Tensor<1>{1.0f, 0x1p-24f}));
  CHECK(checkpoint.has("b"));
  CHECK_FALSE(checkpoint.has("d"));
  CHECK(checkpoint.bytes() == 18);
  CHECK(checkpoint.parameters() == 7);
  CHECK(checkpoint.entry("b").type == DType::bf16);
  CHECK(checkpoint.entry("b").shape == std::vector<index_t>{3});
  CHECK(checkpoint.entry("b").bytes == 6);
}

TEST_CASE("a matrix is read in place, row by row", "[checkpoint]") {
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + tensor("w", "F32", "2,3", 0, 24) + "}";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const Single files(safetensors(padded, bytes_of({1, 2, 3, 4, 5, 6})), R"({"model_type": "llama"})");
  const Checkpoint checkpoint = files.open();
  const MatrixView w = checkpoint.matrix("w", 2, 3);
  CHECK(w.data == static_cast<const void*>(checkpoint.entry("w").data));
  CHECK(w.row_stride == 3);
  CHECK(w.column_stride == 1);
  CHECK_FALSE(w.has_scales());
  CHECK(w.at(0, 2) == 3.0f);
  CHECK(w.at(1, 0) == 4.0f);
  CHECK(checkpoint.config().at("model_type").text() == "llama");
  CHECK(checkpoint.names() == std::vector<std::string>{"w"});
}

TEST_CASE("misaligned tensors are read right", "[checkpoint]") {
  const index_t padding = GENERATE(0, 1, 2, 3, 4, 5, 6, 7);
  const std::string header = "{" + tensor("b", "I8", "1", 0, 1) + "," + tensor("v", "F32", "2", 1, 9) + "," +
                             tensor("w", "F32", "2,2", 9, 25) + "}" + std::string(padding, ' ');
  const Single files(safetensors(header, "x" + bytes_of({1, 2}) + bytes_of({3, 4, 5, 6})));
  const Checkpoint checkpoint = files.open();
  CHECK((checkpoint.vector("v", 2) == Tensor<1>{1, 2}));
  const MatrixView w = checkpoint.matrix("w", 2, 2);
  CHECK(w.at(0, 1) == 4.0f);
  CHECK(w.at(1, 1) == 6.0f);
  CHECK(((*checkpoint.linear("w", 2, 2))(Tensor<2>{{1, 0}}) == Tensor<2>{{3, 5}}));
}

TEST_CASE("tensors without elements and without axes", "[checkpoint]") {
  const std::string header = "{" + tensor("none", "F32", "0,4", 0, 0) + "," + tensor("scalar", "F32", "", 0, 4) + "," +
                             tensor("last", "BF16", "0", 4, 4) + "}";
  const Single files(safetensors(header, bytes_of({2.5f})));
  const Checkpoint checkpoint = files.open();
  CHECK(checkpoint.names() == std::vector<std::string>{"last", "none", "scalar"});
  CHECK(checkpoint.matrix("none", 0, 4).rows == 0);
  CHECK(checkpoint.vector("last", 0).size() == 0);
  CHECK(checkpoint.entry("scalar").shape.empty());
  CHECK(checkpoint.entry("scalar").bytes == 4);
  CHECK(checkpoint.parameters() == 1);
}

TEST_CASE("a file without any tensor", "[checkpoint]") {
  const Single files(safetensors("{}", ""));
  CHECK(files.open().names().empty());
  CHECK(files.open().bytes() == 0);
}

TEST_CASE("a checkpoint's copies share the files, which outlive the first one", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w", "F32", "1,2", 0, 8) + "}  ", bytes_of({1, 2})));
  const auto copy = [&] {
    const Checkpoint checkpoint = files.open();
    return Checkpoint(checkpoint);
  }();
  CHECK(copy.matrix("w", 1, 2).at(0, 1) == 2.0f);
}

TEST_CASE("dtypes that the book does not read are listed, and refused when asked for", "[checkpoint]") {
  const auto [dtype, bytes] = GENERATE(table<std::string, std::uint64_t>(
      {{"F64", 32}, {"I64", 32}, {"U64", 32}, {"C64", 32}, {"I32", 16}, {"U32", 16}, {"I16", 8}, {"U16", 8},
       {"U8", 4}, {"BOOL", 4}, {"F8_E5M2", 4}, {"F8_E8M0", 4}, {"F4", 2}, {"F6_E2M3", 3}}));
  CAPTURE(dtype);
  const Single files(safetensors("{" + tensor("w", dtype, "2,2", 0, bytes) + "}", std::string(bytes, '\0')));
  const Checkpoint checkpoint = files.open();
  CHECK(checkpoint.has("w"));
  CHECK(checkpoint.bytes() == bytes);
  CHECK(checkpoint.parameters() == 4);
  const std::string expected = "model.safetensors: tensor 'w' has dtype " + dtype +
                               ", which is not read here; F32, BF16, F16, F8_E4M3 and I8 are";
  CHECK(files.short_error([&] { checkpoint.entry("w"); }) == expected);
  CHECK(files.short_error([&] { checkpoint.matrix("w", 2, 2); }) == expected);
  CHECK(files.short_error([&] { checkpoint.linear("w", 2, 2); }) == expected);
}

TEST_CASE("asking for what is not there, or in another shape", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w", "F32", "2,3", 0, 24) + "," + tensor("b", "I8", "2", 24, 26) + "}",
                                 std::string(26, '\0')));
  const Checkpoint checkpoint = files.open();
  CHECK(files.short_error([&] { checkpoint.entry("x"); }) == "model.safetensors: tensor 'x' is missing");
  CHECK(files.short_error([&] { checkpoint.matrix("w", 3, 2); }) ==
        "model.safetensors: tensor 'w' has shape (2,3), expected (3,2)");
  CHECK(files.short_error([&] { checkpoint.vector("w", 6); }) ==
        "model.safetensors: tensor 'w' has shape (2,3), expected (6)");
  CHECK(files.short_error([&] { checkpoint.linear("w", 2, 4); }) ==
        "model.safetensors: tensor 'w' has shape (2,3), expected (2,4)");
  CHECK(files.short_error([&] { checkpoint.vector("b", 2); }) ==
        "model.safetensors: tensor 'b' has dtype i8, expected f32, bf16 or f16");
}

// ---- fp8 and its scales ----

namespace {

constexpr char one_in_e4m3 = 0x38;

/// An fp8 matrix of ones (130,200) and scales of any shape: 2 x 2 blocks would be right.
Single fp8_files(const std::string& scale_type, const std::string& scale_shape, const std::string& scale_data,
                 const std::string& config = "{}") {
  const std::string header = "{" + tensor("w", "F8_E4M3", "130,200", 0, 26000) + "," +
                             tensor("w_scale_inv", scale_type, scale_shape, 26000, 26000 + scale_data.size()) + "}";
  return Single(safetensors(header, std::string(26000, one_in_e4m3) + scale_data), config);
}

}  // namespace

TEST_CASE("an fp8 matrix comes with one scale per 128 x 128 block", "[checkpoint]") {
  const auto files = fp8_files("F32", "2,2", bytes_of({1, 2, 3, 4}));
  const Checkpoint checkpoint = files.open();
  const MatrixView w = checkpoint.matrix("w", 130, 200);
  REQUIRE(w.block_scales);
  CHECK(w.at(0, 0) == 1.0f);
  CHECK(w.at(127, 128) == 2.0f);
  CHECK(w.at(128, 127) == 3.0f);
  CHECK(w.at(129, 199) == 4.0f);
}

TEST_CASE("an fp8 matrix with wrong scales is refused", "[checkpoint]") {
  const auto error = [](const Single& files) { return files.short_error([&] { first_matrix(files, 130, 200); }); };
  CHECK(error(fp8_files("F32", "2,1", bytes_of({1, 2}))) ==
        "model.safetensors: tensor 'w_scale_inv' has shape (2,1), expected (2,2)");
  CHECK(error(fp8_files("F32", "4", bytes_of({1, 2, 3, 4}))) ==
        "model.safetensors: tensor 'w_scale_inv' has shape (4), expected (2,2)");
  CHECK(error(fp8_files("I8", "2,2", "abcd")) ==
        "model.safetensors: tensor 'w_scale_inv' has dtype i8, expected f32, bf16 or f16");
  CHECK(error(Single(safetensors("{" + tensor("w", "F8_E4M3", "130,200", 0, 26000) + "}", std::string(26000, 0)))) ==
        "model.safetensors: tensor 'w' has dtype F8_E4M3, but its scales 'w_scale_inv' are missing");
  const std::string scales_too_many =
      "{" + tensor("w", "BF16", "130,200", 0, 52000) + "," + tensor("w_scale_inv", "F32", "2,2", 52000, 52016) + "}";
  CHECK(error(Single(safetensors(scales_too_many, std::string(52016, 0)))) ==
        "model.safetensors: tensor 'w' has block scales although its dtype is not F8_E4M3");
}

TEST_CASE("block scales may be in any vector's format, and misaligned", "[checkpoint]") {
  const std::string bf16 = bytes_of16({0x3f80, 0x4000, 0x4040, 0x4080}), f16 = bytes_of16({0x3c00, 0x4000, 0x4200, 0x4400});
  const auto expected = fp8_files("F32", "2,2", bytes_of({1, 2, 3, 4})).open().linear("w", 130, 200);
  Tensor<2> x = zeros<2>({1, 200});
  for (index_t i = 0; i < 200; ++i) x(0, i) = static_cast<float>(i);
  for (const auto& [type, data] : {std::pair("BF16", bf16), std::pair("F16", f16)}) {
    CAPTURE(type);
    const auto files = fp8_files(type, "2,2", data);
    CHECK(files.open().matrix("w", 130, 200).at(128, 127) == 3.0f);
    CHECK(((*files.open().linear("w", 130, 200))(x) == (*expected)(x)));
  }
}

TEST_CASE("block scales that are none are refused when the matrix is packed", "[checkpoint]") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float scale : {nan, inf, -1.0f, 0.0f, 1e38f}) {
    CAPTURE(scale);
    const auto files = fp8_files("F32", "2,2", bytes_of({1, 2, 3, scale}));
    CHECK(holds(files.short_error([&] { files.open().linear("w", 130, 200); }), "model.safetensors: tensor 'w' has the scale"));
  }
  std::string last_block_zero(26000, one_in_e4m3);
  for (const index_t i : {128, 129}) last_block_zero.replace(i * 200 + 128, 72, 72, '\0');
  const std::string header = "{" + tensor("w", "F8_E4M3", "130,200", 0, 26000) + "," + tensor("w_scale_inv", "F32", "2,2", 26000, 26016) + "}";
  CHECK(Single(safetensors(header, last_block_zero + bytes_of({1, 2, 3, 0}))).open().linear("w", 130, 200)->outputs() == 130);
}

// ---- 8-bit integers and their scales ----

namespace {

/// An i8 matrix (3,2) and its scales, which may be anything.
Single i8_files(const std::string& scale_type, const std::string& scale_shape, const std::string& scale_data,
                const std::string& more = "", const std::string& integers = {"\1\x80\3\4\x7f\xff", 6}) {
  const std::uint64_t end = 6 + scale_data.size();
  const std::string header = "{" + tensor("w", "I8", "3,2", 0, 6) + "," + tensor("w_scale", scale_type, scale_shape, 6, end) +
                             (more.empty() ? "" : "," + tensor(more, "I8", "3", end, end + 3)) + "}";
  return Single(safetensors(header, integers + scale_data + (more.empty() ? "" : "xyz")));
}

}  // namespace

TEST_CASE("an i8 matrix comes with one scale per row, in any vector's format", "[checkpoint]") {
  const auto [type, shape] = GENERATE(table<std::string, std::string>({{"F32", "3,1"}, {"F32", "3"}, {"BF16", "3,1"}, {"BF16", "3"}, {"F16", "3,1"}}));
  CAPTURE(type, shape);
  const std::string data = type == "F32" ? bytes_of({0.5f, 2, 0.25f}) : type == "BF16" ? bytes_of16({0x3f00, 0x4000, 0x3e80}) : bytes_of16({0x3800, 0x4000, 0x3400});
  const Single files = i8_files(type, shape, data);
  const Checkpoint checkpoint = files.open();
  const MatrixView w = checkpoint.matrix("w", 3, 2);
  REQUIRE(w.row_scales);
  CHECK_FALSE(w.block_scales);
  CHECK(w.type == DType::i8);
  CHECK(w.at(0, 0) == 0.5f);
  CHECK(w.at(0, 1) == -64.0f);
  CHECK(w.at(1, 0) == 6.0f);
  CHECK(w.at(2, 0) == 31.75f);
  CHECK(w.at(2, 1) == -0.25f);
  CHECK((checkpoint.matrix("w", 3, 2) == w));
  CHECK(((*checkpoint.linear("w", 3, 2))(Tensor<2>{{1, 10}}) == Tensor<2>{{-639.5f, 86, 29.25f}}));
  CHECK(checkpoint.parameters() == 6);
}

TEST_CASE("an i8 matrix with wrong scales is refused", "[checkpoint]") {
  const auto error = [](const Single& files) { return files.short_error([&] { files.open().linear("w", 3, 2); }); };
  const auto with = [&](std::initializer_list<float> scales) { return error(i8_files("F32", "3,1", bytes_of(scales))); };
  CHECK(error(Single(safetensors("{" + tensor("w", "I8", "3,2", 0, 6) + "}", std::string(6, 1)))) ==
        "model.safetensors: tensor 'w' has dtype I8, but its scales 'w_scale' are missing");
  CHECK(error(i8_files("F32", "3,2", bytes_of({1, 2, 3, 4, 5, 6}))) ==
        "model.safetensors: tensor 'w_scale' has shape (3,2), expected (3,1) or (3): one scale for each output");
  CHECK(holds(error(i8_files("F32", "1", bytes_of({1}))), "has shape (1), expected"));
  CHECK(holds(error(i8_files("F32", "1,3", bytes_of({1, 2, 3}))), "has shape (1,3), expected"));
  CHECK(holds(error(i8_files("F32", "", bytes_of({1}))), "'w_scale' has shape (), expected"));
  CHECK(error(i8_files("I8", "3,1", "abc")) == "model.safetensors: tensor 'w_scale' has dtype i8, expected f32, bf16 or f16");
  CHECK(holds(error(i8_files("F64", "3,1", std::string(24, 0))), "'w_scale' has dtype F64, which is not read here"));
  CHECK(with({1, -0.5f, 1}) ==
        "model.safetensors: tensor 'w' has the scale -0.500000 in row 1; a scale is finite and positive, or zero where all its weights are");
  CHECK(holds(with({1, 1, std::numeric_limits<float>::quiet_NaN()}), "has the scale nan in row 2; a scale is finite"));
  CHECK(holds(with({std::numeric_limits<float>::infinity(), 1, 1}), "has the scale inf in row 0; a scale is finite"));
  CHECK(holds(with({1, 1, 3e38f}), "in row 2; a scale is finite"));  // 127 times as much is not
  CHECK(holds(with({1, 0, 1}), "has the scale 0.000000 in row 1; a scale is finite and positive"));
  CHECK(error(i8_files("F32", "3,1", bytes_of({1, 2, 3}), "w_zero_point")) ==
        "model.safetensors: tensor 'w' has zero points, 'w_zero_point'; only symmetric integers are read");
  const std::string scales_too_many = "{" + tensor("w", "BF16", "3,2", 0, 12) + "," + tensor("w_scale", "F32", "3,1", 12, 24) + "}";
  CHECK(error(Single(safetensors(scales_too_many, std::string(24, 0)))) ==
        "model.safetensors: tensor 'w' has scales of its rows although its dtype is not I8");
}

TEST_CASE("a row of zeros may have the scale zero", "[checkpoint]") {
  const Single files = i8_files("F32", "3,1", bytes_of({1, 0, 1}), "", {"\1\1\0\0\1\1", 6});
  CHECK(((*files.open().linear("w", 3, 2))(Tensor<2>{{1, 10}}) == Tensor<2>{{11, 0, 11}}));
}

TEST_CASE("packed integers are named where the matrix is missing", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w_packed", "I32", "3,1", 0, 12) + "}", std::string(12, 0)));
  CHECK(files.short_error([&] { first_matrix(files, 3, 8); }) ==
        "model.safetensors: tensor 'w' is missing; 'w_packed' is there, and packed integers are not read");
}

TEST_CASE("a tensor's bytes can be had whatever its dtype", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w", "I64", "1", 0, 8) + "}", "abcdefgh"));
  const Checkpoint checkpoint = files.open();
  const RawTensor raw = checkpoint.raw("w");
  CHECK(raw.dtype == "I64");
  CHECK(raw.shape == std::vector<index_t>{1});
  REQUIRE(raw.data.size() == 8);
  CHECK(std::memcmp(raw.data.data(), "abcdefgh", 8) == 0);
  checkpoint.drop("w");
  CHECK(std::memcmp(raw.data.data(), "abcdefgh", 8) == 0);
  CHECK(files.short_error([&] { checkpoint.raw("x"); }) == "model.safetensors: tensor 'x' is missing");
}

// ---- numbers that are none ----

TEST_CASE("one element that is not finite is found wherever it stands, in every format", "[checkpoint]") {
  struct Format {
    std::string name;
    std::vector<std::string> bad, good;  // one element; the good ones are the largest there are
  };
  const std::vector<Format> formats{
      {"F32", {bytes_of({std::numeric_limits<float>::infinity()}), bytes_of({-std::numeric_limits<float>::quiet_NaN()})},
       {bytes_of({std::numeric_limits<float>::max()}), bytes_of({-std::numeric_limits<float>::max()})}},
      {"BF16", {bytes_of16({0x7f80}), bytes_of16({0xff81})}, {bytes_of16({0x7f7f}), bytes_of16({0xff7f})}},
      {"F16", {bytes_of16({0x7c00}), bytes_of16({0xfe00})}, {bytes_of16({0x7bff}), bytes_of16({0xfbff})}},
      {"F8_E4M3", {"\x7f", "\xff"}, {"\x7e", "\xfe"}}};
  for (const auto& [name, bad, good] : formats) {
    const std::size_t size = bad[0].size(), bytes = 2 * 11 * size, scales = name == "F8_E4M3" ? 4 : 0;
    std::string header = "{" + tensor("w", name, "2,11", 0, bytes);
    if (scales) header += "," + tensor("w_scale_inv", "F32", "1,1", bytes, bytes + 4);
    for (index_t at = 0; at < 22; ++at)
      for (const bool wrong : {true, false})
        for (const std::string& element : wrong ? bad : good) {
          CAPTURE(name, at, wrong);
          std::string data(bytes, '\x11');
          data.replace(at * size, size, element);
          const Single files(safetensors(header + "}", data + (scales ? bytes_of({1}) : "")));
          const std::string found = files.short_error([&] { files.open().linear("w", 2, 11); });
          if (wrong)
            CHECK(found == "model.safetensors: tensor 'w' has a weight in row " + std::to_string(at / 11) +
                               " that is not finite; the file is damaged: download it again");
          else
            CHECK(found == "no error");
        }
  }
}

TEST_CASE("a vector whose element is not finite is refused", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("v", "BF16", "3", 0, 6) + "}", bytes_of16({0x3f80, 0x7fc0, 0})));
  CHECK(files.short_error([&] { files.open().vector("v", 3); }) ==
        "model.safetensors: tensor 'v' has element 1, which is not finite; the file is damaged: download it again");
}

// ---- packed weights ----

TEST_CASE("linear layers are packed once for all holders, and freed with the last one", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w", "F32", "2,3", 0, 24) + "}", bytes_of({1, 2, 3, 4, 5, 6})));
  const Checkpoint checkpoint = files.open(), copy = checkpoint;
  std::vector<std::size_t> packed;
  checkpoint.on_packed([&](std::size_t bytes) { packed.push_back(bytes); });
  auto first = checkpoint.linear("w", 2, 3);
  auto second = copy.linear("w", 2, 3);
  CHECK(first == second);
  CHECK(packed == std::vector<std::size_t>{24});  // reported once, as it was packed once
  checkpoint.on_packed({});
  CHECK(((*first)(Tensor<2>{{1, 10, 100}}) == Tensor<2>{{321, 654}}));

  const std::weak_ptr<const Linear> watched = first;
  first.reset();
  CHECK_FALSE(watched.expired());
  second.reset();
  CHECK(watched.expired());
  CHECK(((*checkpoint.linear("w", 2, 3))(Tensor<2>{{1, 10, 100}}) == Tensor<2>{{321, 654}}));
}

TEST_CASE("weights are packed by what a view shows, and not by a name", "[checkpoint]") {
  const Single files(safetensors("{" + tensor("w", "F32", "2,3", 0, 24) + "}", bytes_of({1, 2, 3, 4, 5, 6})));
  const Checkpoint checkpoint = files.open();
  const MatrixView w = checkpoint.matrix("w", 2, 3);
  const auto whole = checkpoint.pack(w), second_row = checkpoint.pack(w.row_slice(1, 1)), turned = checkpoint.pack(w.transposed());
  CHECK(checkpoint.pack(checkpoint.matrix("w", 2, 3)) == whole);
  CHECK(checkpoint.pack(w.row_slice(1, 1)) == second_row);
  CHECK(((*second_row)(Tensor<2>{{1, 10, 100}}) == Tensor<2>{{654}}));
  CHECK(((*turned)(Tensor<2>{{1, 10}}) == Tensor<2>{{41, 52, 63}}));
  CHECK(files.open().linear("w", 2, 3) != whole);  // another checkpoint object, another mapping
}

TEST_CASE("packing drops the file's pages, which can still be read", "[checkpoint]") {
  std::string data;
  for (int i = 0; i < 256 * 256; ++i) data += bytes_of({static_cast<float>(i)});
  const Single files(safetensors("{" + tensor("w", "F32", "256,256", 0, data.size()) + "}", data));
  const Checkpoint checkpoint = files.open();
  const MatrixView before = checkpoint.matrix("w", 256, 256);
  const auto packed = checkpoint.linear("w", 256, 256);
  CHECK(before.at(255, 255) == 65535.0f);
  CHECK(before.at(100, 3) == 25603.0f);
}

TEST_CASE("several threads get the same packed weights", "[checkpoint]") {
  std::string header = "{";
  for (int i = 0; i < 8; ++i)
    header += (i == 0 ? "" : ",") + tensor("w" + std::to_string(i), "F32", "8,8", 256u * i, 256u * (i + 1));
  const Single files(safetensors(header + "} ", std::string(8 * 256, '\0')));
  const Checkpoint checkpoint = files.open();
  std::vector<std::vector<std::shared_ptr<const Linear>>> found(4);
  std::vector<std::thread> threads;
  for (auto& mine : found)
    threads.emplace_back([&checkpoint, &mine] {
      for (int i = 0; i < 8; ++i) mine.push_back(checkpoint.linear("w" + std::to_string(i), 8, 8));
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : found) CHECK(mine == found[0]);
}

// ---- directories ----

TEST_CASE("directories: missing, incomplete, not a directory", "[checkpoint]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string();
  CHECK(error_of([&] { Checkpoint(path + "/none"); }) ==
        path + "/none: no such directory; give a Hugging Face checkpoint: config.json and model.safetensors in one "
               "directory");
  CHECK(holds(error_of([&] { Checkpoint(directory.write("file", "x")); }), "/file: is not a directory; give"));
  CHECK(error_of([&] { Checkpoint{directory.path()}; }) ==
        path + "/config.json: cannot be opened: No such file or directory");
  directory.write("config.json", "{");
  CHECK(holds(error_of([&] { Checkpoint{directory.path()}; }), "/config.json: is not valid JSON: "));
  directory.write("config.json", "{}");
  CHECK(error_of([&] { Checkpoint{directory.path()}; }) ==
        path + ": has no model.safetensors and no model.safetensors.index.json; other formats are not read");
  std::filesystem::create_directory(directory.path() / "model.safetensors");
  CHECK(error_of([&] { Checkpoint{directory.path()}; }) ==
        path + "/model.safetensors: is a directory, expected a file");
}

TEST_CASE("a file without permission is an error with the system's reason", "[checkpoint]") {
  const TemporaryDirectory directory;
  std::filesystem::permissions(directory.write("config.json", "{}"), std::filesystem::perms::none);
  if (::geteuid() == 0) {
    WARN("skipped: root may read every file");
    return;
  }
  CHECK(holds(error_of([&] { Checkpoint{directory.path()}; }), "/config.json: cannot be opened: Permission denied"));
}

// ---- hostile headers ----

TEST_CASE("files that are cut off, or something else", "[checkpoint]") {
  CHECK(Single("").error() == "model.safetensors: is empty; copy or download it again");
  CHECK(Single("1234567").error() ==
        "model.safetensors: is no safetensors file: it has only 7 bytes; download it again");
  CHECK(holds(Single(std::string(8, '\0')).error(), "it has only 8 bytes"));
  CHECK(Single("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n").error() ==
        "model.safetensors: is a Git LFS pointer, not the file itself; run: git lfs pull");
  CHECK(Single(safetensors("{}", "", 3)).error() ==
        "model.safetensors: is truncated: the header has 3 bytes, the whole file 10; download it again");
  CHECK(holds(Single(safetensors("{}", "", 100'000'000)).error(), "is truncated: the header has 100000000 bytes"));
  CHECK(Single(safetensors("{}", "", 100'000'001)).error() ==
        "model.safetensors: is no safetensors file: its header would have 100000001 bytes, the most is 100000000");
  CHECK(holds(Single(safetensors("{}", "", ~std::uint64_t{0})).error(), "would have 18446744073709551615 bytes"));
  CHECK(holds(Single(safetensors("{}", "", ~std::uint64_t{0} - 7)).error(), "is no safetensors file"));
  const std::string whole = safetensors("{" + tensor("w", "F32", "2,3", 0, 24) + "}", std::string(24, 'x'));
  CHECK(Single(whole.substr(0, whole.size() - 1)).error() ==
        "model.safetensors: tensor 'w' lies outside the file: bytes 0 to 24 of 23; the file may be truncated, "
        "download it again");
}

TEST_CASE("every way of cutting a file off is an error", "[checkpoint]") {
  const std::string whole = safetensors("{" + tensor("w", "F32", "2", 0, 8) + "}", std::string(8, 'x'));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(Single(whole.substr(0, size)).error().starts_with("model.safetensors: "));
  }
}

TEST_CASE("headers that are not a JSON object of tensors", "[checkpoint]") {
  const std::string start = "model.safetensors: header: ";
  CHECK(holds(Single(safetensors("", "{}", 0)).error(), "does not start with '{'"));
  CHECK(holds(Single(safetensors("{}", "", 1)).error(), start + "is not valid JSON"));
  CHECK(holds(error_with(" {}"), "does not start with '{'"));
  CHECK(holds(error_with("[1]"), "does not start with '{'"));
  CHECK(holds(error_with("{\"w\":"), start + "is not valid JSON"));
  CHECK(holds(error_with("{}x"), start + "is not valid JSON"));
  CHECK(holds(error_with({"{}\0{}", 5}), start + "is not valid JSON"));
  CHECK(error_with("{\"w\":5}") == start + "w is a whole number, expected an object");
  CHECK(error_with("{\"w\":{}}") == start + "w.dtype is missing");
  CHECK(error_with("{\"w\":{\"dtype\":\"F32\"}}") == start + "w.shape is missing");
  CHECK(error_with("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}") == start + "w.data_offsets is missing");
  CHECK(error_with("{\"w\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}") ==
        start + "w.dtype is a whole number, expected text");
  CHECK(error_with("{\"w\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}") ==
        start + "w.shape is an object, expected a list");
  CHECK(error_with("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}") ==
        "model.safetensors: tensor 'w' has 3 data_offsets, expected begin and end");
  CHECK(error_with("{\"__metadata__\":{\"format\":1}}") ==
        start + "__metadata__.format is a whole number, expected text");
  CHECK(error_with("{\"__metadata__\":[]}") == start + "__metadata__ is a list, expected an object");
  CHECK(error_with(std::string(1000, '{')).starts_with(start));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  CHECK(error_with(deep) == start + "is not accepted: nested deeper than 64 levels");
}

TEST_CASE("two tensors of one name", "[checkpoint]") {
  CHECK(error_with("{" + tensor("w", "F32", "1", 0, 4) + "," + tensor("w", "F32", "1", 4, 8) + "}", 8) ==
        "model.safetensors: header: is not accepted: the key \"w\" appears twice in one object");
}

TEST_CASE("dtypes that nobody knows", "[checkpoint]") {
  CHECK(error_with("{" + tensor("w", "F33", "1", 0, 4) + "}", 4) ==
        "model.safetensors: tensor 'w' has a dtype that the format does not know: 'F33'");
  CHECK(holds(error_with("{" + tensor("w", "f32", "1", 0, 4) + "}", 4), "does not know: 'f32'"));
  CHECK(holds(error_with("{" + tensor("w", "a\\nb", "1", 0, 4) + "}", 4), "with an unprintable name"));
}

TEST_CASE("shapes that are no shapes", "[checkpoint]") {
  const auto with_shape = [](const std::string& shape) {
    return error_with("{" + tensor("w", "F32", shape, 0, 4) + "}", 4);
  };
  CHECK(with_shape("-1") == "model.safetensors: header: w.shape[0] is negative: -1");
  CHECK(with_shape("1,-1,-1") == "model.safetensors: header: w.shape[1] is negative: -1");
  CHECK(with_shape("0.5") == "model.safetensors: header: w.shape[0] is a fraction, expected a whole number");
  CHECK(with_shape("\"1\"") == "model.safetensors: header: w.shape[0] is text, expected a number");
  CHECK(with_shape("null") == "model.safetensors: header: w.shape[0] is null, expected a number");
  CHECK(with_shape("18446744073709551617") == "model.safetensors: header: w.shape[0] is too large");
  CHECK(holds(with_shape("4294967296,4294967296"), "'w' has a shape that overflows: (4294967296,4294967296)"));
  CHECK(holds(with_shape("4611686018427387904,4"), "overflows"));        // elements fit in 64 bits, bytes do not
  CHECK(holds(with_shape("2305843009213693952"), "overflows"));          // bytes fit in 64 bits, bits do not
  CHECK(holds(with_shape("4611686018427387905,4"), "overflows"));        // would wrap round to one element
  CHECK(with_shape("2") ==
        "model.safetensors: tensor 'w' of shape (2) and dtype F32 needs 8 bytes, its data_offsets give 4");
  CHECK(holds(with_shape("0"), "needs 0 bytes, its data_offsets give 4"));
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  CHECK(with_shape(many) == "model.safetensors: tensor 'w' has more than 64 axes");
  CHECK(error_with("{" + tensor("w", "F4", "3", 0, 2) + "}", 2) ==
        "model.safetensors: tensor 'w' does not fill whole bytes: 12 bits");
}

TEST_CASE("data_offsets that lead elsewhere", "[checkpoint]") {
  const auto one = [](const std::string& offsets) {
    return error_with("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" + offsets + "]}}", 8);
  };
  CHECK(one("0,8") == "no error");
  CHECK(one("8,0") == "model.safetensors: tensor 'w' ends before it begins: bytes 8 to 0");
  CHECK(holds(one("8,16"), "'w' lies outside the file: bytes 8 to 16 of 8"));
  CHECK(holds(one("9223372036854775800,9223372036854775807"), "lies outside the file"));
  CHECK(holds(one("-8,0"), "w.data_offsets[0] is negative: -8"));
  CHECK(holds(one("0,18446744073709551624"), "w.data_offsets[1] is too large"));
  CHECK(holds(one("1,8"), "needs 8 bytes, its data_offsets give 7"));
  CHECK(holds(one("0,4"), "needs 8 bytes, its data_offsets give 4"));
}

TEST_CASE("tensors that overlap or leave holes", "[checkpoint]") {
  const auto two = [](std::uint64_t first, std::uint64_t second, std::size_t bytes) {
    return error_with("{" + tensor("v", "F32", "2", first, first + 8) + "," +
                          tensor("w", "F32", "2", second, second + 8) + "}", bytes);
  };
  CHECK(two(0, 8, 16) == "no error");
  CHECK(two(8, 0, 16) == "no error");  // the order in the header is free
  CHECK(two(0, 4, 12) ==
        "model.safetensors: tensor 'w' begins at byte 4, inside the tensor before it, which ends at 8");
  CHECK(holds(two(0, 0, 8), "begins at byte 0, inside the tensor before it, which ends at 8"));
  CHECK(two(0, 12, 20) ==
        "model.safetensors: tensor 'w' begins at byte 12, after a hole: the tensor before it ends at 8");
  CHECK(holds(two(4, 12, 20), "'v' begins at byte 4, after a hole"));
  CHECK(two(0, 8, 17) == "model.safetensors: has 1 bytes after the last tensor");
  CHECK(error_with("{}", 1) == "model.safetensors: has 1 bytes after the last tensor");
  CHECK(holds(error_with("{" + tensor("w", "F32", "2", 0, 8) + "," + tensor("z", "F32", "0", 4, 4) + "}", 8),
              "'z' begins at byte 4, inside"));
}

TEST_CASE("names that would break a message", "[checkpoint]") {
  const std::string header = "{" + tensor("a\\n\\u001b[31mb", "F33", "1", 0, 4) + "}";
  CHECK(holds(error_with(header, 4), "tensor with an unprintable name has a dtype"));
  CHECK(error_with("{" + tensor(std::string(100'000, 'x'), "F33", "1", 0, 4) + "}", 4).size() < 200);
}

// ---- shards ----

namespace {

/// Two shards: a (1) in the first, b (2) and an unlisted c (1) in the second.
class Sharded {
 public:
  explicit Sharded(const std::string& weight_map) {
    directory.write("config.json", "{}");
    directory.write("one.safetensors", safetensors("{" + tensor("a", "F32", "1", 0, 4) + "}", bytes_of({1})));
    directory.write("two.safetensors", safetensors("{" + tensor("b", "F32", "2", 0, 8) + "," +
                                                       tensor("c", "F32", "1", 8, 12) + "}", bytes_of({2, 3, 4})));
    directory.write("model.safetensors.index.json",
                    "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + weight_map + "}}");
  }
  std::string error() const {
    const std::string message = error_of([&] { Checkpoint{directory.path()}; });
    const std::string before = directory.path().string() + "/";
    return message.starts_with(before) ? message.substr(before.size()) : message;
  }
  TemporaryDirectory directory;
};

}  // namespace

TEST_CASE("a sharded checkpoint has the tensors that its index lists", "[checkpoint]") {
  const Sharded files(R"("a": "one.safetensors", "b": "two.safetensors")");
  const Checkpoint checkpoint(files.directory.path());
  CHECK(checkpoint.names() == std::vector<std::string>{"a", "b"});
  CHECK((checkpoint.vector("a", 1) == Tensor<1>{1}));
  CHECK((checkpoint.vector("b", 2) == Tensor<1>{2, 3}));
  CHECK(checkpoint.bytes() == 12);
  CHECK(checkpoint.parameters() == 3);
  CHECK(holds(error_of([&] { checkpoint.entry("c"); }), "model.safetensors.index.json: tensor 'c' is missing"));
  CHECK(holds(error_of([&] { checkpoint.vector("b", 3); }),
              "/two.safetensors: tensor 'b' has shape (2), expected (3)"));
}

TEST_CASE("an index that does not fit its shards", "[checkpoint]") {
  const std::string index = "model.safetensors.index.json: weight_map";
  CHECK(Sharded(R"("a": "three.safetensors")").error() ==
        index + ".a names three.safetensors, which is missing; download it again");
  const Sharded more(R"("a": "one.safetensors", "z": "one.safetensors")");
  CHECK(more.error() == "no error");  // nobody may need it
  CHECK(holds(error_of([&] { Checkpoint(more.directory.path()).vector("z", 1); }),
              "model.safetensors.index.json: lists tensor 'z' in one.safetensors, which does not have it; download it again"));
  CHECK(Sharded(R"("a": 1)").error() == index + ".a is a whole number, expected text");
  CHECK(Sharded(R"("a": "one.safetensors", "a": "two.safetensors")").error() ==
        "model.safetensors.index.json: is not accepted: the key \"a\" appears twice in one object");
}

TEST_CASE("a shard's name cannot lead out of the directory", "[checkpoint]") {
  const auto name = GENERATE(as<std::string>(), "../x", "../one.safetensors", "/etc/passwd", "/tmp/x.safetensors",
                             "sub/one.safetensors", "./one.safetensors", "..", ".", "", "..\\\\x.safetensors",
                             "one.safetensors\\u0000", "one.safetensors\\u0000.safetensors", "config.json",
                             ".hidden.safetensors");
  CAPTURE(name);
  CHECK(Sharded("\"a\": \"" + name + "\"").error() ==
        "model.safetensors.index.json: weight_map.a is not the plain name of a .safetensors file");
}

TEST_CASE("every shard's header is checked, and named", "[checkpoint]") {
  const Sharded files(R"("a": "one.safetensors", "b": "two.safetensors")");
  files.directory.write("two.safetensors", safetensors("{" + tensor("b", "F32", "2", 8, 0) + "}", std::string(8, 0)));
  CHECK(files.error() == "two.safetensors: tensor 'b' ends before it begins: bytes 8 to 0");
  files.directory.write("two.safetensors", "");
  CHECK(files.error() == "two.safetensors: is empty; copy or download it again");
}

TEST_CASE("an index without a weight map, or that is no JSON", "[checkpoint]") {
  const Sharded files("");
  files.directory.write("model.safetensors.index.json", "{}");
  CHECK(files.error() == "model.safetensors.index.json: weight_map is missing");
  files.directory.write("model.safetensors.index.json", "{\"weight_map\": []}");
  CHECK(files.error() == "model.safetensors.index.json: weight_map is a list, expected an object");
  files.directory.write("model.safetensors.index.json", "no");
  CHECK(holds(files.error(), "model.safetensors.index.json: is not valid JSON"));
}

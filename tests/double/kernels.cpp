/// The vector kernels of common/ exist in f32 only. These are the same sums as plain loops, for the double-precision build.
#include "common/tensor/attention_sums.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/softmax.hpp"

namespace kv {

// ---- matrices ----

MatrixView MatrixView::transposed() const { return {data, type, columns, rows, column_stride, row_stride, nullptr}; }

MatrixView MatrixView::row_slice(index_t first, index_t count) const {
  MatrixView slice = *this;
  slice.data = static_cast<const float*>(data) + first * row_stride;
  slice.rows = count;
  return slice;
}

float VectorView::operator[](index_t i) const { return static_cast<const float*>(data)[i]; }

float MatrixView::at(index_t i, index_t j) const {
  return static_cast<const float*>(data)[i * row_stride + j * column_stride];
}

MatrixView view(const Tensor<2>& matrix) {
  return {matrix.data(), DType::f32, matrix.shape(0), matrix.shape(1), matrix.shape(1), 1};
}

Tensor<2> widened(const MatrixView& matrix) {
  Tensor<2> result = empty<2>({matrix.rows, matrix.columns});
  for (index_t i = 0; i < matrix.rows; ++i)
    for (index_t j = 0; j < matrix.columns; ++j) result(i, j) = matrix.at(i, j);
  return result;
}

struct Linear::Panels {
  Tensor<2> weight;  // (outputs,inputs)
  std::vector<float> bias;
};

Linear::Linear(const LinearView& map)
    : panels_(std::make_unique<Panels>(Panels{widened(map.weight), std::vector<float>(map.weight.rows)})) {
  for (index_t o = 0; map.bias && o < outputs(); ++o) panels_->bias[o] = map.bias[o];
}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
index_t Linear::inputs() const { return panels_->weight.shape(1); }
index_t Linear::outputs() const { return panels_->weight.shape(0); }

Tensor<2> Linear::operator()(const Tensor<2>& x) const {
  require_shape("linear: x (N,inputs)", x, {x.shape(0), inputs()});
  Tensor<2> y = empty<2>({x.shape(0), outputs()});
  multiply(x.shape(0), x.data(), inputs(), y.data(), outputs());
  return y;
}

void Linear::multiply(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const {
  for (index_t n = 0; n < row_count; ++n)
    for (index_t o = 0; o < outputs(); ++o) {
      float sum = 0;
      for (index_t i = 0; i < inputs(); ++i) sum += panels_->weight(o, i) * x[n * x_stride + i];
      y[n * y_stride + o] = sum + panels_->bias[o];
    }
}

// ---- attention's sums ----

void dot_rows(const RowsView& queries, const RowsView& rows, float* scores, index_t scores_stride) {
  for (index_t q = 0; q < queries.count; ++q)
    for (index_t s = 0; s < rows.count; ++s) {
      float sum = 0;
      for (index_t d = 0; d < rows.width; ++d)
        sum += queries.data[q * queries.stride + d] * rows.data[s * rows.stride + d];
      scores[q * scores_stride + s] = sum;
    }
}

void add_weighted_rows(const RowsView& weights, const RowsView& rows, float* out, index_t out_stride) {
  for (index_t q = 0; q < weights.count; ++q)
    for (index_t d = 0; d < rows.width; ++d)
      for (index_t s = 0; s < rows.count; ++s)
        out[q * out_stride + d] += weights.data[q * weights.stride + s] * rows.data[s * rows.stride + d];
}

void add_weighted_rows(const RowsView& weights, const RowsView& rows, const NextRows&, float* out, index_t out_stride) {
  add_weighted_rows(weights, rows, out, out_stride);
}

void scale(std::span<float> x, float factor) {
  for (float& each : x) each *= factor;
}

void dot_rows(std::span<const float> query, const RowsView& rows, std::span<float> scores) {
  dot_rows(RowsView{query.data(), query.size(), 1, query.size()}, rows, scores.data(), scores.size());
}

void softmax(std::span<float> x) {
  const float largest = *std::max_element(x.begin(), x.end());
  float total = 0;
  for (float& each : x) total += each = std::exp(each - largest);
  for (float& each : x) each /= total;
}

float RunningSoftmax::next(std::span<float> scores) {
  const float before = maximum_;
  maximum_ = std::max(before, *std::max_element(scores.begin(), scores.end()));
  const float factor = std::exp(before - maximum_);
  sum_ *= factor;
  for (float& each : scores) sum_ += each = std::exp(each - maximum_);
  return factor;
}

}  // namespace kv

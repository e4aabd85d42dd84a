// Gradient of the cross-entropy in the logits: softmax(z + bias) minus the one-hot label.
//
//   z              (n_classes, n_columns) float32, one example a column; overwritten by the result,
//                  which is 0 past the n-th column; n_columns n rounded up to kProductLanes
//   bias           (n_classes,) float32
//   labels         (n,) int32 in [0, n_classes)
//   bias_gradient  (n_classes,) float32, sums of the rows of the result
//
// exp is exp_f32 of the distance to the largest logit; float32 throughout, classes added first to
// last. Columns do not mix but in bias_gradient, where every 16th are added first to last and the
// 16 sums by sum_of_lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elementary.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "small_products.hpp"

namespace pyattr {

// softmax(z + bias) of n <= kSoftmaxColumns columns, in place. One short loop a step and a class,
// which become SIMD.
constexpr std::size_t kSoftmaxColumns = 128;

PYATTR_INLINE void softmax_columns(float* __restrict z, std::size_t n_classes, std::size_t n,
                                   std::size_t row, const float* __restrict bias) {
  alignas(64) float top[kSoftmaxColumns], sum[kSoftmaxColumns];
  for (std::size_t j = 0; j < n; ++j) {
    top[j] = z[j] += bias[0];
    sum[j] = 0.0f;
  }
  for (std::size_t c = 1; c < n_classes; ++c)
    for (std::size_t j = 0; j < n; ++j) {
      const float own = z[c * row + j] + bias[c];
      z[c * row + j] = own;
      top[j] = own > top[j] ? own : top[j];
    }
  for (std::size_t c = 0; c < n_classes; ++c)
    for (std::size_t j = 0; j < n; ++j) {
      const float own = exp_f32(z[c * row + j] - top[j]);
      z[c * row + j] = own;
      sum[j] += own;
    }
  for (std::size_t j = 0; j < n; ++j) sum[j] = 1.0f / sum[j];
  for (std::size_t c = 0; c < n_classes; ++c)
    for (std::size_t j = 0; j < n; ++j) z[c * row + j] *= sum[j];
}

PYATTR_CLONES
static void softmax_errors(float* z, std::size_t n_classes, std::size_t n, const float* bias,
                           const std::int32_t* labels, float* bias_gradient) {
  const std::size_t n_columns = whole_lanes(n);
  for (std::size_t j = 0; j < n_columns; j += kSoftmaxColumns)
    softmax_columns(z + j, n_classes, least(kSoftmaxColumns, n_columns - j), n_columns, bias);
  for (std::size_t j = 0; j < n; ++j)
    z[static_cast<std::size_t>(labels[j]) * n_columns + j] -= 1.0f;
  for (std::size_t c = 0; c < n_classes; ++c) {
    float* const own = z + c * n_columns;
    for (std::size_t j = n; j < n_columns; ++j) own[j] = 0.0f;
    ProductLanes total = {};
    for (std::size_t j = 0; j < n_columns; j += kProductLanes) total += load_lanes(own + j);
    bias_gradient[c] = sum_of_lanes(total);
  }
}

}  // namespace pyattr

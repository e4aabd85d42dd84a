// LASSO on a Gram matrix: what is asked, what is answered, and the gap that certifies an answer.
//
// With r = y - X w and the gradient g = b - G w = X^T r / m,
//   |r|^2 / m = s - b.w - w.g,   y.r / m = s - b.w,
//   P(w) = |r|^2 / 2m + lambda |w|_1,   D(a r) = a y.r / m - a^2 |r|^2 / 2m,
// where a = min(1, lambda / |g|_oo) makes the dual point feasible. P - D bounds P(w) - min P.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace pyattr {

// Rows that were held out: their error is s - 2 b.w + w^T G w, all centred at the *fitted* means.
struct HeldOut {
  const float* gram = nullptr;
  const float* cross = nullptr;
  const double* square = nullptr;
  int patience = 0;   // stop after so many lambdas without a new least error ...
  double rise = 0.0;  // ... once the error is above (1 + rise) times the least
};

struct LassoProblem {
  const float* gram;
  const float* cross;
  const double* square;
  const double* lambdas;
  const std::int32_t* n_steps;  // (T,) how many of the L lambdas to fit
  std::size_t n, n_lambdas;
  double tolerance;
  HeldOut held_out;
};

struct LassoPath {
  float* weights;        // (T, L, n), or (T, n) for the last lambda alone
  bool whole;            // which of the two
  double* gaps;          // (T, L) relative to s; NaN beyond the end of a path
  double* errors;        // (T, L) held-out mean square; NaN beyond the end; null without hold-out
  std::int32_t* n_done;  // (T,) lambdas fitted
};

PYATTR_INLINE float soft_threshold(float value, float lambda) {
  const float size = __builtin_fabsf(value) - lambda;
  return size > 0.0f ? __builtin_copysignf(size, value) : 0.0f;
}

// The sums of one target that its gap needs.
struct GapSums {
  double wb = 0.0, wg = 0.0, l1 = 0.0;
  float largest = 0.0f;  // |g|_oo
};

inline double duality_gap(double square, double lambda, const GapSums& sums) {
  const double residual = square - sums.wb - sums.wg, inner = square - sums.wb;
  const double scale = sums.largest > lambda ? lambda / sums.largest : 1.0;
  return 0.5 * residual + lambda * sums.l1 - scale * (inner - 0.5 * scale * residual);
}

PYATTR_CLONES
static float largest_size(const float* values, std::size_t n) {
  alignas(64) float top[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::size_t c = 0; c < 16; ++c) {
      const float size = __builtin_fabsf(values[i + c]);
      top[c] = size > top[c] ? size : top[c];
    }
  float result = 0.0f;
  for (; i < n; ++i) result = std::max(result, __builtin_fabsf(values[i]));
  for (float size : top) result = std::max(result, size);
  return result;
}

}  // namespace pyattr

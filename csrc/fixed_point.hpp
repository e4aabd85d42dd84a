// Outputs in fixed point: whole numbers of steps from a centre, so that their sums are exact.
//
//   to_fixed_point  outputs (n_rows, n_targets) float32 or float64, centre and step (n_targets,)
//                   float64, step a power of two  ->  out (n_rows, n_targets) int32
//
// q = round((y - c) / step) to nearest, ties to even; accepted when |q| < kFixedPointLimit = 2^21.
// Every operation is one IEEE rounding in float64 (the product with 1 / step is exact, short of
// underflow), so that the whole numbers are the same on every machine and on a GPU.
//
// Quantisation error.  |step q - (y - c)| <= step / 2 + 2^-53 |y - c|. The error of a sum of n
// outputs is at most n step / 2, and about sqrt(n / 12) step where errors are independent.
// Sums of n numbers q stay below 2^63 for n < 2^42, sums of q^2 for n <= 2^21 at the extreme.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace pyattr {

constexpr std::int32_t kFixedPointLimit = 1 << 21;

// Returned for NaN, infinity and numbers that are out of range.
constexpr std::int32_t kNotFixedPoint = INT32_MIN;

// steps = 1 / step.  2^52 + 2^51 added and taken away rounds |x| < 2^51 to a whole number.
PYATTR_HD std::int32_t to_fixed_point(double output, double centre, double steps) {
  const double x = (output - centre) * steps;
  const double rounded = (x + 6755399441055744.0) - 6755399441055744.0;
  const bool good = rounded > -static_cast<double>(kFixedPointLimit) &&
                    rounded < static_cast<double>(kFixedPointLimit);  // false for NaN
  return good ? static_cast<std::int32_t>(good ? rounded : 0.0) : kNotFixedPoint;
}

#if !defined(__CUDACC__)

// Rows begin .. end - 1. Entries that are not accepted become kNotFixedPoint; returns
// the first target that has one, or n_targets.
template <typename Float>
PYATTR_INLINE std::size_t to_fixed_point_rows(const Float* outputs, const double* centre,
                                              const double* steps, std::size_t n_targets,
                                              std::size_t begin, std::size_t end,
                                              std::int32_t* out) {
  std::int32_t least_value = INT32_MAX;
  for (std::size_t j = begin; j < end; ++j)
    for (std::size_t t = 0; t < n_targets; ++t) {
      const std::int32_t q =
          to_fixed_point(static_cast<double>(outputs[j * n_targets + t]), centre[t], steps[t]);
      out[j * n_targets + t] = q;
      least_value = q < least_value ? q : least_value;
    }
  if (least_value != kNotFixedPoint) return n_targets;
  for (std::size_t t = 0; t < n_targets; ++t)
    for (std::size_t j = begin; j < end; ++j)
      if (out[j * n_targets + t] == kNotFixedPoint) return t;
  return n_targets;
}

PYATTR_CLONES
static std::size_t to_fixed_point_many(const float* outputs, const double* centre,
                                       const double* steps, std::size_t n_targets,
                                       std::size_t begin, std::size_t end, std::int32_t* out) {
  return to_fixed_point_rows(outputs, centre, steps, n_targets, begin, end, out);
}

PYATTR_CLONES
static std::size_t to_fixed_point_many(const double* outputs, const double* centre,
                                       const double* steps, std::size_t n_targets,
                                       std::size_t begin, std::size_t end, std::int32_t* out) {
  return to_fixed_point_rows(outputs, centre, steps, n_targets, begin, end, out);
}

#endif  // !__CUDACC__

}  // namespace pyattr

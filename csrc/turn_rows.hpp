// Rows of logits turned, so that kMarginLanes of them run side by side: the first step of
// margins.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "simd.hpp"

namespace pyattr {

constexpr int kMarginLanes = 64;

#if !defined(__CUDACC__)

// W floats side by side, a multiple of 4, and the turning of 4 x 4 tiles within each four of them.
template <int W>
struct TurnLanes;
template <>
struct TurnLanes<4> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  static constexpr Ints low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
  static constexpr Ints first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  static PYATTR_INLINE Floats load(const float* row, std::size_t) {
    Floats values;
    std::memcpy(&values, row, sizeof values);
    return values;
  }
};
template <>
struct TurnLanes<8> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef std::int32_t Ints __attribute__((vector_size(32)));
  static constexpr Ints low = {0, 8, 1, 9, 4, 12, 5, 13}, high = {2, 10, 3, 11, 6, 14, 7, 15};
  static constexpr Ints first = {0, 1, 8, 9, 4, 5, 12, 13};
  static constexpr Ints second = {2, 3, 10, 11, 6, 7, 14, 15};
  // Four floats of a row and four of the row four below.
  static PYATTR_INLINE Floats load(const float* row, std::size_t n_classes) {
    TurnLanes<4>::Floats upper, lower;
    std::memcpy(&upper, row, sizeof upper);
    std::memcpy(&lower, row + 4 * n_classes, sizeof lower);
    return __builtin_shufflevector(upper, lower, 0, 1, 2, 3, 4, 5, 6, 7);
  }
};

// z[c, lane] = rows[lane, c], or -inf for c = label[lane] and past the last class; correct = z_y;
// largest = the largest other logit, NaN where one is.
//   rows (kMarginLanes, n_classes), and at most 3 floats more are read
//   z (n_classes rounded up to 4, kMarginLanes)
template <int W>
PYATTR_INLINE void turn_lanes(const float* rows, std::size_t n_classes, const std::int32_t* label,
                              float* z, float* correct, float* largest) {
  using V = typename TurnLanes<W>::Floats;
  using I = typename TurnLanes<W>::Ints;
  using Turn = TurnLanes<W>;
  const V none = V{} - std::numeric_limits<float>::infinity();
  for (std::size_t lane = 0; lane < kMarginLanes; lane += W) {
    V top = none;
    I own{}, undefined{}, labels;
    std::memcpy(&labels, label + lane, sizeof labels);
    for (std::size_t c = 0; c < n_classes; c += 4) {
      const float* const at = rows + lane * n_classes + c;
      const V r0 = Turn::load(at, n_classes), r1 = Turn::load(at + n_classes, n_classes);
      const V r2 = Turn::load(at + 2 * n_classes, n_classes);
      const V r3 = Turn::load(at + 3 * n_classes, n_classes);
      const V low01 = __builtin_shuffle(r0, r1, Turn::low);
      const V low23 = __builtin_shuffle(r2, r3, Turn::low);
      const V high01 = __builtin_shuffle(r0, r1, Turn::high);
      const V high23 = __builtin_shuffle(r2, r3, Turn::high);
      const V turned[4] = {__builtin_shuffle(low01, low23, Turn::first),
                           __builtin_shuffle(low01, low23, Turn::second),
                           __builtin_shuffle(high01, high23, Turn::first),
                           __builtin_shuffle(high01, high23, Turn::second)};
#pragma GCC unroll 4
      for (std::size_t k = 0; k < 4; ++k) {
        V here = none;
        if (c + k < n_classes) {
          const I is_own = labels == static_cast<std::int32_t>(c + k);
          own |= reinterpret_cast<I>(turned[k]) & is_own;
          here = is_own ? none : turned[k];
          top = here > top ? here : top;
          undefined |= here != here;
        }
        std::memcpy(z + (c + k) * kMarginLanes + lane, &here, sizeof here);
      }
    }
    top = undefined ? top + std::numeric_limits<float>::quiet_NaN() : top;
    std::memcpy(correct + lane, &own, sizeof own);
    std::memcpy(largest + lane, &top, sizeof top);
  }
}

PYATTR_CLONES
static void turn_rows(bool wide, const float* rows, std::size_t n_classes,
                      const std::int32_t* label, float* z, float* correct, float* largest) {
  if (wide)
    turn_lanes<8>(rows, n_classes, label, z, correct, largest);
  else
    turn_lanes<4>(rows, n_classes, label, z, correct, largest);
}

#endif  // !__CUDACC__

}  // namespace pyattr

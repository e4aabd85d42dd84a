// 16 targets side by side in the lanes of a register, for sweeps over all coordinates of one shared
// Gram matrix: arrays are (n, kLanes), lanes never mix.
//
// Coordinates are updated kBlock at a time one after the other (Gauss-Seidel) and then the whole
// gradient by one small matrix product, at the rate of one.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace pyattr {

constexpr int kLanes = 16;
constexpr std::size_t kBlock = 16;

typedef float TargetLanes __attribute__((vector_size(kLanes * sizeof(float))));

// gradient[i] -= sum over b of gram[first + b, i] * step[b] for all i from `begin` on:
// (n, kBlock) @ (kBlock, 16).
PYATTR_INLINE void apply_steps(const float* gram, std::size_t n, std::size_t first,
                               std::size_t n_block, const TargetLanes* step, TargetLanes* gradient,
                               std::size_t begin = 0) {
  const float* rows = gram + first * n;
  std::size_t i = begin;
  for (; i + 4 <= n; i += 4) {
    TargetLanes a0 = gradient[i], a1 = gradient[i + 1], a2 = gradient[i + 2], a3 = gradient[i + 3];
    for (std::size_t b = 0; b < n_block; ++b) {
      const float* row = rows + b * n + i;
      a0 -= row[0] * step[b];
      a1 -= row[1] * step[b];
      a2 -= row[2] * step[b];
      a3 -= row[3] * step[b];
    }
    gradient[i] = a0, gradient[i + 1] = a1, gradient[i + 2] = a2, gradient[i + 3] = a3;
  }
  for (; i < n; ++i)
    for (std::size_t b = 0; b < n_block; ++b) gradient[i] -= rows[b * n + i] * step[b];
}

}  // namespace pyattr

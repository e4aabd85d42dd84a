// Products of small dense matrices, for models that are trained one at a time in a core's cache.
//
//   out[r][v] = sum over k of a[r * a.row + k * a.inner] * b[k * b_row + v]
//
// a is any strided view (a matrix or its transpose), b and out have rows of a multiple of
// kProductLanes columns. Accumulator: float32, one addition of a rounded product for each k, first
// to last; an element's bits depend on neither the blocks nor the sizes of the matrices around it.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace pyattr {

constexpr std::size_t kProductLanes = 16;

PYATTR_INLINE std::size_t whole_lanes(std::size_t n) {
  return (n + kProductLanes - 1) / kProductLanes * kProductLanes;
}

struct LeftFactor {
  const float* at;
  std::size_t row, inner;
};

// A register of each instruction-set level, as it is read and written: anywhere in memory.
template <int kBytes>
struct ProductRegister {
  typedef float type __attribute__((vector_size(kBytes)));
  typedef type stored __attribute__((aligned(4), may_alias));
  static constexpr std::size_t lanes = kBytes / sizeof(float);
};

// The sums of Rows x Columns registers stay in registers: 20 of AVX-512's 32, 10 of the 16 below.
template <typename Own, int Rows, int Columns>
PYATTR_INLINE void product_block(LeftFactor a, const float* b, std::size_t b_row,
                                 std::size_t n_inner, float* out, std::size_t out_row) {
  using Stored = typename Own::stored;
  typename Own::type sum[Rows][Columns] = {};
  for (std::size_t k = 0; k < n_inner; ++k) {
    const float *const left = a.at + k * a.inner, *const right = b + k * b_row;
    typename Own::type factor[Columns];
    for (int v = 0; v < Columns; ++v)
      factor[v] = *reinterpret_cast<const Stored*>(right + v * Own::lanes);
    for (int r = 0; r < Rows; ++r) {
      const float own = left[r * a.row];
      for (int v = 0; v < Columns; ++v) sum[r][v] += own * factor[v];
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Columns; ++v)
      *reinterpret_cast<Stored*>(out + r * out_row + v * Own::lanes) = sum[r][v];
}

template <typename Own, int Columns>
PYATTR_INLINE void product_columns(LeftFactor a, std::size_t n_rows, const float* b,
                                   std::size_t b_row, std::size_t n_inner, float* out,
                                   std::size_t out_row) {
  std::size_t r = 0;
  const auto rest = [&] { return LeftFactor{a.at + r * a.row, a.row, a.inner}; };
  for (; r + 5 <= n_rows; r += 5)
    product_block<Own, 5, Columns>(rest(), b, b_row, n_inner, out + r * out_row, out_row);
  for (; r + 2 <= n_rows; r += 2)
    product_block<Own, 2, Columns>(rest(), b, b_row, n_inner, out + r * out_row, out_row);
  if (r < n_rows)
    product_block<Own, 1, Columns>(rest(), b, b_row, n_inner, out + r * out_row, out_row);
}

template <typename Own>
PYATTR_INLINE void product_of_level(LeftFactor a, std::size_t n_rows, const float* b,
                                    std::size_t b_row, std::size_t n_inner, std::size_t n_columns,
                                    float* out, std::size_t out_row) {
  constexpr int kWide = Own::lanes == 16 ? 4 : 2;
  std::size_t v = 0;
  for (; v + kWide * Own::lanes <= n_columns; v += kWide * Own::lanes)
    product_columns<Own, kWide>(a, n_rows, b + v, b_row, n_inner, out + v, out_row);
  for (; v < n_columns; v += Own::lanes)
    product_columns<Own, 1>(a, n_rows, b + v, b_row, n_inner, out + v, out_row);
}

// a (n_rows, n_inner), b (n_inner, n_columns), out (n_rows, n_columns); n_columns a multiple of
// kProductLanes.
PYATTR_CLONES
static void small_product(LeftFactor a, std::size_t n_rows, const float* b, std::size_t b_row,
                          std::size_t n_inner, std::size_t n_columns, float* out,
                          std::size_t out_row) {
  switch (register_width()) {
    case 16:
      return product_of_level<ProductRegister<64>>(a, n_rows, b, b_row, n_inner, n_columns, out,
                                                   out_row);
    case 8:
      return product_of_level<ProductRegister<32>>(a, n_rows, b, b_row, n_inner, n_columns, out,
                                                   out_row);
    default:
      return product_of_level<ProductRegister<16>>(a, n_rows, b, b_row, n_inner, n_columns, out,
                                                   out_row);
  }
}

typedef ProductRegister<64>::type ProductLanes;

PYATTR_INLINE ProductLanes load_lanes(const float* from) {
  return *reinterpret_cast<const ProductRegister<64>::stored*>(from);
}

PYATTR_INLINE void store_lanes(float* to, const ProductLanes& lanes) {
  *reinterpret_cast<ProductRegister<64>::stored*>(to) = lanes;
}

// The 16 numbers as ((0 + 8) + (4 + 12)) + ..., halves onto halves.
PYATTR_INLINE float sum_of_lanes(const ProductLanes& lanes) {
  float part[kProductLanes];
  for (std::size_t lane = 0; lane < kProductLanes; ++lane) part[lane] = lanes[lane];
  for (std::size_t half = kProductLanes / 2; half; half /= 2)
    for (std::size_t lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
  return part[0];
}

}  // namespace pyattr

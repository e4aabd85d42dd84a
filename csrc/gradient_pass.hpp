// Products of one Gram matrix with the sparse weights of many targets.
//
// A tile of G stays in L2 and serves all of them; inside it a target's rows are taken eight at a
// time. Tiles begin at fixed indices, so these groups, and the bits, do not depend on the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ranges.hpp"
#include "simd.hpp"

namespace pyattr {

constexpr std::size_t kTileRows = 128;
constexpr std::size_t kTileColumns = 1024;

// g[columns] -= sum over e of value[e] * G[index[e], columns].
PYATTR_CLONES
static void subtract_rows(const float* gram, std::size_t n, const std::uint32_t* index,
                          const float* value, std::size_t n_entries, Range columns, float* g) {
  for (std::size_t first = 0; first < n_entries; first += 8) {
    const float* row[8];
    float v[8];
    for (std::size_t e = 0; e < 8; ++e) {  // the last group is filled up with zeros
      const bool real = first + e < n_entries;
      row[e] = gram + index[real ? first + e : first] * n;
      v[e] = real ? value[first + e] : 0.0f;
    }
    const float *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    const float *r4 = row[4], *r5 = row[5], *r6 = row[6], *r7 = row[7];
    const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
    const float v4 = v[4], v5 = v[5], v6 = v[6], v7 = v[7];
    if (n_entries - first <= 2)
      for (std::size_t i = columns.begin; i < columns.end; ++i) g[i] -= v0 * r0[i] + v1 * r1[i];
    else if (n_entries - first <= 4)
      for (std::size_t i = columns.begin; i < columns.end; ++i)
        g[i] -= (v0 * r0[i] + v1 * r1[i]) + (v2 * r2[i] + v3 * r3[i]);
    else
      for (std::size_t i = columns.begin; i < columns.end; ++i)
        g[i] -= ((v0 * r0[i] + v1 * r1[i]) + (v2 * r2[i] + v3 * r3[i])) +
                ((v4 * r4[i] + v5 * r5[i]) + (v6 * r6[i] + v7 * r7[i]));
  }
}

// One target's weights that are not 0, by rising index, and the sums (n,) to subtract G w from.
struct SparseProduct {
  const std::vector<std::uint32_t>* index;
  const std::vector<float>* value;
  float* sums;
};

inline void subtract_products(const float* gram, std::size_t n,
                              const std::vector<SparseProduct>& products) {
  std::vector<std::size_t> cursor(products.size());
  for (std::size_t column = 0; column < n; column += kTileColumns) {
    const Range columns{column, least(column + kTileColumns, n)};
    std::fill(cursor.begin(), cursor.end(), 0);
    for (std::size_t row = 0; row < n; row += kTileRows)
      for (std::size_t t = 0; t < products.size(); ++t) {
        const std::vector<std::uint32_t>& index = *products[t].index;
        const std::size_t from = cursor[t];
        std::size_t to = from;
        while (to < index.size() && index[to] < row + kTileRows) ++to;
        subtract_rows(gram, n, index.data() + from, products[t].value->data() + from, to - from,
                      columns, products[t].sums);
        cursor[t] = to;
      }
  }
}

}  // namespace pyattr

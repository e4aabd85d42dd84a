// Lists of the examples in packed masks (layout: packed_mask.hpp). Exact.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace pyattr {

// The positions of the ones of every byte, and how many there are.
struct OnesOfBytes {
  std::uint8_t at[256][8] = {}, n[256] = {};

  constexpr OnesOfBytes() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0; bit < 8; ++bit)
        if (byte >> bit & 1) at[byte][n[byte]++] = static_cast<std::uint8_t>(bit);
  }
};

// Examples in a mask of n_bytes bytes, rising: the first `size` of them. A byte's ones are written
// as eight numbers, the surplus of which the next byte's overwrite.
PYATTR_CLONES
static void list_ones(const std::uint8_t* packed, std::size_t n_bytes, std::size_t size,
                      std::int64_t* out) {
  static constexpr OnesOfBytes kOnes;
  std::size_t n = 0, i = 0;
  for (; i < n_bytes && n + 8 <= size; ++i) {
    const std::uint8_t byte = packed[i];
    for (int k = 0; k < 8; ++k) out[n + k] = static_cast<std::int64_t>(8 * i) + kOnes.at[byte][k];
    n += kOnes.n[byte];
  }
  for (; i < n_bytes; ++i)
    for (int k = 0; k < kOnes.n[packed[i]] && n < size; ++k)
      out[n++] = static_cast<std::int64_t>(8 * i) + kOnes.at[packed[i]][k];
}

}  // namespace pyattr

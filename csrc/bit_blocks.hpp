// Bit matrices turned: rows of masks become rows of examples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

namespace pyattr {

#if !defined(__CUDACC__)

typedef std::uint64_t WordLanes __attribute__((vector_size(64)));

// Transpose a 64 x 64 bit block per lane: bit c of row[r] <-> bit r of row[c].
PYATTR_INLINE void transpose_blocks(WordLanes row[64]) {
  std::uint64_t mask = 0x00000000FFFFFFFFu;
  for (int j = 32; j != 0; j >>= 1, mask ^= mask << j)
    for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {
      const WordLanes swap = (row[k] >> j ^ row[k | j]) & mask;
      row[k] ^= swap << j;
      row[k | j] ^= swap;
    }
}

#endif  // !__CUDACC__

}  // namespace pyattr

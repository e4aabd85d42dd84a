// Philox4x32-10, the counter-based generator behind every public random number of the project.
//
//   key      (seed & 0xffffffff, seed >> 32)
//   counter  (block, plane, row, stream)
//   output   4 uint32 words = 128 bits, a pure function of key and counter
//
// Any block of any row can be made alone, on host or device, with the same bits. One source for
// both: this header compiles under nvcc too. Integer arithmetic only: exact, nothing can overflow
// (the 32 x 32 products are taken in 64 bits; the key schedule wraps modulo 2^32 by definition).
//
// Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
// known-answer vectors of Random123 are in tests/test_kernels.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace pyattr {

// Streams give each use of a seed its own numbers; the list is pyattr.reference.Stream.
constexpr std::uint32_t kStreamMasks = 0;
constexpr std::uint32_t kStreamCorrelated = 1;
constexpr std::uint32_t kStreamSeeds = 2;

struct Philox4x32 {
  std::uint32_t word[4];
};

// One block: 10 rounds.
PYATTR_HD Philox4x32 philox4x32(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                                std::uint32_t c3, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53u) * c0;
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57u) * c2;
    const std::uint32_t hi0 = static_cast<std::uint32_t>(p0 >> 32);
    const std::uint32_t hi1 = static_cast<std::uint32_t>(p1 >> 32);
    c0 = hi1 ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = hi0 ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Philox4x32{{c0, c1, c2, c3}};
}

// kPhiloxLanes blocks side by side, one per SIMD lane; block b has its own c0, c2 and key.
// word[w][b] is word w of block b (structure of arrays: lanes stay contiguous).
constexpr int kPhiloxLanes = 64;
struct PhiloxBatch {
  alignas(64) std::uint32_t c0[kPhiloxLanes];
  alignas(64) std::uint32_t c2[kPhiloxLanes];
  alignas(64) std::uint32_t k0[kPhiloxLanes];
  alignas(64) std::uint32_t k1[kPhiloxLanes];
  alignas(64) std::uint32_t word[4][kPhiloxLanes];
};

PYATTR_INLINE void philox_batch(PhiloxBatch& batch, std::uint32_t plane, std::uint32_t stream) {
  for (int b = 0; b < kPhiloxLanes; ++b) {
    const Philox4x32 r =
        philox4x32(batch.c0[b], plane, batch.c2[b], stream, batch.k0[b], batch.k1[b]);
    batch.word[0][b] = r.word[0];
    batch.word[1][b] = r.word[1];
    batch.word[2][b] = r.word[2];
    batch.word[3][b] = r.word[3];
  }
}

#if !defined(__CUDACC__)

// words[i] = philox4x32(counter i, key i).  counters (n, 4), keys (n, 2), words (n, 4).
PYATTR_CLONES
static void philox4x32_many(const std::uint32_t* counters, const std::uint32_t* keys, std::size_t n,
                            std::uint32_t* words) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t* c = counters + 4 * i;
    const Philox4x32 r = philox4x32(c[0], c[1], c[2], c[3], keys[2 * i], keys[2 * i + 1]);
    for (int w = 0; w < 4; ++w) words[4 * i + w] = r.word[w];
  }
}

// words (n, n_words): row j holds the first n_words words of the blocks with key seeds[j] and
// counter (0.., plane, 0, stream).  n_words <= 2^34 (32-bit block counter).
PYATTR_CLONES
static void random_words(const std::uint64_t* seeds, std::size_t n, std::uint32_t stream,
                         std::uint32_t plane, std::size_t n_words, std::uint32_t* words) {
  const std::size_t n_blocks = (n_words + 3) / 4;
  const std::size_t total = n * n_blocks;
  PhiloxBatch batch;
  std::size_t row = 0, block = 0;  // of the batch's first lane
  for (std::size_t start = 0; start < total; start += kPhiloxLanes) {
    if (4 * (block + kPhiloxLanes) <= n_words) {  // all lanes in one row, all words wanted
      for (int b = 0; b < kPhiloxLanes; ++b) {
        batch.c0[b] = static_cast<std::uint32_t>(block) + static_cast<std::uint32_t>(b);
        batch.c2[b] = 0;
        batch.k0[b] = static_cast<std::uint32_t>(seeds[row]);
        batch.k1[b] = static_cast<std::uint32_t>(seeds[row] >> 32);
      }
      philox_batch(batch, plane, stream);
      std::uint32_t* out = words + row * n_words + 4 * block;
      for (int b = 0; b < kPhiloxLanes; ++b)
        for (int w = 0; w < 4; ++w) out[4 * b + w] = batch.word[w][b];
      block += kPhiloxLanes;
      if (block == n_blocks) block = 0, ++row;
      continue;
    }
    std::size_t r = row, q = block;
    for (int b = 0; b < kPhiloxLanes; ++b) {
      const std::uint64_t seed = seeds[row < n ? row : n - 1];  // lanes past the end are dropped
      batch.c0[b] = static_cast<std::uint32_t>(block);
      batch.c2[b] = 0;
      batch.k0[b] = static_cast<std::uint32_t>(seed);
      batch.k1[b] = static_cast<std::uint32_t>(seed >> 32);
      if (++block == n_blocks) block = 0, ++row;
    }
    philox_batch(batch, plane, stream);
    const std::size_t used = total - start < kPhiloxLanes ? total - start : kPhiloxLanes;
    for (std::size_t b = 0; b < used; ++b) {
      std::uint32_t* out = words + r * n_words + 4 * q;
      const std::size_t left = n_words - 4 * q;
      for (std::size_t w = 0; w < (left < 4 ? left : 4); ++w) out[w] = batch.word[w][b];
      if (++q == n_blocks) q = 0, ++r;
    }
  }
}

#endif  // !__CUDACC__

}  // namespace pyattr

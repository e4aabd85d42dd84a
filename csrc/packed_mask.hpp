// Packed masks: layout, drawing, transposition. All exact: the same bits on every machine.
//
// Layout.  packed (n_masks, row_bytes) uint8, row_bytes = 8 * ceil(n_train / 64). Example i is bit
// i % 8 of byte i / 8 of its row (numpy.packbits bitorder="little"), hence bit i % 64 of the row's
// little-endian 64-bit word i / 64. Bits from n_train on are 0.
//
// Drawing.  Bit i of row `row` is bit i % 32 of word (i % 128) / 32 of Philox block i / 128 with
// counter (block, plane, row, stream). A Bernoulli(t / 2^32) bit is bit-sliced: write t / 2^32 in
// binary, d_1 d_2 .. d_K after the point without trailing zeros; start from x = 0 and, for k = K ..
// 1 with r the random bit of plane k - 1, set x = d_k ? (x | r) : (x & r). P(x = 1) then maps P ->
// (d_k + P) / 2 each step and ends at exactly t / 2^32. Costs K Philox blocks per 128 bits: one for
// p = 1/2. t = 0 and t = 2^32 give all zeros and all ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "philox.hpp"

namespace pyattr {

constexpr std::size_t row_bytes_of(std::size_t n_train) { return (n_train + 63) / 64 * 8; }

// The binary digits of a threshold in [0, 2^32], and the value to start from.
struct Digits {
  std::uint32_t digits;  // bit 32 - k is d_k
  std::uint32_t start;   // all ones for t = 2^32 (then every digit is 1 and x stays all ones)
  int n_planes;          // K

  explicit Digits(std::uint64_t threshold)
      : digits(threshold >> 32 ? ~0u : static_cast<std::uint32_t>(threshold)),
        start(threshold >> 32 ? ~0u : 0u),
        n_planes(0) {
    if (start == 0)
      for (std::uint32_t rest = digits; rest != 0; rest <<= 1) ++n_planes;
  }
  // d_k as a word of equal bits, for k = plane + 1; 0 beyond K, which leaves x = 0 unchanged.
  PYATTR_HD std::uint32_t digit(int plane) const { return 0u - (digits >> (31 - plane) & 1u); }
};

// Put the first n_train bits' remainder of the last word to zero in each of n_rows rows.
PYATTR_INLINE void clear_tail(std::uint8_t* packed, std::size_t n_rows, std::size_t n_train) {
  const std::size_t row_bytes = row_bytes_of(n_train);
  if (n_train % 64 == 0) return;
  const std::uint64_t keep = (std::uint64_t{1} << (n_train % 64)) - 1;
  for (std::size_t j = 0; j < n_rows; ++j) {
    std::uint8_t* last = packed + j * row_bytes + row_bytes - 8;
    std::uint64_t word;
    std::memcpy(&word, last, 8);
    word &= keep;
    std::memcpy(last, &word, 8);
  }
}

// Draw rows first_row .. first_row + n_rows - 1.
//   given == nullptr: every bit is Bernoulli(one / 2^32), `zero` is not used;
//   given (n_rows, row_bytes): Bernoulli(one) where the given bit is 1, Bernoulli(zero) where it is
//   0.
// Both thresholds read the same planes; each bit uses one of them.
// out (n_rows, row_bytes); out == given is not allowed.
PYATTR_CLONES
static void draw_masks(const std::uint8_t* given, std::uint64_t seed, std::uint32_t stream,
                       std::uint32_t first_row, std::size_t n_rows, std::size_t n_train,
                       std::uint64_t one, std::uint64_t zero, std::uint8_t* out) {
  const Digits ones(one), zeros(zero);
  const int n_planes = given && zeros.n_planes > ones.n_planes ? zeros.n_planes : ones.n_planes;
  const std::size_t row_bytes = row_bytes_of(n_train);
  const std::size_t n_blocks = (n_train + 127) / 128;
  const std::size_t total = n_rows * n_blocks;

  PhiloxBatch batch;
  alignas(64) std::uint32_t x1[4][kPhiloxLanes], x0[4][kPhiloxLanes];
  for (int b = 0; b < kPhiloxLanes; ++b) {
    batch.k0[b] = static_cast<std::uint32_t>(seed);
    batch.k1[b] = static_cast<std::uint32_t>(seed >> 32);
  }
  std::size_t row = 0, block = 0;  // of the next lane to fill
  for (std::size_t start = 0; start < total; start += kPhiloxLanes) {
    std::size_t r = row, q = block;  // of the next lane to store
    for (int b = 0; b < kPhiloxLanes; ++b) {
      batch.c0[b] = static_cast<std::uint32_t>(block);
      batch.c2[b] = first_row + static_cast<std::uint32_t>(row);
      if (++block == n_blocks) block = 0, ++row;
    }
    for (int w = 0; w < 4; ++w)
      for (int b = 0; b < kPhiloxLanes; ++b) x1[w][b] = ones.start, x0[w][b] = zeros.start;
    for (int plane = n_planes - 1; plane >= 0; --plane) {
      philox_batch(batch, static_cast<std::uint32_t>(plane), stream);
      // d ? (x | r) : (x & r), with d a word of equal bits: (x & r) | (d & (x | r)).
      const std::uint32_t d1 = ones.digit(plane), d0 = zeros.digit(plane);
      for (int w = 0; w < 4; ++w)
        for (int b = 0; b < kPhiloxLanes; ++b) {
          const std::uint32_t bits = batch.word[w][b];
          x1[w][b] = (x1[w][b] & bits) | (d1 & (x1[w][b] | bits));
        }
      if (!given) continue;
      for (int w = 0; w < 4; ++w)
        for (int b = 0; b < kPhiloxLanes; ++b) {
          const std::uint32_t bits = batch.word[w][b];
          x0[w][b] = (x0[w][b] & bits) | (d0 & (x0[w][b] | bits));
        }
    }
    const int used = static_cast<int>(total - start < kPhiloxLanes ? total - start : kPhiloxLanes);
    for (int b = 0; b < used; ++b) {
      const std::size_t offset = r * row_bytes + 16 * q;
      const std::size_t n_bytes = row_bytes - 16 * q < 16 ? 8 : 16;
      std::uint32_t words[4] = {x1[0][b], x1[1][b], x1[2][b], x1[3][b]};
      if (given) {
        std::uint32_t mask[4] = {0, 0, 0, 0};
        std::memcpy(mask, given + offset, n_bytes);
        for (int w = 0; w < 4; ++w) words[w] = (words[w] & mask[w]) | (x0[w][b] & ~mask[w]);
      }
      std::memcpy(out + offset, words, n_bytes);
      if (++q == n_blocks) q = 0, ++r;
    }
  }
  clear_tail(out, n_rows, n_train);
}

// seeds[j] = w0 | w1 << 32 of the block with key `seed`, counter (0, 0, first_row + j, SEEDS).
static inline void sample_seeds(std::uint64_t seed, std::uint32_t first_row, std::size_t n,
                                std::uint64_t* seeds) {
  for (std::size_t j = 0; j < n; ++j) {
    const Philox4x32 r =
        philox4x32(0, 0, first_row + static_cast<std::uint32_t>(j), kStreamSeeds,
                   static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
    seeds[j] = r.word[0] | static_cast<std::uint64_t>(r.word[1]) << 32;
  }
}

}  // namespace pyattr

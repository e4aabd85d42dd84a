// One tile of co-occurrence counts by table look-up (AVX2), for gram.hpp.
//
// Four masks' bits of an example are a nibble, and popcount(a & b) of two nibbles a table of 16 x
// 16 bytes: with the table of row i's nibble in a register, one byte shuffle (vpshufb) counts 4
// masks for 32 examples j, and one addition of bytes sums them. Both tiles are cut into bytes
// first, a nibble each. After kLookupBlocks blocks, 56 nibbles of at most 4 each, the bytes are
// added to 16-bit sums, before they could overflow; and these to the tile's after kHalfBlocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ranges.hpp"
#include "simd.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__) && !defined(PYATTR_NO_CLONES)
#define PYATTR_LOOKUP 1
#include <immintrin.h>
#endif

namespace pyattr {

#if defined(PYATTR_LOOKUP)

constexpr std::size_t kLookupTile = 64;    // examples
constexpr std::size_t kLookupBlocks = 7;   // of 32 masks: 4 * 8 * 7 = 224 fits a byte
constexpr std::size_t kHalfBlocks = 2044;  // 32 * 2044 fits 16 bits
constexpr std::size_t kNibbles = 8 * kLookupBlocks;

static_assert(4 * kNibbles < 256 && 32 * kHalfBlocks < 65536, "sums fit");
static_assert(kHalfBlocks % kLookupBlocks == 0, "whole panels");

struct NibbleTables {
  alignas(64) std::uint8_t both[16][16];  // popcount(a & b)
};

constexpr NibbleTables nibble_tables() {
  NibbleTables tables{};
  for (int a = 0; a < 16; ++a)
    for (int b = 0; b < 16; ++b)
      for (int bit = 0; bit < 4; ++bit)
        tables.both[a][b] = static_cast<std::uint8_t>(tables.both[a][b] + ((a & b) >> bit & 1));
  return tables;
}

// nibbles[8 b + k, f] = nibble k of words[b, f], in a byte's upper half (kUpper) or its lower.
//   words (n_blocks, 64), nibbles (8 n_blocks, 64)
template <bool kUpper>
__attribute__((target("avx2"))) inline void split_nibbles(const std::uint32_t* words,
                                                          std::size_t n_blocks,
                                                          std::uint8_t* nibbles) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(kUpper ? 0xF0 : 0x0F));
  const __m256i turn = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (std::size_t b = 0; b < n_blocks; ++b)
    for (std::size_t f = 0; f < kLookupTile; f += 32) {
      // Four bytes of four examples turned in each 128 bits, then fours of those.
      __m256i part[4];
      for (std::size_t k = 0; k < 4; ++k)
        part[k] = _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(
                                          words + b * kLookupTile + f + 8 * k)),
                                      turn);
      const __m256i low01 = _mm256_unpacklo_epi32(part[0], part[1]);
      const __m256i low23 = _mm256_unpacklo_epi32(part[2], part[3]);
      const __m256i high01 = _mm256_unpackhi_epi32(part[0], part[1]);
      const __m256i high23 = _mm256_unpackhi_epi32(part[2], part[3]);
      const __m256i byte[4] = {
          _mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
          _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};
      for (std::size_t k = 0; k < 4; ++k) {
        const __m256i bytes = _mm256_permutevar8x32_epi32(byte[k], in_order);
        const __m256i low = kUpper ? _mm256_slli_epi16(bytes, 4) : bytes;
        const __m256i high = kUpper ? bytes : _mm256_srli_epi16(bytes, 4);
        std::uint8_t* const out = nibbles + (8 * b + 2 * k) * kLookupTile + f;
        _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm256_and_si256(low, mask));
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + kLookupTile),
                           _mm256_and_si256(high, mask));
      }
    }
}

// A row's 16-bit sums: of examples 0, 2, .. 30, then 1, 3, .. 31, then the same of 32 .. 63.
typedef std::uint16_t HalfSums[kLookupTile];

// Four rows of one panel.  rows, columns (n_nibbles, 64): nibbles in the upper and the lower half;
// `rows` begins at the first of the four.
__attribute__((target("avx2"))) inline void add_rows_lookup(const NibbleTables& tables,
                                                            const std::uint8_t* rows,
                                                            const std::uint8_t* columns,
                                                            std::size_t n_nibbles, HalfSums* sums) {
  constexpr std::size_t kRows = 4;
  __m256i count[kRows][2] = {};
#pragma GCC unroll 2
  for (std::size_t g = 0; g < n_nibbles; ++g) {
    const auto* column = reinterpret_cast<const __m256i*>(columns + g * kLookupTile);
    const __m256i first = _mm256_load_si256(column), second = _mm256_load_si256(column + 1);
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto* table =
          reinterpret_cast<const __m128i*>(tables.both[0] + rows[g * kLookupTile + r]);
      const __m256i both = _mm256_broadcastsi128_si256(_mm_load_si128(table));
      count[r][0] = _mm256_add_epi8(count[r][0], _mm256_shuffle_epi8(both, first));
      count[r][1] = _mm256_add_epi8(count[r][1], _mm256_shuffle_epi8(both, second));
    }
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < 2; ++v) {
      auto* sum = reinterpret_cast<__m256i*>(sums[r] + 32 * v);
      const __m256i even = _mm256_and_si256(count[r][v], _mm256_set1_epi16(0xFF));
      const __m256i odd = _mm256_srli_epi16(count[r][v], 8);
      _mm256_store_si256(sum, _mm256_add_epi16(_mm256_load_si256(sum), even));
      _mm256_store_si256(sum + 1, _mm256_add_epi16(_mm256_load_si256(sum + 1), odd));
    }
}

// sums (64, 64) += counts of n_blocks blocks.  left, right (n_blocks, 64) uint32
__attribute__((target("avx2"))) static void add_tile_lookup(const std::uint32_t* left,
                                                            const std::uint32_t* right,
                                                            std::size_t n_blocks,
                                                            std::int32_t* sums) {
  static constexpr NibbleTables tables = nibble_tables();
  alignas(64) std::uint8_t rows[kNibbles * kLookupTile], columns[kNibbles * kLookupTile];
  alignas(64) HalfSums half[kLookupTile];
  for (std::size_t first = 0; first < n_blocks; first += kHalfBlocks) {
    const std::size_t end = least(first + kHalfBlocks, n_blocks);
    std::memset(half, 0, sizeof half);
    for (std::size_t b = first; b < end; b += kLookupBlocks) {
      const std::size_t used = least(kLookupBlocks, end - b);
      split_nibbles<true>(left + b * kLookupTile, used, rows);
      split_nibbles<false>(right + b * kLookupTile, used, columns);
      for (std::size_t i = 0; i < kLookupTile; i += 4)
        add_rows_lookup(tables, rows + i, columns, 8 * used, half + i);
    }
    for (std::size_t i = 0; i < kLookupTile; ++i)
      for (std::size_t j = 0; j < kLookupTile; ++j)
        sums[i * kLookupTile + j] += half[i][j / 32 * 32 + j % 2 * 16 + j % 32 / 2];
  }
}

#endif  // PYATTR_LOOKUP

}  // namespace pyattr

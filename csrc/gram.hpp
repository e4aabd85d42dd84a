// Counts of co-occurrence: masks transposed @ masks, exact, from packed bits.
//
//   turn_masks  packed (n_masks, row_bytes) -> turned (n_tiles, n_blocks, 64) uint32
//   gram        turned -> out (n_train, n_train) int32, out[i, j] += #{rows with bits i and j set}
//   first_gram  the same with = instead of +=, for an output that was not zeroed
//
// Layout of `turned`: n_tiles = ceil(n_train / 64), n_blocks = 8 ceil(n_masks / 256). Bit r of
// turned[t, b, f] is bit 64 t + f of mask 32 b + r; past the last mask and example the bits are 0.
// A tile's blocks lie one after the other, so that the inner loops read memory in order.
//
// Method.  A 64 x 64 tile of counts is sum over b of popcount(turned[I, b, i] & turned[J, b, j]),
// the word of i broadcast against a vector of j. Three kernels, chosen at run time:
//   kHarleySeal  carry-save adders take 8 words to one of weight 8 before bits are counted
//                (any 128-bit unit; plain C++ vectors, no intrinsics);
//   kLookup      AVX2 shuffles look up the counts of 4 masks for 32 pairs (gram_lookup.hpp);
//   kVpopcnt     AVX-512 VPOPCNTDQ counts 16 words an instruction.
// Only tiles I <= J are computed; both (I, J) and (J, I) are written.
//
// Accumulator.  Integers: exact and independent of order, thread count and instruction set.
// Counts are at most the number of masks summed into `out`, which callers keep below 2^31; inside a
// panel of kPanelBlocks blocks a byte holds at most 64 (Harley-Seal's eights) or 56 (the rest).
//
// Reference: Mula, Kurz, Lemire, "Faster population counts using AVX2 instructions", 2018.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bit_blocks.hpp"
#include "gram_lookup.hpp"
#include "packed_mask.hpp"
#include "ranges.hpp"
#include "simd.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#include <emmintrin.h>
#define PYATTR_STREAM 1
#if !defined(PYATTR_NO_CLONES) && !defined(PYATTR_AVX2)
#define PYATTR_VPOPCNT 1
#include <immintrin.h>
#endif
#endif

namespace pyattr {

constexpr std::size_t kGramTile = 64;
constexpr std::size_t kBlockGroup = 8;    // blocks that one carry-save tree takes
constexpr std::size_t kPanelBlocks = 64;  // 2 x 16 KB of a panel stay in L1
constexpr std::size_t kTileGroup = 4;     // 4 x 64 KB of tiles stay in L2 (at 8,000 masks)

enum class GramKernel : int { kHarleySeal, kLookup, kVpopcnt };

constexpr std::size_t gram_tiles(std::size_t n_train) {
  return (n_train + kGramTile - 1) / kGramTile;
}
constexpr std::size_t gram_blocks(std::size_t n_masks) {
  return (n_masks + 32 * kBlockGroup - 1) / (32 * kBlockGroup) * kBlockGroup;
}

#if !defined(__CUDACC__)

inline GramKernel fastest_gram_kernel() {
#if defined(PYATTR_VPOPCNT)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"))
    return GramKernel::kVpopcnt;
#endif
#if defined(PYATTR_LOOKUP)
  if (__builtin_cpu_supports("avx2")) return GramKernel::kLookup;
#endif
  return GramKernel::kHarleySeal;
}

// Whether to write turned tiles past the caches. All threads read all tiles, so a line that is
// written anew lies in the other core's cache too, and where the cores have no cache in common to
// take it back takes three times as long as the turning. More than a cache holds is not kept there
// anyway.
inline bool past_caches(Range tiles, std::size_t n_tiles, std::size_t tile_words) {
  constexpr std::size_t kCachedWords = std::size_t{1} << 19;
  return tiles.end - tiles.begin < n_tiles || n_tiles * tile_words > kCachedWords;
}

// 128 words of one tile: the low halves of 64 words, then the high ones.
PYATTR_INLINE void put_halves(const WordLanes* rows, std::size_t lane, std::uint32_t* out) {
  for (std::size_t f = 0; f < kGramTile; ++f) {
    const std::uint64_t word = rows[f][lane];
    out[f] = static_cast<std::uint32_t>(word);
    out[kGramTile + f] = static_cast<std::uint32_t>(word >> 32);
  }
}

#if defined(PYATTR_STREAM)
// The same past the caches, for `out` at a multiple of 64 bytes.
PYATTR_INLINE void stream_halves(const WordLanes* rows, std::size_t lane, std::uint32_t* out) {
  alignas(64) std::uint32_t words[2 * kGramTile];
  put_halves(rows, lane, words);
  for (std::size_t f = 0; f < 2 * kGramTile; f += 4)
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + f),
                     _mm_load_si128(reinterpret_cast<const __m128i*>(words + f)));
}
#endif

// Tiles tiles.begin .. tiles.end - 1 of `turned`.
PYATTR_CLONES
static void turn_masks(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                       Range tiles, std::uint32_t* turned) {
  const std::size_t row_bytes = row_bytes_of(n_train), n_blocks = gram_blocks(n_masks);
#if defined(PYATTR_STREAM)
  const bool stream = past_caches(tiles, gram_tiles(n_train), n_blocks * kGramTile) &&
                      reinterpret_cast<std::uintptr_t>(turned) % 64 == 0;
#endif
  WordLanes rows[64];
  for (std::size_t row = 0; row < 32 * n_blocks; row += 64)
    for (std::size_t tile = tiles.begin; tile < tiles.end; tile += 8) {
      const std::size_t used = least(8, tiles.end - tile);
      for (std::size_t r = 0; r < 64; ++r) {
        WordLanes words{};
        if (row + r < n_masks)
          std::memcpy(&words, packed + (row + r) * row_bytes + 8 * tile, 8 * used);
        rows[r] = words;
      }
      transpose_blocks(rows);
      for (std::size_t lane = 0; lane < used; ++lane) {
        std::uint32_t* out = turned + ((tile + lane) * n_blocks + row / 32) * kGramTile;
#if defined(PYATTR_STREAM)
        if (stream) {
          stream_halves(rows, lane, out);
          continue;
        }
#endif
        put_halves(rows, lane, out);
      }
    }
#if defined(PYATTR_STREAM)
  if (stream) _mm_sfence();  // before another thread is told that they are there
#endif
}

// -- one panel of one tile: sums (64, 64) += counts of n_blocks blocks, a multiple of 8 -----------
//   left, right (n_blocks, 64) uint32; n_blocks <= kPanelBlocks

typedef std::uint32_t BitLanes __attribute__((vector_size(32)));

// Block k's bits of one example, ANDed with those of a vector of others.
PYATTR_INLINE BitLanes both(const std::uint32_t* row, const std::uint32_t* column, std::size_t k) {
  BitLanes words;
  std::memcpy(&words, column + k * kGramTile, sizeof words);
  return words & row[k * kGramTile];
}

// x, y, z of weight w -> sum of weight w (returned in x), carry of weight 2 w.
PYATTR_INLINE BitLanes carry_save(BitLanes& x, BitLanes y, BitLanes z) {
  const BitLanes half = x ^ y, carry = (x & y) | (half & z);
  x = half ^ z;
  return carry;
}

// Bits of each byte, counted.
PYATTR_INLINE BitLanes byte_counts(BitLanes x) {
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return (x + (x >> 4)) & 0x0F0F0F0Fu;
}

// Sum of each word's four bytes.
PYATTR_INLINE BitLanes sum_bytes(BitLanes x) {
  x = (x & 0x00FF00FFu) + (x >> 8 & 0x00FF00FFu);
  return (x & 0xFFFFu) + (x >> 16);
}

PYATTR_CLONES
static void add_panel_harley_seal(const std::uint32_t* left, const std::uint32_t* right,
                                  std::size_t n_blocks, std::int32_t* sums) {
  constexpr std::size_t kLanes = sizeof(BitLanes) / 4;
  for (std::size_t j = 0; j < kGramTile; j += kLanes)
    for (std::size_t i = 0; i < kGramTile; ++i) {
      BitLanes ones{}, twos{}, fours{}, eights{};
      for (std::size_t b = 0; b < n_blocks; b += kBlockGroup) {
        const std::uint32_t* const row = left + b * kGramTile + i;
        const std::uint32_t* const column = right + b * kGramTile + j;
        const BitLanes two_a = carry_save(ones, both(row, column, 0), both(row, column, 1));
        const BitLanes two_b = carry_save(ones, both(row, column, 2), both(row, column, 3));
        const BitLanes four_a = carry_save(twos, two_a, two_b);
        const BitLanes two_c = carry_save(ones, both(row, column, 4), both(row, column, 5));
        const BitLanes two_d = carry_save(ones, both(row, column, 6), both(row, column, 7));
        const BitLanes four_b = carry_save(twos, two_c, two_d);
        eights += byte_counts(carry_save(fours, four_a, four_b));
      }
      const BitLanes rest =
          byte_counts(ones) + (byte_counts(twos) << 1) + (byte_counts(fours) << 2);
      BitLanes total;
      std::memcpy(&total, sums + i * kGramTile + j, sizeof total);
      total += (sum_bytes(eights) << 3) + sum_bytes(rest);
      std::memcpy(sums + i * kGramTile + j, &total, sizeof total);
    }
}

#if defined(PYATTR_VPOPCNT)
__attribute__((target("avx512f,avx512vpopcntdq"))) static void add_panel_vpopcnt(
    const std::uint32_t* left, const std::uint32_t* right, std::size_t n_blocks,
    std::int32_t* sums) {
  constexpr int kRows = 4, kVectors = kGramTile / 16;
  for (std::size_t i = 0; i < kGramTile; i += kRows) {
    __m512i sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = _mm512_loadu_si512(sums + (i + r) * kGramTile + 16 * v);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      __m512i word[kVectors];
      for (int v = 0; v < kVectors; ++v)
        word[v] = _mm512_loadu_si512(right + b * kGramTile + 16 * v);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m512i row = _mm512_set1_epi32(static_cast<int>(left[b * kGramTile + i + r]));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
          sum[r][v] =
              _mm512_add_epi32(sum[r][v], _mm512_popcnt_epi32(_mm512_and_si512(row, word[v])));
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v)
        _mm512_storeu_si512(sums + (i + r) * kGramTile + 16 * v, sum[r][v]);
  }
}
#endif

// sums (64, 64) += the counts of one tile.  left, right (n_blocks, 64) uint32
inline void add_tile(GramKernel kernel, const std::uint32_t* left, const std::uint32_t* right,
                     std::size_t n_blocks, std::int32_t* sums) {
#if defined(PYATTR_LOOKUP)
  if (kernel == GramKernel::kLookup) return add_tile_lookup(left, right, n_blocks, sums);
#endif
  for (std::size_t b = 0; b < n_blocks; b += kPanelBlocks) {
    const std::size_t used = least(kPanelBlocks, n_blocks - b), at = b * kGramTile;
#if defined(PYATTR_VPOPCNT)
    if (kernel == GramKernel::kVpopcnt) {
      add_panel_vpopcnt(left + at, right + at, used, sums);
      continue;
    }
#endif
    add_panel_harley_seal(left + at, right + at, used, sums);
  }
}

// One tile (left, right) and its mirror image, added to `out` or put there.  sums: scratch (64,
// 64).
template <bool kAdd>
inline void put_gram_tile(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                          std::size_t left, std::size_t right, GramKernel kernel,
                          std::int32_t* sums, std::int32_t* out) {
  const std::size_t tile_words = n_blocks * kGramTile;
  const std::size_t n_rows = least(kGramTile, n_train - left * kGramTile);
  const std::size_t n_cols = least(kGramTile, n_train - right * kGramTile);
  std::int32_t* const upper = out + left * kGramTile * n_train + right * kGramTile;
  std::int32_t* const lower = out + right * kGramTile * n_train + left * kGramTile;
  std::memset(sums, 0, kGramTile * kGramTile * sizeof(std::int32_t));
  add_tile(kernel, turned + left * tile_words, turned + right * tile_words, n_blocks, sums);
  const auto put = [](std::int32_t& count, std::int32_t sum) { count = kAdd ? count + sum : sum; };
  for (std::size_t i = 0; i < n_rows; ++i)
    for (std::size_t j = 0; j < n_cols; ++j) put(upper[i * n_train + j], sums[i * kGramTile + j]);
  if (left == right) return;
  for (std::size_t j = 0; j < n_cols; ++j)
    for (std::size_t i = 0; i < n_rows; ++i) put(lower[j * n_train + i], sums[i * kGramTile + j]);
}

// out (n_train, n_train) += counts (kAdd), or = counts, for the tiles (I, J) with tiles.begin <= I
// < tiles.end, I <= J, and their mirror images. kTileGroup values of I share each tile J while it
// is in cache, and the memory pages of its mirror images.
template <bool kAdd>
void gram_tiles_of(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                   Range tiles, GramKernel kernel, std::int32_t* out) {
  const std::size_t n_tiles = gram_tiles(n_train);
  Scratch<std::int32_t> sums(kGramTile * kGramTile);
  for (std::size_t first = tiles.begin; first < tiles.end; first += kTileGroup) {
    const std::size_t end = least(first + kTileGroup, tiles.end);
    for (std::size_t right = first; right < n_tiles; ++right)
      for (std::size_t left = first; left < end && left <= right; ++left)
        put_gram_tile<kAdd>(turned, n_blocks, n_train, left, right, kernel, sums.get(), out);
  }
}

inline void gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                 Range tiles, GramKernel kernel, std::int32_t* out) {
  gram_tiles_of<true>(turned, n_blocks, n_train, tiles, kernel, out);
}

// The same where `out` holds nothing yet.
inline void first_gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                       Range tiles, GramKernel kernel, std::int32_t* out) {
  gram_tiles_of<false>(turned, n_blocks, n_train, tiles, kernel, out);
}

#endif  // !__CUDACC__

}  // namespace pyattr

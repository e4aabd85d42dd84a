// Products of packed masks with float32, by table look-up, in the order of packed_matmul.hpp: the
// bits are those of the CPU's add_panel.
//
// A block has 128 outputs and 32 targets, a warp 16 outputs, a lane one target. For each 64
// summands the block's threads make the tables of subset sums of the CPU, in two halves that fit
// shared memory; an output then reads one entry for 5 summands: 13 reads and additions in place
// of 64. A warp reads 32 neighbouring entries, so no two of them in one bank.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gram.hpp"
#include "ranges.hpp"
#include "subset_sums.hpp"
#include "thread_block.cuh"

namespace pyattr {
namespace cuda {

// Bits 64 w .. 64 w + 63 of output q: of a mask, or of an example of turned masks.
struct PackedWords {
  const std::uint64_t* packed;  // (n_masks, n_words)
  std::size_t n_words;

  PYATTR_HD std::uint64_t operator()(std::size_t q, std::size_t w) const {
    return packed[q * n_words + w];
  }
};
struct TurnedWords {
  const std::uint32_t* turned;  // (n_tiles, n_blocks, 64)
  std::size_t n_blocks;

  PYATTR_HD std::uint64_t operator()(std::size_t q, std::size_t w) const {
    const std::uint32_t* const at =
        turned + (q / kGramTile * n_blocks + 2 * w) * kGramTile + q % kGramTile;
    return at[0] | static_cast<std::uint64_t>(at[kGramTile]) << 32;
  }
};

template <typename Words, typename Out>
struct ProductBlock {
  static constexpr int kThreads = 256, kBlocksPerProcessor = 2;
  static constexpr int kRows = 16, kHalf = 7;  // outputs of a warp; chunks of the first half
  static constexpr std::size_t kOutputs = kThreads / kWarp * kRows;
  struct Shared {
    float table[kHalf][kEntries][kWarp];
    std::uint64_t bits[kOutputs];
  };
  struct Sums {
    float partial[kRows];
    double total[kRows];
  };

  Words words;
  std::size_t n_outputs;
  const float* summands;  // (n_summands, n_targets)
  std::size_t n_summands, n_targets, first_target, n_cols;
  Out* out;  // (n_outputs, n_cols)

  std::size_t size() const {
    return (n_outputs + kOutputs - 1) / kOutputs * ((n_cols + kWarp - 1) / kWarp);
  }

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t n_tiles = (n_cols + kWarp - 1) / kWarp, n_words = (n_summands + 63) / 64;
    const std::size_t column = index % n_tiles * kWarp + block.thread % kWarp;
    const std::size_t first = index / n_tiles * kOutputs;
    Sums sums;
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums.total[r] = 0.0;
    for (std::size_t panel = 0; panel < n_words; panel += kPanelWords) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums.partial[r] = 0.0f;
      for (std::size_t w = panel; w < least(panel + kPanelWords, n_words); ++w) {
        if (block.thread < static_cast<int>(kOutputs)) {
          const std::size_t q = first + block.thread;
          shared.bits[block.thread] = q < n_outputs ? words(q, w) : 0;
        }
        add<0, kHalf>(block, shared, w, column, sums);
        add<kHalf, kChunks - kHalf>(block, shared, w, column, sums);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums.total[r] += static_cast<double>(sums.partial[r]);
    }
    if (column >= n_cols) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const std::size_t q = first + block.thread / kWarp * kRows + r;
      if (q < n_outputs) out[q * n_cols + column] = static_cast<Out>(sums.total[r]);
    }
  }

 private:
  // partial += the chunks kFirst .. kFirst + kCount - 1 of word w.
  template <int kFirst, int kCount>
  PYATTR_DEVICE void add(const ThreadBlock<kThreads>& block, Shared& shared, std::size_t w,
                         std::size_t column, Sums& sums) const {
    const int lane = block.thread % kWarp, warp = block.thread / kWarp;
    if (warp < kCount) build(shared.table[warp], w, kFirst + warp, column, lane);
    block.sync();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const std::uint64_t bits = shared.bits[warp * kRows + r];
#pragma unroll
      for (int c = 0; c < kCount; ++c)
        sums.partial[r] +=
            shared.table[c][bits >> ((kFirst + c) * kChunkBits) & (kEntries - 1)][lane];
    }
    block.sync();
  }

  // Subset sums of one chunk for a target: build_tables of subset_sums.hpp.
  PYATTR_DEVICE void build(float (*table)[kWarp], std::size_t w, int chunk, std::size_t column,
                           int lane) const {
    float entry[kEntries];
    entry[0] = 0.0f;
#pragma unroll
    for (int bit = 0; bit < kChunkBits; ++bit) {
      const std::size_t place = static_cast<std::size_t>(chunk * kChunkBits + bit);
      const std::size_t i = 64 * w + place;
      const bool there = place < 64 && i < n_summands && column < n_cols;
      const float value = there ? summands[i * n_targets + first_target + column] : 0.0f;
#pragma unroll
      for (int e = 0; e < kEntries / 2; ++e)  // a constant bound, or `entry` would not be registers
        if (e < 1 << bit) entry[(1 << bit) + e] = entry[e] + value;
    }
#pragma unroll
    for (int e = 0; e < kEntries; ++e) table[e][lane] = entry[e];
  }
};

}  // namespace cuda
}  // namespace pyattr

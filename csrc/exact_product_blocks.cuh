// Masks transposed @ whole numbers on int8 tensor cores; see exact_blocks.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_check.cuh"
#include "exact_blocks.cuh"

namespace pyattr {
namespace cuda {

constexpr std::size_t kSliceTargets = 32;  // a tile of targets
constexpr std::size_t kSliceWords = kSlices * 8;

constexpr std::size_t slice_tiles(std::size_t n_cols) {
  return (n_cols + kSliceTargets - 1) / kSliceTargets;
}

// Words of sliced values: sliced (n_blocks, n_tiles, 32 targets, 3 slices, 4 places, 2): slots
// `place` and `place + 4` of B for 32 masks and one target.
struct SliceElement {
  const std::int32_t* values;  // (n_masks, n_targets)
  std::size_t n_masks, n_targets, first_target, n_cols;
  std::uint32_t* sliced;

  PYATTR_HD void operator()(std::size_t index) const {
    const std::size_t t = index % kSliceTargets, p = index / kSliceTargets % 8;
    const std::size_t rest = index / kSliceTargets / 8, n_tiles = slice_tiles(n_cols);
    const std::size_t block = rest / n_tiles, column = rest % n_tiles * kSliceTargets + t;
    const int slot = static_cast<int>(p / 2 + p % 2 * 4);
    std::uint32_t word[kSlices] = {};
    for (int i = 0; i < 4; ++i) {
      const std::size_t row = 32 * block + static_cast<std::size_t>(mask_of_slot(slot, i));
      if (row >= n_masks || column >= n_cols) continue;
      const std::int32_t value = values[row * n_targets + first_target + column];
      for (int s = 0; s < kSlices; ++s)
        word[s] |= static_cast<std::uint32_t>(slice_of(value, s) & 255) << (8 * i);
    }
    for (int s = 0; s < kSlices; ++s)
      sliced[(rest * kSliceTargets + t) * kSliceWords + static_cast<std::size_t>(s) * 8 + p] =
          word[s];
  }
};

// out += masks transposed @ values for 128 examples and 32 targets; warp (x, y) has 64 x 16.
struct ExactProductBlock {
  static constexpr int kThreads = 128, kBlocksPerProcessor = 2;
  static constexpr std::size_t kStageBlocks = 4;
  struct Shared {
    alignas(16) std::uint32_t tile[kStages][2][kStageBlocks][kGramTile];
    alignas(16) std::uint32_t sliced[kStages][kStageBlocks][kSliceTargets * kSliceWords];
  };
  struct Sums {
    MmaC at[4][2][kSlices];
  };

  const std::uint32_t* turned;  // (n_tiles, n_blocks, 64), 16-byte aligned
  const std::uint32_t* sliced;  // SliceElement's, of as many blocks
  std::size_t n_blocks, n_features, n_cols, n_parts;
  std::int64_t* out;  // (n_features, stride)
  std::size_t stride;

  std::size_t size() const {
    return (gram_tiles(n_features) + 1) / 2 * slice_tiles(n_cols) * n_parts;
  }

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t n_tiles = slice_tiles(n_cols), part = index % n_parts;
    const std::size_t target_tile = index / n_parts % n_tiles;
    const std::size_t first_tile = index / n_parts / n_tiles * 2;
    const std::size_t n_stages = n_blocks / kStageBlocks;
    const std::size_t begin = n_stages * part / n_parts, end = n_stages * (part + 1) / n_parts;
    Sums sums;
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int q = 0; q < 2; ++q)
#pragma unroll
        for (int s = 0; s < kSlices; ++s) sums.at[t][q][s] = MmaC{{0, 0, 0, 0}};
    for (std::size_t s = 0; s + 1 < kStages; ++s)
      load(block, shared, first_tile, target_tile, begin + s, end, s);
    for (std::size_t s = begin; s < end; ++s) {
      block.template wait<kStages - 2>();
      block.sync();
      load(block, shared, first_tile, target_tile, s + kStages - 1, end,
           (s - begin + kStages - 1) % kStages);
      multiply(block, shared, (s - begin) % kStages, sums);
    }
    store(block, first_tile, target_tile, sums);
  }

 private:
  PYATTR_DEVICE void load(const ThreadBlock<kThreads>& block, Shared& shared,
                          std::size_t first_tile, std::size_t target_tile, std::size_t s,
                          std::size_t end, std::size_t slot) const {
    constexpr std::size_t kPieces = kSliceTargets * kSliceWords / 4;  // of 16 bytes, a block
    if (s < end) {
      for (std::size_t piece = static_cast<std::size_t>(block.thread);
           piece < 2 * kStageBlocks * 16; piece += kThreads) {
        const std::size_t half = piece / (kStageBlocks * 16), at = piece % (kStageBlocks * 16) * 4;
        std::uint32_t* const to = shared.tile[slot][half][0] + at;
        if (first_tile + half < gram_tiles(n_features))
          block.copy4(
              to, turned + ((first_tile + half) * n_blocks + s * kStageBlocks) * kGramTile + at);
        else
          *reinterpret_cast<Words4*>(to) = Words4{{0, 0, 0, 0}};
      }
      for (std::size_t piece = static_cast<std::size_t>(block.thread);
           piece < kStageBlocks * kPieces; piece += kThreads) {
        const std::size_t k = piece / kPieces, at = piece % kPieces * 4;
        const std::size_t tile = (s * kStageBlocks + k) * slice_tiles(n_cols) + target_tile;
        block.copy4(shared.sliced[slot][k] + at, sliced + tile * kSliceTargets * kSliceWords + at);
      }
    }
    block.end_group();
  }

  PYATTR_DEVICE void multiply(const ThreadBlock<kThreads>& block, const Shared& shared,
                              std::size_t slot, Sums& sums) const {
    const int lane = block.thread % kWarp, warp = block.thread / kWarp;
    for (std::size_t k = 0; k < kStageBlocks; ++k) {
      RowWords words;
      words.load(shared.tile[slot][warp / 2][k], lane);
      MmaA a[4];
#pragma unroll
      for (int t = 0; t < 4; ++t) a[t] = operand_a(words[2 * t], words[2 * t + 1], lane);
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const int target = warp % 2 * 16 + 8 * q + lane / 4;
#pragma unroll
        for (int s = 0; s < kSlices; ++s) {
          const Words2 both = *reinterpret_cast<const Words2*>(
              shared.sliced[slot][k] + target * kSliceWords + s * 8 + lane % 4 * 2);
          const MmaB b{{both.word[0], both.word[1]}};
#pragma unroll
          for (int t = 0; t < 4; ++t) block.multiply(sums.at[t][q][s], a[t], b);
        }
      }
    }
  }

  PYATTR_DEVICE void store(const ThreadBlock<kThreads>& block, std::size_t first_tile,
                           std::size_t target_tile, const Sums& sums) const {
    const int lane = block.thread % kWarp, warp = block.thread / kWarp;
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int q = 0; q < 2; ++q)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const Entry at = entry_of_c(lane, e);
          const std::size_t i =
              (first_tile + warp / 2) * kGramTile + example_of(2 * t + at.row / 8, at.row % 8);
          const std::size_t target =
              target_tile * kSliceTargets + warp % 2 * 16 + 8 * q + at.column;
          if (i >= n_features || target >= n_cols) continue;
          const MmaC* const slices = sums.at[t][q];
          block.add(out + i * stride + target,
                    join_slices(slices[0].sum[e], slices[1].sum[e], slices[2].sum[e]));
        }
  }
};

// out (n_features, stride) += masks transposed @ values of n_cols targets.  packed_matmul.cu
void launch_exact_product(const std::uint32_t* turned, const std::uint32_t* sliced,
                          std::size_t n_blocks, std::size_t n_features, std::size_t n_cols,
                          std::int64_t* out, std::size_t stride, Stream stream = {});

}  // namespace cuda
}  // namespace pyattr

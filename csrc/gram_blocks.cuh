// Counts of pairs of examples (gram.hpp) on int8 tensor cores; see exact_blocks.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_check.cuh"
#include "exact_blocks.cuh"

namespace pyattr {
namespace cuda {

// The first tile of 64 of a pair of tiles of 128, and the part of the masks.
struct GramPlace {
  std::size_t left, right, part;
};

// Pairs of tiles are numbered 16 values of `left` at a time, so that blocks that run together share
// tiles in cache.
PYATTR_HD GramPlace gram_place(std::size_t index, std::size_t first_tile, std::size_t n_tiles,
                               std::size_t n_parts) {
  constexpr std::size_t kGroup = 16;
  const std::size_t n_pairs = (n_tiles + 1) / 2, pair = index / n_parts;
  const std::size_t in_group = pair % (kGroup * n_pairs);
  const std::size_t left = first_tile / 2 + pair / (kGroup * n_pairs) * kGroup + in_group % kGroup;
  return {2 * left, 2 * (in_group / kGroup), index % n_parts};
}

PYATTR_HD std::size_t gram_places(std::size_t first_tile, std::size_t end_tile, std::size_t n_tiles,
                                  std::size_t n_parts) {
  const std::size_t n_left = (end_tile + 1) / 2 - first_tile / 2;
  return (n_left + 15) / 16 * 16 * ((n_tiles + 1) / 2) * n_parts;
}

// out += counts of 128 x 128 pairs of examples and their mirror images; warp (x, y) has 64 x 64.
struct GramBlock {
  static constexpr int kThreads = 128, kBlocksPerProcessor = 2;
  static constexpr std::size_t kStageBlocks = kBlockGroup;
  struct Shared {
    alignas(
        16) std::uint32_t tile[kStages][4][kStageBlocks][kGramTile];  // left, left, right, right
  };
  struct Sums {
    MmaC at[4][8];
  };

  const std::uint32_t* turned;  // (n_tiles, n_blocks, 64), 16-byte aligned
  std::size_t n_blocks, n_train, first_tile, end_tile, n_parts;
  std::int32_t* out;  // (n_train, n_train)

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const GramPlace place = gram_place(index, first_tile, gram_tiles(n_train), n_parts);
    if (place.right < place.left || place.left >= end_tile) return;
    const std::size_t n_stages = n_blocks / kStageBlocks;
    const std::size_t begin = n_stages * place.part / n_parts;
    const std::size_t end = n_stages * (place.part + 1) / n_parts;
    Sums sums;
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int u = 0; u < 8; ++u) sums.at[t][u] = MmaC{{0, 0, 0, 0}};
    for (std::size_t s = 0; s + 1 < kStages; ++s) load(block, shared, place, begin + s, end, s);
    for (std::size_t s = begin; s < end; ++s) {
      block.template wait<kStages - 2>();
      block.sync();
      load(block, shared, place, s + kStages - 1, end, (s - begin + kStages - 1) % kStages);
      multiply(block, shared.tile[(s - begin) % kStages], sums);
    }
    store(block, place, sums);
  }

 private:
  // Stage s of four tiles, 128 times 16 bytes each, into a slot; always one group of copies.
  PYATTR_DEVICE void load(const ThreadBlock<kThreads>& block, Shared& shared,
                          const GramPlace& place, std::size_t s, std::size_t end,
                          std::size_t slot) const {
    if (s < end) {
      const std::size_t n_tiles = gram_tiles(n_train);
      for (int k = 0; k < 4; ++k) {
        const std::size_t tile = (k < 2 ? place.left : place.right) + k % 2;
        std::uint32_t* const to = shared.tile[slot][k][0] + 4 * block.thread;
        if (tile < n_tiles)
          block.copy4(to,
                      turned + (tile * n_blocks + s * kStageBlocks) * kGramTile + 4 * block.thread);
        else
          *reinterpret_cast<Words4*>(to) = Words4{{0, 0, 0, 0}};
      }
    }
    block.end_group();
  }

  PYATTR_DEVICE void multiply(const ThreadBlock<kThreads>& block,
                              const std::uint32_t (*tile)[kStageBlocks][kGramTile],
                              Sums& sums) const {
    const int lane = block.thread % kWarp, warp = block.thread / kWarp;
    for (std::size_t k = 0; k < kStageBlocks; ++k) {
      RowWords left, right;
      left.load(tile[warp / 2][k], lane);
      right.load(tile[2 + warp % 2][k], lane);
      MmaB b[8];
#pragma unroll
      for (int u = 0; u < 8; ++u) b[u] = operand_b(right[u], lane);
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const MmaA a = operand_a(left[2 * t], left[2 * t + 1], lane);
#pragma unroll
        for (int u = 0; u < 8; ++u) block.multiply(sums.at[t][u], a, b[u]);
      }
    }
  }

  PYATTR_DEVICE void store(const ThreadBlock<kThreads>& block, const GramPlace& place,
                           const Sums& sums) const {
    const int lane = block.thread % kWarp, warp = block.thread / kWarp;
    const std::size_t left = place.left + warp / 2, right = place.right + warp % 2;
    if (left < first_tile || left >= end_tile || right < left) return;
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int u = 0; u < 8; ++u)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const Entry at = entry_of_c(lane, e);
          const std::size_t i = left * kGramTile + example_of(2 * t + at.row / 8, at.row % 8);
          const std::size_t j = right * kGramTile + example_of(u, at.column);
          if (i >= n_train || j >= n_train) continue;
          block.add(out + i * n_train + j, sums.at[t][u].sum[e]);
          if (left != right) block.add(out + j * n_train + i, sums.at[t][u].sum[e]);
        }
  }
};

// Tiles of packed masks, turned: (n_tiles, n_blocks, 64).  gram.cu
DeviceBuffer<std::uint32_t> turned_masks(const std::uint8_t* packed, std::size_t n_masks,
                                         std::size_t n_train, Range tiles);

// out += the counts of tiles I <= J with I in `tiles`, and their mirror images.  gram.cu
void launch_gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                 Range tiles, std::int32_t* out, Stream stream = {});

}  // namespace cuda
}  // namespace pyattr

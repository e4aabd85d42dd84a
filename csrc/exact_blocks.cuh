// Exact sums over masks on int8 tensor cores: counts (gram.hpp) and products with whole numbers.
//
// Bits stay packed, 32 masks a word (turn_masks), until a lane makes four of them bytes in a
// register: memory and shared memory move an eighth of what int8 tiles would. Sums are int32 inside
// a part of at most kPartMasks masks and are added to the output by integer atomics: exact, and the
// same for every order and number of parts. Values are three signed bytes (slice_of), so a sum of
// kPartMasks of them stays below 2^30.
//
// Copies run kStages - 1 stages ahead of the products; a slot is filled again only after all
// threads have passed the sync() that follows its last use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gram.hpp"
#include "thread_block.cuh"

namespace pyattr {
namespace cuda {

constexpr int kStages = 3;
constexpr std::size_t kPartMasks = std::size_t{1} << 23;
constexpr std::size_t kPartBlocks = kPartMasks / 32;

// Words of four row groups of a tile (64,), starting with row group 4 q: entry g of each.
PYATTR_DEVICE Words4 four_row_groups(const std::uint32_t* tile, int q, int lane) {
  return *reinterpret_cast<const Words4*>(tile + example_of(4 * q, lane / 4));
}

// The word of a tile that a thread keeps for row group r.
struct RowWords {
  Words4 four[2];
  PYATTR_DEVICE void load(const std::uint32_t* tile, int lane) {
    four[0] = four_row_groups(tile, 0, lane);
    four[1] = four_row_groups(tile, 1, lane);
  }
  PYATTR_DEVICE std::uint32_t operator[](int r) const { return four[r / 4].word[r % 4]; }
};

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

// -- masks transposed @ values

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

// How many parts to cut the masks into: enough blocks for every processor, and short enough parts.
inline std::size_t n_parts_of(std::size_t n_blocks, std::size_t stage_blocks,
                              std::size_t n_thread_blocks) {
  constexpr std::size_t kEnough = 528, kLeastStages = 16;  // 4 blocks for each of 132 processors
  const std::size_t needed = (n_blocks + kPartBlocks - 1) / kPartBlocks;
  const std::size_t wanted = kEnough / (n_thread_blocks ? n_thread_blocks : 1) + 1;
  const std::size_t most = n_blocks / stage_blocks / kLeastStages + 1;
  const std::size_t parts = wanted < most ? wanted : most;
  return parts > needed ? parts : needed;
}

// Tiles of packed masks, turned: (n_tiles, n_blocks, 64).  gram.cu
DeviceBuffer<std::uint32_t> turned_masks(const std::uint8_t* packed, std::size_t n_masks,
                                         std::size_t n_train, Range tiles);

// out += the counts of tiles I <= J with I in `tiles`, and their mirror images.  gram.cu
void launch_gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                 Range tiles, std::int32_t* out, Stream stream = {});

// out (n_features, stride) += masks transposed @ values of n_cols targets.  packed_matmul.cu
void launch_exact_product(const std::uint32_t* turned, const std::uint32_t* sliced,
                          std::size_t n_blocks, std::size_t n_features, std::size_t n_cols,
                          std::int64_t* out, std::size_t stride, Stream stream = {});

}  // namespace cuda
}  // namespace pyattr

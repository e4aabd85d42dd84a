// What exact sums over masks on int8 tensor cores have in common: counts (gram_blocks.cuh) and
// products with whole numbers (exact_product_blocks.cuh).
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

}  // namespace cuda
}  // namespace pyattr

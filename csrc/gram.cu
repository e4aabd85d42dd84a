// Launches of gram.hpp.
#include <vector>

#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "device_kernels.hpp"
#include "elements.hpp"
#include "gram_blocks.cuh"

namespace pyattr {
namespace cuda {

void launch_gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train,
                 Range tiles, std::int32_t* out, Stream stream) {
  if (tiles.begin >= tiles.end || n_blocks == 0) return;
  const std::size_t n_pairs = gram_places(tiles.begin, tiles.end, gram_tiles(n_train), 1);
  const std::size_t n_parts = n_parts_of(n_blocks, GramBlock::kStageBlocks, n_pairs);
  launch_blocks(n_pairs * n_parts,
                GramBlock{turned, n_blocks, n_train, tiles.begin, tiles.end, n_parts, out}, stream);
}

void turn_masks(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train, Range tiles,
                std::uint32_t* turned) {
  const std::size_t tile_words = gram_blocks(n_masks) * kGramTile;
  const DeviceBuffer<std::uint8_t> bits(n_masks * row_bytes_of(n_train), packed);
  turned_masks(bits.get(), n_masks, n_train, tiles).copy(turned + tiles.begin * tile_words);
}

void gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train, Range tiles,
          GramKernel, std::int32_t* out) {
  const std::size_t n_tiles = gram_tiles(n_train), size = n_train * n_train;
  const DeviceBuffer<std::uint32_t> words(n_tiles * n_blocks * kGramTile, turned);
  const DeviceBuffer<std::int32_t> counts(size);
  launch_gram(words.get(), n_blocks, n_train, tiles, counts.get());
  std::vector<std::int32_t> sums(size);
  counts.copy(sums.data());
  // Nothing else: other threads may add to the entries of other tiles meanwhile.
  const std::size_t begin = tiles.begin * kGramTile, end = least(tiles.end * kGramTile, n_train);
  for (std::size_t i = begin; i < n_train; ++i)
    for (std::size_t j = begin; j < (i < end ? n_train : end); ++j)
      out[i * n_train + j] += sums[i * n_train + j];
}

void add_gram(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
              std::int32_t* counts) {
  const DeviceBuffer<std::uint32_t> turned =
      turned_masks(packed, n_masks, n_train, {0, gram_tiles(n_train)});
  launch_gram(turned.get(), gram_blocks(n_masks), n_train, {0, gram_tiles(n_train)}, counts);
}

DeviceBuffer<std::uint32_t> turned_masks(const std::uint8_t* packed, std::size_t n_masks,
                                         std::size_t n_train, Range tiles) {
  const std::size_t n_words = row_bytes_of(n_train) / 8, n_blocks = gram_blocks(n_masks);
  DeviceBuffer<std::uint32_t> turned((tiles.end - tiles.begin) * n_blocks * kGramTile);
  launch(turned.size(), TurnElement{reinterpret_cast<const std::uint64_t*>(packed), n_masks,
                                    n_words, n_blocks, tiles.begin, turned.get()});
  return turned;
}

void synchronize() { wait_for({}); }

}  // namespace cuda
}  // namespace pyattr

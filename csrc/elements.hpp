// The work of one GPU thread, kernel by kernel: functors of an index, for host and device.
//
// Integers are exact; floating point follows the order of the CPU kernels, operation by operation
// (compiled without fused multiply-add), so every result has the bits of the CPU's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fixed_point.hpp"
#include "gram.hpp"
#include "margins.hpp"
#include "packed_mask.hpp"
#include "packed_matmul.hpp"
#include "philox.hpp"

namespace pyattr {
namespace cuda {

// Element (row, block): 128 bits of a mask.  See draw_masks.
struct DrawElement {
  const std::uint32_t* given;  // (n_rows, 2 * n_words) or nullptr
  std::uint64_t seed;
  std::uint32_t stream, first_row;
  std::size_t n_train;
  Digits ones, zeros;
  std::uint32_t* out;  // (n_rows, 2 * n_words)

  PYATTR_HD void operator()(std::size_t index) const {
    const std::size_t n_blocks = (n_train + 127) / 128, row_words = (n_train + 63) / 64 * 2;
    const std::size_t row = index / n_blocks, block = index % n_blocks;
    std::uint32_t x1[4], x0[4];
    for (int w = 0; w < 4; ++w) x1[w] = ones.start, x0[w] = zeros.start;
    const int n_planes = given && zeros.n_planes > ones.n_planes ? zeros.n_planes : ones.n_planes;
    for (int plane = n_planes - 1; plane >= 0; --plane) {
      const Philox4x32 r =
          philox4x32(static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(plane),
                     first_row + static_cast<std::uint32_t>(row), stream,
                     static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
      for (int w = 0; w < 4; ++w) {
        x1[w] = (x1[w] & r.word[w]) | (ones.digit(plane) & (x1[w] | r.word[w]));
        x0[w] = (x0[w] & r.word[w]) | (zeros.digit(plane) & (x0[w] | r.word[w]));
      }
    }
    for (std::size_t w = 0; w < 4 && 4 * block + w < row_words; ++w) {
      const std::size_t at = row * row_words + 4 * block + w, first = 128 * block + 32 * w;
      std::uint32_t bits = x1[w];
      if (given) bits = (bits & given[at]) | (x0[w] & ~given[at]);
      const std::size_t left = first < n_train ? n_train - first : 0;
      out[at] = left >= 32 ? bits : bits & ((1u << left) - 1u);
    }
  }
};

// Element (tile, block, feature): one word of turned masks.  See turn_masks.
struct TurnElement {
  const std::uint64_t* packed;  // (n_masks, n_words)
  std::size_t n_masks, n_words, n_blocks, first_tile;
  std::uint32_t* turned;  // (n_tiles, n_blocks, 64)

  PYATTR_HD void operator()(std::size_t index) const {
    const std::size_t feature = index % kGramTile, block = index / kGramTile % n_blocks;
    const std::size_t tile = first_tile + index / kGramTile / n_blocks;
    std::uint32_t word = 0;
    for (std::size_t r = 0; r < 32 && 32 * block + r < n_masks; ++r)
      word |= static_cast<std::uint32_t>(packed[(32 * block + r) * n_words + tile] >> feature & 1u)
              << r;
    turned[index] = word;
  }
};

// Element (row, target): an output in fixed point.
template <typename Float>
struct FixedPointElement {
  const Float* outputs;  // (n_rows, n_targets)
  const double *centre, *steps;
  std::size_t n_targets;
  std::int32_t* out;

  PYATTR_HD void operator()(std::size_t index) const {
    const std::size_t target = index % n_targets;
    out[index] = to_fixed_point(static_cast<double>(outputs[index]), centre[target], steps[target]);
  }
};

// The logits of the classes but one, whose place the last takes.
template <typename Logit>
struct OtherLogits {
  const Logit* z;
  std::size_t label, last;

  PYATTR_HD float operator()(std::size_t c) const { return to_float(z[c == label ? last : c]); }
};

// Element row: its margin.  See margin_of_row.
template <typename Logit>
struct MarginElement {
  const Logit* logits;  // (n_rows, n_classes)
  const std::int64_t* labels;
  std::size_t n_classes, n_targets, first_row;
  MarginKind kind;
  float* out;

  PYATTR_HD void operator()(std::size_t index) const {
    margin_of(logits + index * n_classes, index);
  }

  // From the logits z of row `index`, wherever they lie.
  PYATTR_HD void margin_of(const Logit* z, std::size_t index) const {
    const std::size_t label = static_cast<std::size_t>(labels[(first_row + index) % n_targets]);
    out[index] = margin_of_row(kind, to_float(z[label]),
                               OtherLogits<Logit>{z, label, n_classes - 1}, n_classes - 1);
  }
};

}  // namespace cuda
}  // namespace pyattr

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

// Element row: its margin.  See sum_exponentials and finish_margins.
template <typename Logit>
struct MarginElement {
  const Logit* logits;  // (n_rows, n_classes)
  const std::int64_t* labels;
  std::size_t n_classes, n_targets, first_row;
  MarginKind kind;
  float* out;

  PYATTR_HD float other(const Logit* z, std::size_t label, std::size_t c) const {
    const bool gone = c == label || c >= n_classes;
    return gone ? -std::numeric_limits<float>::infinity() : to_float(z[c]);
  }

  PYATTR_HD void operator()(std::size_t index) const {
    margin_of(logits + index * n_classes, index);
  }

  // From the logits z of row `index`, wherever they lie.
  PYATTR_HD void margin_of(const Logit* z, std::size_t index) const {
    const std::size_t label = static_cast<std::size_t>(labels[(first_row + index) % n_targets]);
    float largest = other(z, label, 0);
    for (std::size_t c = 1; c < n_classes; ++c) {
      const float here = other(z, label, c);
      largest = here != here || here > largest ? here : largest;  // a NaN in `largest` stays
    }
    double sum = 0.0;
    if (kind != MarginKind::kMax && kind != MarginKind::kCorrect)
      for (std::size_t c = 0; c < n_classes; c += 4) {
        const float first =
            exp_f32(other(z, label, c) - largest) + exp_f32(other(z, label, c + 1) - largest);
        const float second =
            exp_f32(other(z, label, c + 2) - largest) + exp_f32(other(z, label, c + 3) - largest);
        sum += static_cast<double>(first + second);
      }
    out[index] = finish_margin(kind, to_float(z[label]), largest, sum);
  }
};

}  // namespace cuda
}  // namespace pyattr

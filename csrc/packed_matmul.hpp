// Products with a packed mask matrix, by table look-up ("four Russians").
//
//   packed_matmul             masks  @ W  packed (n_masks, row_bytes), W (n_train, n_targets)
//                                         -> out (n_masks, n_targets)
//   packed_matmul_transposed  masksT @ R  packed (n_masks, row_bytes), R (n_masks, n_targets)
//                                         -> out (n_train, n_targets)
//
// Method.  64 consecutive summands are cut into 13 chunks (12 of 5 bits, one of 4). For a block of
// L targets every chunk gets a table of its 32 subset sums, 26 KB for L = 16 float32: it stays in a
// 32 KB L1 cache. An output then costs one vector load and one vector addition per 5 summands and L
// targets. The transposed product first turns 64 x 64 bit blocks, so that both are the same loop
// (csrc/subset_sums.hpp). A panel's words are laid out word by word for that loop: what streams
// past the tables then leaves them in L1.
//
// Accumulator and order.  Table entry: at most 5 float32 summands, lowest index first. Then float32
// over the chunks of a panel of 1,024 summands, first to last; then float64 over the panels, first
// to last; one rounding to the output type. The order depends on the summand's index alone: not on
// the row and target ranges, L, the thread count or the instruction set, so neither do the bits.
//
// Error bound.  At most 4 additions inside a table and 208 over a panel: with u = 2^-24,
//   |out - exact| <= 212 u / (1 - 212 u) * sum_i |x_i w_i| + rounding of the result
// for every size (1.3e-5 of the sum of magnitudes in the worst case, and about sqrt(212) u = 9e-7
// of it for roundings of random sign); the panels add n / 1024 * 2^-53, nothing. A plain float32
// sum of n would have n u. Sums beyond 3.4e38 inside one panel overflow to infinity, as they would
// in any float32 product. NaN or infinity in summand i reaches every output that shares a chunk of
// 5 with it; callers refuse non-finite input (0 * inf would be NaN in a dense product too).
//
// R may also be whole numbers (int32, |r| < kFixedPointLimit = 2^21): the same loops then sum in
// int32 over a panel (1,024 * (2^21 - 1) < 2^31) and in int64 over the panels, and the result,
// which is added to `out`, is exact whatever the order (csrc/fixed_point.hpp makes such numbers).
//
// Ranges [begin, end) select the outputs to compute; the caller splits them over threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bit_blocks.hpp"
#include "fixed_point.hpp"
#include "packed_mask.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "subset_sums.hpp"

namespace pyattr {

constexpr std::size_t kOutputBlock = 2048;  // outputs whose accumulators stay in L2
constexpr std::size_t kMostLanes = 16;      // targets of a block
constexpr std::size_t kTargetBlocks = 8;    // target blocks that share one transposition

static_assert(kPanel * (kFixedPointLimit - 1) < std::size_t{1} << 31, "a panel's sum fits int32");

#if !defined(__CUDACC__)

// out[q, first + t] = sums[q, t], rounded once to Out.  out (n_outputs, n_targets).
template <typename Out>
inline void store_block(const double* sums, int lanes, std::size_t n_outputs, std::size_t n_cols,
                        std::size_t n_targets, std::size_t first, Out* out) {
  for (std::size_t q = 0; q < n_outputs; ++q)
    for (std::size_t t = 0; t < n_cols; ++t)
      out[q * n_targets + first + t] = static_cast<Out>(sums[q * lanes + t]);
}

// out[q, first + t] += sums[q, t].  out (n_outputs, n_targets).
inline void store_block(const std::int64_t* sums, int lanes, std::size_t n_outputs,
                        std::size_t n_cols, std::size_t n_targets, std::size_t first,
                        std::int64_t* out) {
  for (std::size_t q = 0; q < n_outputs; ++q)
    for (std::size_t t = 0; t < n_cols; ++t) out[q * n_targets + first + t] += sums[q * lanes + t];
}

// Words word0 .. word0 + n_words - 1 of n_rows mask rows: words (n_words, kOutputBlock).
inline void gather_panel(const std::uint8_t* packed, std::size_t row_bytes, std::size_t n_rows,
                         std::size_t word0, std::size_t n_words, std::uint64_t* words) {
  for (std::size_t q = 0; q < n_rows; ++q)
    for (std::size_t w = 0; w < n_words; ++w)
      std::memcpy(words + w * kOutputBlock + q, packed + q * row_bytes + 8 * (word0 + w), 8);
}

// The same of masks turned: word w holds bits of mask rows row0 + 64 w .. row0 + 64 w + 63 (those
// below row0 + n_rows, the rest 0), and entry i those of feature 64 * word0 + i.
PYATTR_CLONES
static void turn_panel(const std::uint8_t* packed, std::size_t row_bytes, std::size_t row0,
                       std::size_t n_rows, std::size_t word0, std::size_t n_words,
                       std::uint64_t* words) {
  WordLanes block[64];
  for (std::size_t j = 0; 64 * j < n_rows; ++j)
    for (std::size_t w = 0; w < n_words; w += 8) {
      const std::size_t used = least(8, n_words - w);
      for (std::size_t r = 0; r < 64; ++r) {
        WordLanes row{};
        if (64 * j + r < n_rows) {
          const std::uint8_t* source = packed + (row0 + 64 * j + r) * row_bytes + 8 * (word0 + w);
          if (used == 8)
            std::memcpy(&row, source, 64);
          else
            std::memcpy(&row, source, 8 * used);
        }
        block[r] = row;
      }
      transpose_blocks(block);
      for (std::size_t lane = 0; lane < used; ++lane)
        for (std::size_t i = 0; i < 64; ++i)
          words[j * kOutputBlock + 64 * (w + lane) + i] = block[i][lane];
    }
}

// The products of outputs 0 .. n_outputs - 1 (at most kOutputBlock) with summands (n_summands,
// n_targets), targets targets.begin .. targets.end - 1, to out (n_outputs, n_targets).
//   fill(word0, n_words, words)  writes the outputs' bits: words (n_words, kOutputBlock)
template <typename In, typename Out>
class ProductBlock {
  using Sum = typename PanelSum<In>::type;

 public:
  ProductBlock(const In* summands, std::size_t n_summands, std::size_t n_targets, Range targets,
               std::size_t n_outputs)
      : summands_(summands),
        n_summands_(n_summands),
        n_targets_(n_targets),
        targets_(targets),
        block_size_(least(kOutputBlock, n_outputs) * kMostLanes),
        words_(kPanelWords * kOutputBlock),
        tables_(kChunks * kEntries * kMostLanes),
        partial_(block_size_),
        sums_(least(kTargetBlocks, (targets.end - targets.begin + kMostLanes - 1) / kMostLanes) *
              block_size_) {}

  template <typename Fill>
  void run(std::size_t n_outputs, const Fill& fill, Out* out) {
    constexpr std::size_t kTargets = kTargetBlocks * kMostLanes;
    for (std::size_t t = targets_.begin; t < targets_.end; t += kTargets)
      run(n_outputs, {t, least(t + kTargets, targets_.end)}, fill, out);
  }

 private:
  template <typename Fill>
  void run(std::size_t n_outputs, Range targets, const Fill& fill, Out* out) {
    const std::size_t n_words = (n_summands_ + 63) / 64;
    const std::size_t n_blocks = (targets.end - targets.begin + kMostLanes - 1) / kMostLanes;
    std::memset(sums_.get(), 0, n_blocks * block_size_ * sizeof(Sum));
    for (std::size_t word = 0; word < n_words; word += kPanelWords) {
      const std::size_t used = least(kPanelWords, n_words - word);
      fill(word, used, words_.get());
      for (std::size_t block = 0; block < n_blocks; ++block) {
        const std::size_t first = targets.begin + block * kMostLanes;
        add_panel_lanes(width_,
                        {words_.get(), kOutputBlock, n_outputs, used, summands_, n_summands_,
                         n_targets_, word, first, least(kMostLanes, targets.end - first)},
                        tables_.get(), partial_.get(), sums_.get() + block * block_size_);
      }
    }
    for (std::size_t block = 0; block < n_blocks; ++block) {
      const std::size_t first = targets.begin + block * kMostLanes;
      const std::size_t n_cols = least(kMostLanes, targets.end - first);
      store_block(sums_.get() + block * block_size_, lanes_for(n_cols), n_outputs, n_cols,
                  n_targets_, first, out);
    }
  }

  const In* summands_;
  std::size_t n_summands_, n_targets_;
  Range targets_;
  std::size_t block_size_;
  int width_ = register_width();
  Scratch<std::uint64_t> words_;
  Scratch<In> tables_, partial_;
  Scratch<Sum> sums_;
};

// Rows rows.begin .. rows.end - 1 and targets targets.begin .. targets.end - 1 of masks @ W.
template <typename Out>
void packed_matmul(const std::uint8_t* packed, std::size_t n_train, const float* weights,
                   std::size_t n_targets, Range rows, Range targets, Out* out) {
  const std::size_t row_bytes = row_bytes_of(n_train);
  ProductBlock<float, Out> block(weights, n_train, n_targets, targets, rows.end - rows.begin);
  for (std::size_t row = rows.begin; row < rows.end; row += kOutputBlock) {
    const std::size_t n_outputs = least(kOutputBlock, rows.end - row);
    block.run(
        n_outputs,
        [=](std::size_t word, std::size_t n_words, std::uint64_t* words) {
          gather_panel(packed + row * row_bytes, row_bytes, n_outputs, word, n_words, words);
        },
        out + row * n_targets);
  }
}

// Features features.begin .. features.end - 1 (begin a multiple of 64) and targets targets.begin ..
// targets.end - 1 of masks transposed @ R.  In float32 -> Out float32 or float64 (overwritten); In
// int32, every |r| < kFixedPointLimit -> Out int64 (added to).
template <typename In, typename Out>
void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const In* residuals, std::size_t n_targets, Range features,
                              Range targets, Out* out) {
  const std::size_t row_bytes = row_bytes_of(n_train);
  ProductBlock<In, Out> block(residuals, n_masks, n_targets, targets,
                              features.end - features.begin);
  for (std::size_t i = features.begin; i < features.end; i += kOutputBlock) {
    const std::size_t n_outputs = least(kOutputBlock, features.end - i);
    block.run(
        n_outputs,
        [=](std::size_t word, std::size_t, std::uint64_t* words) {
          turn_panel(packed, row_bytes, 64 * word, least(kPanel, n_masks - 64 * word), i / 64,
                     (n_outputs + 63) / 64, words);
        },
        out + i * n_targets);
  }
}

#endif  // !__CUDACC__

}  // namespace pyattr

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
// targets. The transposed product first turns 64 x 64 bit blocks, so that both are the same loop.
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
#include <memory>
#include <new>

#include "fixed_point.hpp"
#include "packed_mask.hpp"
#include "simd.hpp"

namespace pyattr {

constexpr int kChunkBits = 5;
constexpr int kChunks = (64 + kChunkBits - 1) / kChunkBits;
constexpr int kEntries = 1 << kChunkBits;
constexpr std::size_t kPanelWords = 16;
constexpr std::size_t kPanel = 64 * kPanelWords;
constexpr std::size_t kOutputBlock = 2048;  // outputs whose accumulators stay in L2
constexpr std::size_t kTargetBlocks = 8;    // target blocks that share one transposition

static_assert(kPanel * (kFixedPointLimit - 1) < std::size_t{1} << 31, "a panel's sum fits int32");

struct Range {
  std::size_t begin, end;
};

PYATTR_HD std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }

// What panels of numbers of type T are summed in.
template <typename T>
struct PanelSum;
template <>
struct PanelSum<float> {
  typedef double type;
};
template <>
struct PanelSum<std::int32_t> {
  typedef std::int64_t type;
};

#if !defined(__CUDACC__)

// L numbers of type T side by side.
template <typename T, int L>
struct Lanes;
template <>
struct Lanes<float, 16> {
  typedef float type __attribute__((vector_size(64)));
};
template <>
struct Lanes<float, 8> {
  typedef float type __attribute__((vector_size(32)));
};
template <>
struct Lanes<float, 4> {
  typedef float type __attribute__((vector_size(16)));
};
template <>
struct Lanes<std::int32_t, 16> {
  typedef std::int32_t type __attribute__((vector_size(64)));
};
template <>
struct Lanes<std::int32_t, 8> {
  typedef std::int32_t type __attribute__((vector_size(32)));
};
template <>
struct Lanes<std::int32_t, 4> {
  typedef std::int32_t type __attribute__((vector_size(16)));
};
typedef std::uint64_t WordLanes __attribute__((vector_size(64)));

// Cache-line aligned scratch of trivially constructible T.
template <typename T>
class Scratch {
 public:
  explicit Scratch(std::size_t n)
      : data_(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}))) {}
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
};

// Subset sums of summands 64 * word .. 64 * word + 63 (those below n_summands; the rest count as 0)
// for targets first .. first + n_cols - 1.  tables (kChunks, kEntries) vectors of L targets.
template <typename T, int L>
PYATTR_INLINE void build_tables(const T* summands, std::size_t n_summands, std::size_t n_targets,
                                std::size_t word, std::size_t first, std::size_t n_cols,
                                typename Lanes<T, L>::type* tables) {
  using V = typename Lanes<T, L>::type;
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    V* table = tables + chunk * kEntries;
    table[0] = V{};
    for (int bit = 0; bit < kChunkBits && chunk * kChunkBits + bit < 64; ++bit) {
      const std::size_t i = 64 * word + chunk * kChunkBits + bit;
      V value{};
      if (i < n_summands) {
        const T* source = summands + i * n_targets + first;
        if (n_cols == L)
          std::memcpy(&value, source, sizeof(V));
        else
          std::memcpy(&value, source, n_cols * sizeof(T));
      }
      for (int e = 0; e < 1 << bit; ++e) table[(1 << bit) + e] = table[e] + value;
    }
  }
}

// Add one panel's products to `sums` (n_outputs, L).
//   index   output q's bits of this panel: n_words 64-bit words at index + q * stride
//   word0   the panel's first word among the summands
//   partial (n_outputs, L) and tables: scratch
template <typename T, int L>
PYATTR_INLINE void add_panel(const std::uint8_t* index, std::size_t stride, std::size_t n_outputs,
                             std::size_t n_words, std::size_t word0, const T* summands,
                             std::size_t n_summands, std::size_t n_targets, std::size_t first,
                             std::size_t n_cols, T* tables, T* partial,
                             typename PanelSum<T>::type* sums) {
  using V = typename Lanes<T, L>::type;
  V* const lanes = reinterpret_cast<V*>(partial);
  V* const table = reinterpret_cast<V*>(tables);
  for (std::size_t q = 0; q < n_outputs; ++q) lanes[q] = V{};
  for (std::size_t w = 0; w < n_words; ++w) {
    build_tables<T, L>(summands, n_summands, n_targets, word0 + w, first, n_cols, table);
    for (std::size_t q = 0; q < n_outputs; ++q) {
      std::uint64_t bits;
      std::memcpy(&bits, index + q * stride + 8 * w, 8);
      V sum = lanes[q];
#pragma GCC unroll 13
      for (int chunk = 0; chunk < kChunks; ++chunk)
        sum = sum + table[chunk * kEntries + (bits >> (chunk * kChunkBits) & (kEntries - 1))];
      lanes[q] = sum;
    }
  }
  for (std::size_t i = 0; i < n_outputs * L; ++i)
    sums[i] += static_cast<typename PanelSum<T>::type>(partial[i]);
}

// The number of lanes for n_cols <= 16 targets.
PYATTR_INLINE int lanes_for(std::size_t n_cols) { return n_cols > 8 ? 16 : n_cols > 4 ? 8 : 4; }

template <typename T>
PYATTR_INLINE void add_panel_any(int lanes, const std::uint8_t* index, std::size_t stride,
                                 std::size_t n_outputs, std::size_t n_words, std::size_t word0,
                                 const T* summands, std::size_t n_summands, std::size_t n_targets,
                                 std::size_t first, std::size_t n_cols, T* tables, T* partial,
                                 typename PanelSum<T>::type* sums) {
  if (lanes == 16)
    add_panel<T, 16>(index, stride, n_outputs, n_words, word0, summands, n_summands, n_targets,
                     first, n_cols, tables, partial, sums);
  else if (lanes == 8)
    add_panel<T, 8>(index, stride, n_outputs, n_words, word0, summands, n_summands, n_targets,
                    first, n_cols, tables, partial, sums);
  else
    add_panel<T, 4>(index, stride, n_outputs, n_words, word0, summands, n_summands, n_targets,
                    first, n_cols, tables, partial, sums);
}

PYATTR_CLONES
static void add_panel_lanes(int lanes, const std::uint8_t* index, std::size_t stride,
                            std::size_t n_outputs, std::size_t n_words, std::size_t word0,
                            const float* summands, std::size_t n_summands, std::size_t n_targets,
                            std::size_t first, std::size_t n_cols, float* tables, float* partial,
                            double* sums) {
  add_panel_any(lanes, index, stride, n_outputs, n_words, word0, summands, n_summands, n_targets,
                first, n_cols, tables, partial, sums);
}

PYATTR_CLONES
static void add_panel_lanes(int lanes, const std::uint8_t* index, std::size_t stride,
                            std::size_t n_outputs, std::size_t n_words, std::size_t word0,
                            const std::int32_t* summands, std::size_t n_summands,
                            std::size_t n_targets, std::size_t first, std::size_t n_cols,
                            std::int32_t* tables, std::int32_t* partial, std::int64_t* sums) {
  add_panel_any(lanes, index, stride, n_outputs, n_words, word0, summands, n_summands, n_targets,
                first, n_cols, tables, partial, sums);
}

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

// Rows rows.begin .. rows.end - 1 and targets targets.begin .. targets.end - 1 of masks @ W.
template <typename Out>
void packed_matmul(const std::uint8_t* packed, std::size_t n_train, const float* weights,
                   std::size_t n_targets, Range rows, Range targets, Out* out) {
  const std::size_t stride = row_bytes_of(n_train), n_words = stride / 8;
  Scratch<float> tables(kChunks * kEntries * 16), partial(kOutputBlock * 16);
  Scratch<double> sums(kOutputBlock * 16);
  for (std::size_t row = rows.begin; row < rows.end; row += kOutputBlock) {
    const std::size_t n_outputs = least(kOutputBlock, rows.end - row);
    for (std::size_t t = targets.begin; t < targets.end; t += 16) {
      const std::size_t n_cols = least(16, targets.end - t);
      const int lanes = lanes_for(n_cols);
      std::memset(sums.get(), 0, n_outputs * lanes * sizeof(double));
      for (std::size_t w = 0; w < n_words; w += kPanelWords)
        add_panel_lanes(lanes, packed + row * stride + 8 * w, stride, n_outputs,
                        least(kPanelWords, n_words - w), w, weights, n_train, n_targets, t, n_cols,
                        tables.get(), partial.get(), sums.get());
      store_block(sums.get(), lanes, n_outputs, n_cols, n_targets, t, out + row * n_targets);
    }
  }
}

// Transpose a 64 x 64 bit block per lane: bit c of row[r] <-> bit r of row[c].
PYATTR_INLINE void transpose_blocks(WordLanes row[64]) {
  std::uint64_t mask = 0x00000000FFFFFFFFu;
  for (int j = 32; j != 0; j >>= 1, mask ^= mask << j)
    for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {
      const WordLanes swap = (row[k] >> j ^ row[k | j]) & mask;
      row[k] ^= swap << j;
      row[k | j] ^= swap;
    }
}

// Bits of up to kPanel mask rows (row0 .. row0 + n_rows - 1), features 64 * word0 .. 64 * (word0 +
// n_words) - 1, turned: turned (64 * n_words, kPanelWords) words, bit j % 64 of word j / 64 of row
// i = mask row0 + j, feature 64 * word0 + i. Rows past n_rows give 0 in the words that are written.
PYATTR_CLONES
static void transpose_panel(const std::uint8_t* packed, std::size_t row_bytes, std::size_t row0,
                            std::size_t n_rows, std::size_t word0, std::size_t n_words,
                            std::uint64_t* turned) {
  WordLanes block[64];
  for (std::size_t j = 0; 64 * j < n_rows; ++j)
    for (std::size_t w = 0; w < n_words; w += 8) {
      const std::size_t used = least(8, n_words - w);
      for (std::size_t r = 0; r < 64; ++r) {
        WordLanes words{};
        if (64 * j + r < n_rows) {
          const std::uint8_t* source = packed + (row0 + 64 * j + r) * row_bytes + 8 * (word0 + w);
          if (used == 8)
            std::memcpy(&words, source, 64);
          else
            std::memcpy(&words, source, 8 * used);
        }
        block[r] = words;
      }
      transpose_blocks(block);
      for (std::size_t lane = 0; lane < used; ++lane)
        for (std::size_t i = 0; i < 64; ++i)
          turned[(64 * (w + lane) + i) * kPanelWords + j] = block[i][lane];
    }
}

// Features features.begin .. features.end - 1 (begin a multiple of 64) and targets targets.begin ..
// targets.end - 1 of masks transposed @ R.  In float32 -> Out float32 or float64 (overwritten); In
// int32, every |r| < kFixedPointLimit -> Out int64 (added to).
template <typename In, typename Out>
void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const In* residuals, std::size_t n_targets, Range features,
                              Range targets, Out* out) {
  using Sum = typename PanelSum<In>::type;
  const std::size_t row_bytes = row_bytes_of(n_train);
  Scratch<In> tables(kChunks * kEntries * 16), partial(kOutputBlock * 16);
  const std::size_t n_blocks = least(kTargetBlocks, (targets.end - targets.begin + 15) / 16);
  const std::size_t block_size = least(kOutputBlock, features.end - features.begin) * 16;
  Scratch<Sum> sums(n_blocks * block_size);
  Scratch<std::uint64_t> turned(kOutputBlock * kPanelWords);
  for (std::size_t i = features.begin; i < features.end; i += kOutputBlock)
    for (std::size_t t = targets.begin; t < targets.end; t += 16 * kTargetBlocks) {
      const std::size_t n_outputs = least(kOutputBlock, features.end - i);
      const std::size_t t_end = least(t + 16 * kTargetBlocks, targets.end);
      std::memset(sums.get(), 0, n_blocks * block_size * sizeof(Sum));
      for (std::size_t row = 0; row < n_masks; row += kPanel) {
        const std::size_t n_rows = least(kPanel, n_masks - row);
        transpose_panel(packed, row_bytes, row, n_rows, i / 64, (n_outputs + 63) / 64,
                        turned.get());
        for (std::size_t first = t; first < t_end; first += 16) {
          const std::size_t n_cols = least(16, t_end - first);
          add_panel_lanes(lanes_for(n_cols), reinterpret_cast<std::uint8_t*>(turned.get()),
                          8 * kPanelWords, n_outputs, (n_rows + 63) / 64, row / 64, residuals,
                          n_masks, n_targets, first, n_cols, tables.get(), partial.get(),
                          sums.get() + (first - t) / 16 * block_size);
        }
      }
      for (std::size_t first = t; first < t_end; first += 16) {
        const std::size_t n_cols = least(16, t_end - first);
        store_block(sums.get() + (first - t) / 16 * block_size, lanes_for(n_cols), n_outputs,
                    n_cols, n_targets, first, out + i * n_targets);
      }
    }
}

#endif  // !__CUDACC__

}  // namespace pyattr

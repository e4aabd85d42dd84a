// Tables of subset sums, and panels of summands added up by looking them up: the inner loop of
// packed_matmul.hpp, which says what it computes and in which order.
//
// A block of L targets is V registers of W numbers. W is that of the instruction set; since lanes
// never mix, the bits do not depend on it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"

namespace pyattr {

constexpr int kChunkBits = 5;
constexpr int kChunks = (64 + kChunkBits - 1) / kChunkBits;
constexpr int kEntries = 1 << kChunkBits;
constexpr std::size_t kPanelWords = 16;
constexpr std::size_t kPanel = 64 * kPanelWords;

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

// W numbers of type T in a register.
template <typename T, int W>
struct Register;
template <>
struct Register<float, 16> {
  typedef float type __attribute__((vector_size(64)));
};
template <>
struct Register<float, 8> {
  typedef float type __attribute__((vector_size(32)));
};
template <>
struct Register<float, 4> {
  typedef float type __attribute__((vector_size(16)));
};
template <>
struct Register<std::int32_t, 16> {
  typedef std::int32_t type __attribute__((vector_size(64)));
};
template <>
struct Register<std::int32_t, 8> {
  typedef std::int32_t type __attribute__((vector_size(32)));
};
template <>
struct Register<std::int32_t, 4> {
  typedef std::int32_t type __attribute__((vector_size(16)));
};

// One panel's part of a product, for a block of at most 16 targets.
template <typename T>
struct Panel {
  // index (n_words, stride) 64-bit words: word w of output q's bits of this panel is index[w, q].
  const std::uint64_t* index;
  std::size_t stride, n_outputs, n_words;
  // summands (n_summands, n_targets): words word0 .. word0 + n_words - 1 of rows, and targets
  // first .. first + n_cols - 1.
  const T* summands;
  std::size_t n_summands, n_targets, word0, first, n_cols;
};

// Subset sums of summands 64 * word .. 64 * word + 63 (those below n_summands; the rest count as
// 0).  tables (kChunks, kEntries, V * W).
template <typename T, int W, int V>
PYATTR_INLINE void build_tables(const Panel<T>& panel, std::size_t word, T* tables) {
  using R = typename Register<T, W>::type;
  constexpr int L = V * W;
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    alignas(64) T values[kChunkBits][L] = {};
    for (int bit = 0; bit < kChunkBits && chunk * kChunkBits + bit < 64; ++bit) {
      const std::size_t i = 64 * word + chunk * kChunkBits + bit;
      if (i >= panel.n_summands) continue;
      const T* const source = panel.summands + i * panel.n_targets + panel.first;
      if (panel.n_cols == L)
        std::memcpy(values[bit], source, sizeof values[bit]);
      else
        std::memcpy(values[bit], source, panel.n_cols * sizeof(T));
    }
    R* const table = reinterpret_cast<R*>(tables + chunk * kEntries * L);
    const R* const value = reinterpret_cast<const R*>(values);
    for (int v = 0; v < V; ++v) {
      const R third = value[2 * V + v], fourth = value[3 * V + v], fifth = value[4 * V + v];
      const R two[4] = {R{}, R{} + value[v], R{} + value[V + v], value[v] + value[V + v]};
#pragma GCC unroll 4
      for (int e = 0; e < 4; ++e) {
        const R low = two[e], high = low + third;
        table[e * V + v] = low;
        table[(e + 4) * V + v] = high;
        table[(e + 8) * V + v] = low + fourth;
        table[(e + 12) * V + v] = high + fourth;
        table[(e + 16) * V + v] = low + fifth;
        table[(e + 20) * V + v] = high + fifth;
        table[(e + 24) * V + v] = (low + fourth) + fifth;
        table[(e + 28) * V + v] = (high + fourth) + fifth;
      }
    }
  }
}

// The bytes from a chunk's table to the entry of its bits, entries 1 << kShift bytes long.
template <int kShift>
PYATTR_INLINE std::size_t entry_offset(std::uint64_t bits, int chunk) {
  const int down = chunk * kChunkBits - kShift;
  return (down < 0 ? bits << -down : bits >> down) & (std::uint64_t{kEntries - 1} << kShift);
}

// V registers as one value. (In an array gcc would keep them in memory.)
template <typename R, int V>
struct Registers {
  R first;
  Registers<R, V - 1> others;
  PYATTR_INLINE void load(const R* from) {
    first = *from;
    others.load(from + 1);
  }
  PYATTR_INLINE void add(const R* from) {
    first = first + *from;
    others.add(from + 1);
  }
  PYATTR_INLINE void store(R* to) const {
    *to = first;
    others.store(to + 1);
  }
};
template <typename R>
struct Registers<R, 0> {
  PYATTR_INLINE void load(const R*) {}
  PYATTR_INLINE void add(const R*) {}
  PYATTR_INLINE void store(R*) const {}
};

// K outputs' sums, taken through the tables in step: a sum waits for the one before, and K times V
// of them side by side keep the adders busy.
template <typename T, int W, int V, int K>
struct Outputs {
  using R = typename Register<T, W>::type;
  static constexpr int kLanes = V * W, kBytes = kLanes * sizeof(T);
  static constexpr int kShift = kBytes == 64 ? 6 : kBytes == 32 ? 5 : 4;
  static_assert(kBytes == 1 << kShift, "16, 8 or 4 numbers of 4 bytes");

  std::uint64_t bits;
  Registers<R, V> sum;
  Outputs<T, W, V, K - 1> others;

  PYATTR_INLINE void load(const std::uint64_t* words, const T* sums) {
    bits = words[0];
    sum.load(reinterpret_cast<const R*>(sums));
    others.load(words + 1, sums + kLanes);
  }
  PYATTR_INLINE void add(const T* tables, int chunk) {
    const T* const table = tables + chunk * kEntries * kLanes;
    sum.add(reinterpret_cast<const R*>(reinterpret_cast<const char*>(table) +
                                       entry_offset<kShift>(bits, chunk)));
    others.add(tables, chunk);
  }
  PYATTR_INLINE void store(T* sums) const {
    sum.store(reinterpret_cast<R*>(sums));
    others.store(sums + kLanes);
  }
};
template <typename T, int W, int V>
struct Outputs<T, W, V, 0> {
  PYATTR_INLINE void load(const std::uint64_t*, const T*) {}
  PYATTR_INLINE void add(const T*, int) {}
  PYATTR_INLINE void store(T*) const {}
};

// Add what the tables hold for K outputs' words to their sums (K, V * W).
template <typename T, int W, int V, int K>
PYATTR_INLINE void add_words(const std::uint64_t* words, const T* tables, T* sums) {
  Outputs<T, W, V, K> outputs;
  outputs.load(words, sums);
#pragma GCC unroll 13
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    outputs.add(tables, chunk);
    // Without it gcc would put each sum's additions one after the other again.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  outputs.store(sums);
}

// Add one panel's products to `sums` (n_outputs, L), L = V * W.
//   partial (n_outputs, L) and tables: scratch
template <typename T, int W, int V>
PYATTR_INLINE void add_panel(const Panel<T>& panel, T* tables, T* partial,
                             typename PanelSum<T>::type* sums) {
  constexpr int L = V * W, K = V > 2 ? 2 : 4;
  std::memset(partial, 0, panel.n_outputs * L * sizeof(T));
  for (std::size_t w = 0; w < panel.n_words; ++w) {
    const std::uint64_t* const words = panel.index + w * panel.stride;
    build_tables<T, W, V>(panel, panel.word0 + w, tables);
    std::size_t q = 0;
    for (; q + K <= panel.n_outputs; q += K)
      add_words<T, W, V, K>(words + q, tables, partial + q * L);
    for (; q < panel.n_outputs; ++q) add_words<T, W, V, 1>(words + q, tables, partial + q * L);
  }
  for (std::size_t i = 0; i < panel.n_outputs * L; ++i)
    sums[i] += static_cast<typename PanelSum<T>::type>(partial[i]);
}

// The number of lanes L for n_cols <= 16 targets.
PYATTR_INLINE int lanes_for(std::size_t n_cols) { return n_cols > 8 ? 16 : n_cols > 4 ? 8 : 4; }

template <typename T>
PYATTR_INLINE void add_panel_any(int width, const Panel<T>& panel, T* tables, T* partial,
                                 typename PanelSum<T>::type* sums) {
  const int lanes = lanes_for(panel.n_cols);
  if (width == 16 && lanes == 16) return add_panel<T, 16, 1>(panel, tables, partial, sums);
  if (width >= 8 && lanes == 16) return add_panel<T, 8, 2>(panel, tables, partial, sums);
  if (width >= 8 && lanes == 8) return add_panel<T, 8, 1>(panel, tables, partial, sums);
  if (lanes == 16) return add_panel<T, 4, 4>(panel, tables, partial, sums);
  if (lanes == 8) return add_panel<T, 4, 2>(panel, tables, partial, sums);
  add_panel<T, 4, 1>(panel, tables, partial, sums);
}

PYATTR_CLONES
static void add_panel_lanes(int width, const Panel<float>& panel, float* tables, float* partial,
                            double* sums) {
  add_panel_any(width, panel, tables, partial, sums);
}

PYATTR_CLONES
static void add_panel_lanes(int width, const Panel<std::int32_t>& panel, std::int32_t* tables,
                            std::int32_t* partial, std::int64_t* sums) {
  add_panel_any(width, panel, tables, partial, sums);
}

#endif  // !__CUDACC__

}  // namespace pyattr

// Rows of logits turned, so that kMarginLanes of them run side by side: the first step of
// margins.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "exponential.hpp"
#include "simd.hpp"

namespace pyattr {

constexpr int kMarginLanes = 64;

#if !defined(__CUDACC__)

// Lanes of a and, counted on, of b: by the builtin that gcc and clang have in common.
template <int... kAt, typename V>
PYATTR_INLINE V shuffled(V a, V b) {
  return __builtin_shufflevector(a, b, kAt...);
}

// W floats side by side and the turning of 4 x 4 tiles within each four of them.
template <int W>
struct TurnLanes;
template <>
struct TurnLanes<4> {
  using Floats = Floats4;
  typedef double Pairs __attribute__((vector_size(16)));
  using Ints = Ints4;
  static PYATTR_INLINE Floats low(Floats a, Floats b) { return shuffled<0, 4, 1, 5>(a, b); }
  static PYATTR_INLINE Floats high(Floats a, Floats b) { return shuffled<2, 6, 3, 7>(a, b); }
  static PYATTR_INLINE Floats first(Floats a, Floats b) { return shuffled<0, 1, 4, 5>(a, b); }
  static PYATTR_INLINE Floats second(Floats a, Floats b) { return shuffled<2, 3, 6, 7>(a, b); }
  static PYATTR_INLINE Floats even(Floats a, Floats b) { return shuffled<0, 2, 4, 6>(a, b); }
  static PYATTR_INLINE Floats odd(Floats a, Floats b) { return shuffled<1, 3, 5, 7>(a, b); }
  static PYATTR_INLINE Floats row(const float* at, std::size_t) { return load<Floats>(at); }
  // Two floats of a row and of the next.
  static PYATTR_INLINE Floats pairs(const float* at, std::size_t n_classes) {
    double pair[2];
    for (int k = 0; k < 2; ++k) std::memcpy(&pair[k], at + k * n_classes, sizeof pair[k]);
    return reinterpret_cast<Floats>(Pairs{pair[0], pair[1]});
  }
};
template <>
struct TurnLanes<8> {
  using Floats = Floats8;
  typedef double Pairs __attribute__((vector_size(32)));
  using Ints = Ints8;
  static PYATTR_INLINE Floats low(Floats a, Floats b) {
    return shuffled<0, 8, 1, 9, 4, 12, 5, 13>(a, b);
  }
  static PYATTR_INLINE Floats high(Floats a, Floats b) {
    return shuffled<2, 10, 3, 11, 6, 14, 7, 15>(a, b);
  }
  static PYATTR_INLINE Floats first(Floats a, Floats b) {
    return shuffled<0, 1, 8, 9, 4, 5, 12, 13>(a, b);
  }
  static PYATTR_INLINE Floats second(Floats a, Floats b) {
    return shuffled<2, 3, 10, 11, 6, 7, 14, 15>(a, b);
  }
  static PYATTR_INLINE Floats even(Floats a, Floats b) {
    return shuffled<0, 2, 8, 10, 4, 6, 12, 14>(a, b);
  }
  static PYATTR_INLINE Floats odd(Floats a, Floats b) {
    return shuffled<1, 3, 9, 11, 5, 7, 13, 15>(a, b);
  }
  // Four floats of a row and four of the row four below.
  static PYATTR_INLINE Floats row(const float* at, std::size_t n_classes) {
    const auto upper = load<Floats4>(at), lower = load<Floats4>(at + 4 * n_classes);
    return __builtin_shufflevector(upper, lower, 0, 1, 2, 3, 4, 5, 6, 7);
  }
  static PYATTR_INLINE Floats pairs(const float* at, std::size_t n_classes) {
    double pair[4];
    for (int k = 0; k < 2; ++k) {
      std::memcpy(&pair[k], at + k * n_classes, sizeof pair[k]);
      std::memcpy(&pair[2 + k], at + (4 + k) * n_classes, sizeof pair[k]);
    }
    return reinterpret_cast<Floats>(Pairs{pair[0], pair[1], pair[2], pair[3]});
  }
};

// Classes c .. c + kUsed - 1 of W rows: turned[k] holds class c + k of each.
template <int W, int kUsed>
PYATTR_INLINE void turn_tile(const float* at, std::size_t n_classes,
                             typename TurnLanes<W>::Floats* turned) {
  using Turn = TurnLanes<W>;
  using V = typename Turn::Floats;
  if (kUsed == 2) {
    const V top = Turn::pairs(at, n_classes), next = Turn::pairs(at + 2 * n_classes, n_classes);
    turned[0] = Turn::even(top, next);
    turned[1] = Turn::odd(top, next);
    return;
  }
  const V r0 = Turn::row(at, n_classes), r1 = Turn::row(at + n_classes, n_classes);
  const V r2 = Turn::row(at + 2 * n_classes, n_classes);
  const V r3 = Turn::row(at + 3 * n_classes, n_classes);
  const V low01 = Turn::low(r0, r1);
  const V low23 = Turn::low(r2, r3);
  const V high01 = Turn::high(r0, r1);
  const V high23 = Turn::high(r2, r3);
  turned[0] = Turn::first(low01, low23);
  turned[1] = Turn::second(low01, low23);
  turned[2] = Turn::first(high01, high23);
  turned[3] = Turn::second(high01, high23);
}

// W rows on their way through the classes.
template <int W>
struct TurnState {
  using V = typename TurnLanes<W>::Floats;
  using I = typename TurnLanes<W>::Ints;
  I label{}, undefined{};  // label counts down: 0 at the class that is taken
  V correct, last, largest = V{} - std::numeric_limits<float>::infinity();

  // The next `used` classes but the last.
  template <int kUsed>
  PYATTR_INLINE void take(const V* turned, float* out) {
    V other[4];
#pragma GCC unroll 4
    for (int k = 0; k < kUsed; ++k) {
      const I is_own = label == 0;
      correct = is_own ? turned[k] : correct;
      other[k] = is_own ? last : turned[k];
      largest = larger(other[k], largest);
      store(other[k], out + k * kMarginLanes);
      label -= 1;
    }
#pragma GCC unroll 2
    for (int k = 0; k < kUsed; k += 2)  // unordered: one of the two is NaN
      undefined |= unordered(other[k], other[k + 1 < kUsed ? k + 1 : k]);
  }
};

// z[c, lane] = v_c of row `lane`, c < n_classes - 1: its logits without that of its label, whose
// place the last class takes; correct = the logit of the label; largest = the largest v_c, NaN
// where one is.
//   rows (kMarginLanes, n_classes), and at most 3 floats more are read
//   z (n_classes - 1, kMarginLanes)
// n_classes = 4 k + kTail, 1 <= kTail <= 4. The last classes come first, as one takes places.
template <int W, int kTail>
PYATTR_INLINE void turn_lanes(const float* rows, std::size_t n_classes, const std::int64_t* label,
                              float* z, float* correct, float* largest) {
  using V = typename TurnLanes<W>::Floats;
  for (std::size_t lane = 0; lane < kMarginLanes; lane += W) {
    const float* const at = rows + lane * n_classes;
    TurnState<W> state;
    V tail[4], turned[4];
    std::int32_t own[W];
    for (int k = 0; k < W; ++k) own[k] = static_cast<std::int32_t>(label[lane + k]);
    std::memcpy(&state.label, own, sizeof own);
    turn_tile<W, kTail>(at + n_classes - kTail, n_classes, tail);
    state.correct = state.last = tail[kTail - 1];
    std::size_t c = 0;
    for (; c + kTail < n_classes; c += 4) {
      turn_tile<W, 4>(at + c, n_classes, turned);
      state.template take<4>(turned, z + c * kMarginLanes + lane);
    }
    state.template take<kTail - 1>(tail, z + c * kMarginLanes + lane);
    const V top = state.largest;
    store(state.correct, correct + lane);
    store(state.undefined ? top + std::numeric_limits<float>::quiet_NaN() : top, largest + lane);
  }
}

template <int W>
PYATTR_INLINE void turn_lanes(const float* rows, std::size_t n_classes, const std::int64_t* label,
                              float* z, float* correct, float* largest) {
  switch (n_classes % 4) {
    case 1:
      return turn_lanes<W, 1>(rows, n_classes, label, z, correct, largest);
    case 2:
      return turn_lanes<W, 2>(rows, n_classes, label, z, correct, largest);
    case 3:
      return turn_lanes<W, 3>(rows, n_classes, label, z, correct, largest);
    default:
      return turn_lanes<W, 4>(rows, n_classes, label, z, correct, largest);
  }
}

PYATTR_LEVEL_3 inline void turn_by_8(const float* rows, std::size_t n_classes,
                                     const std::int64_t* label, float* z, float* correct,
                                     float* largest) {
  if (n_classes == 10)  // as it is most often: without loops a tenth faster
    turn_lanes<8, 2>(rows, 10, label, z, correct, largest);
  else
    turn_lanes<8>(rows, n_classes, label, z, correct, largest);
}
inline void turn_by_4(const float* rows, std::size_t n_classes, const std::int64_t* label, float* z,
                      float* correct, float* largest) {
  turn_lanes<4>(rows, n_classes, label, z, correct, largest);
}

inline void turn_rows(bool wide, const float* rows, std::size_t n_classes,
                      const std::int64_t* label, float* z, float* correct, float* largest) {
  (wide ? turn_by_8 : turn_by_4)(rows, n_classes, label, z, correct, largest);
}

#endif  // !__CUDACC__

}  // namespace pyattr

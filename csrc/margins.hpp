// Margins of a batch of logits: how right a model is about each target, in one number.
//
//   logits  (n_rows, n_classes) float32, float16 or bfloat16 (both converted exactly), row r
//           belonging to target r % n_targets
//   labels  (n_targets,) int64 in [0, n_classes), n_classes >= 2
//   out     (n_rows,) float32
//
// With z the row, y its label, M = max of z_c over c != y:
//   kLogsumexp      g = z_y - log(sum of exp(z_c) over c != y)   = log p_y / (1 - p_y)   (TRAK)
//   kMax            z_y - M (Datamodels) kProbability    p_y = softmax(z)_y = 1 / (1 + exp(-g))
//   kCrossEntropy   -log p_y = max(-g, 0) + log(1 + exp(-|g|))
//   kCorrect        1 if z_y > M, else 0 (a tie is wrong)
//
// Accumulator and order.  kMarginLanes rows run side by side, one a lane. exp(z_c - M) is float32
// (polynomial, 2 ulp, 0 below exp(-87)); classes 4k .. 4k + 3 are added in float32, as two pairs,
// and the fours in float64, first to last; the rest is float64, rounded once to float32.
// With u = 2^-24: |g - exact| <= (5.2 + mean) u + half an ulp of g, where `mean`, that of |z_c - M|
// with weights exp(z_c - M), is what rounding z_c - M can cost: 1.1 for 10 classes and 4.5 for
// 1,000 at the worst. So 4e-7 up to 20 classes, 6e-7 for 1,000; and less than 4e-7 for roundings of
// random sign. The relative error of p and of the cross-entropy is at most 1e-7 more than that, and
// half an ulp (cross-entropies below 1e-38 may be 0). Neither exp overflows: arguments are <= 0.
// Any logits within the float32 range are fine. Infinities give the limits (z_y = -inf: -inf; all
// others -inf: +inf; a difference of equal infinities: NaN); a NaN logit gives NaN. No libm: the
// same bits on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "packed_matmul.hpp"
#include "simd.hpp"

namespace pyattr {

enum class MarginKind : int { kLogsumexp, kMax, kProbability, kCrossEntropy, kCorrect };

constexpr int kMarginLanes = 64;

// The functions below act on one lane and have no branches, so that loops over lanes become SIMD.

template <typename To, typename From>
PYATTR_HD To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

// IEEE half and bfloat16 bits as float32, exact.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

PYATTR_HD float to_float(float value) { return value; }

PYATTR_HD float to_float(BFloat16 value) {
  return bits_as<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

PYATTR_HD float to_float(Float16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFFu) << 13;
  const std::uint32_t normal = magnitude + 0x38000000u;  // exponent bias 127 instead of 15
  // Below 2^-14 the mantissa counts units of 2^-24: put 2^-14 before it and take it away again.
  const std::uint32_t small =
      bits_as<std::uint32_t>(bits_as<float>(magnitude + 0x38800000u) - 6.103515625e-05f);
  const std::uint32_t large = magnitude | 0x7F800000u;  // infinity or NaN
  const std::uint32_t finite = magnitude < 0x00800000u ? small : normal;
  return bits_as<float>(sign | (magnitude < 0x0F800000u ? finite : large));
}

// exp(x) for x <= 0 (or -inf): x = n log 2 + r, minimax polynomial of degree 5 in r, times 2^n.
PYATTR_HD float exp_f32(float x) {
  constexpr float kToBits = 12582912.0f + 127.0f;  // the low mantissa bits hold n + 127
  const float shifted = x * 1.44269504f + kToBits;
  const float n = shifted - kToBits;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // n * 0.693359375 is exact
  float poly = r * 8.2902722e-3f + 4.1898161e-2f;
  poly = poly * r + 1.6667639e-1f;
  poly = poly * r + 4.9999148e-1f;
  poly = poly * r + 9.9999970e-1f;
  poly = poly * r + 1.0f;
  const float scale = bits_as<float>(bits_as<std::uint32_t>(shifted) << 23);
  return x < -87.0f ? 0.0f : poly * scale;
}

// exp(x) for x <= 0 (or -inf) to 1e-11 relative; 0 below exp(-700).
PYATTR_HD double exp_f64(double x) {
  const double shifted = x * 1.4426950408889634 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const double r = (x - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
  double poly = r * (1.0 / 362880) + 1.0 / 40320;
  poly = poly * r + 1.0 / 5040;
  poly = poly * r + 1.0 / 720;
  poly = poly * r + 1.0 / 120;
  poly = poly * r + 1.0 / 24;
  poly = poly * r + 1.0 / 6;
  poly = poly * r + 0.5;
  poly = (poly * (r * r) + r) + 1.0;
  const double scale =
      bits_as<double>((bits_as<std::uint64_t>(shifted) << 52) + 0x3FF0000000000000u);
  return x < -700.0 ? 0.0 : poly * scale;
}

// log(x) for normal x >= 1, to 1e-9: x = 2^n m, sqrt(1/2) <= m < sqrt(2), log m = 2 artanh(s),
// s = (m - 1) / (m + 1).
PYATTR_HD double log_f64(double x) {
  const std::uint64_t bits = bits_as<std::uint64_t>(x);
  const std::uint64_t n_bits = (bits - 0x3FE6A09E667F3BCDu) >> 52;  // sqrt(1/2) has n = 0
  const double n = bits_as<double>(n_bits | 0x4330000000000000u) - 4503599627370496.0;
  const double m = bits_as<double>(bits - (n_bits << 52));
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double poly = s2 * (1.0 / 9) + 1.0 / 7;
  poly = poly * s2 + 1.0 / 5;
  poly = poly * s2 + 1.0 / 3;
  return n * 0.6931471805599453 + 2.0 * (s + s * s2 * poly);
}

// log(1 + x) for 0 <= x <= 1 with small relative error (Kahan's correction of 1 + x).
PYATTR_HD double log1p_f64(double x) {
  const double u = 1.0 + x;
  return log_f64(u) - ((u - 1.0) - x) / u;
}

// The margin of one row from z_y, the largest other logit M and the sum of exp(z_c - M) over c !=
// y: what finish_margins does to a lane.
PYATTR_HD float finish_margin(MarginKind kind, float correct, float largest, double sum) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (kind == MarginKind::kMax) return correct - largest;
  if (kind == MarginKind::kCorrect) {
    const bool defined = correct == correct && largest == largest;
    const float won = correct > largest ? 1.0f : 0.0f;
    return defined ? won : std::numeric_limits<float>::quiet_NaN();
  }
  const double top = static_cast<double>(largest);
  const double total = top == infinity || top == -infinity ? 1.0 : sum;
  const double margin = (static_cast<double>(correct) - top) - log_f64(total);
  if (kind == MarginKind::kLogsumexp) return static_cast<float>(margin);
  const double tail = exp_f64(margin < 0.0 ? margin : -margin);
  return static_cast<float>(kind == MarginKind::kProbability
                                ? (margin < 0.0 ? tail : 1.0) / (1.0 + tail)
                                : (margin < 0.0 ? -margin : 0.0) + log1p_f64(tail));
}

#if !defined(__CUDACC__)

// The margins of a block from z_y, the largest other logit M and the sum of exp(z_c - M) over c !=
// y (overwritten). One short loop a step: fused, gcc would turn the selects into branches.
template <MarginKind kind>
PYATTR_INLINE void finish_margins(const float* correct, const float* largest, double* sum,
                                  float* out) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  alignas(64) double margin[kMarginLanes], tail[kMarginLanes];
  if (kind == MarginKind::kMax || kind == MarginKind::kCorrect) {
    for (int k = 0; k < kMarginLanes; ++k) {
      const float lead = correct[k] - largest[k];
      const float won = correct[k] > largest[k] ? 1.0f : 0.0f;
      const bool defined = (correct[k] == correct[k]) & (largest[k] == largest[k]);
      const float vote = defined ? won : std::numeric_limits<float>::quiet_NaN();
      out[k] = kind == MarginKind::kMax ? lead : vote;
    }
    return;
  }
  // With an infinite M the sum is meaningless and log-sum-exp is M itself.
  for (int k = 0; k < kMarginLanes; ++k)
    sum[k] = __builtin_fabs(static_cast<double>(largest[k])) == infinity ? 1.0 : sum[k];
  for (int k = 0; k < kMarginLanes; ++k)
    margin[k] =
        (static_cast<double>(correct[k]) - static_cast<double>(largest[k])) - log_f64(sum[k]);
  if (kind == MarginKind::kLogsumexp) {
    for (int k = 0; k < kMarginLanes; ++k) out[k] = static_cast<float>(margin[k]);
    return;
  }
  for (int k = 0; k < kMarginLanes; ++k) tail[k] = exp_f64(-__builtin_fabs(margin[k]));
  for (int k = 0; k < kMarginLanes; ++k)
    out[k] = static_cast<float>(kind == MarginKind::kProbability
                                    ? (margin[k] < 0.0 ? tail[k] : 1.0) / (1.0 + tail[k])
                                    : (margin[k] < 0.0 ? -margin[k] : 0.0) + log1p_f64(tail[k]));
}

// The sums of exp(z_c - M) of a block, z (n_classes rounded up to 4, kMarginLanes) with z_y and
// what is past the last class at -inf. The last four may be two: exp(-inf) adds nothing.
PYATTR_INLINE void sum_exponentials(const float* z, std::size_t n_classes, const float* largest,
                                    double* sum) {
  constexpr std::size_t kNext = kMarginLanes;
  std::size_t c = 0;
  for (int lane = 0; lane < kMarginLanes; ++lane) sum[lane] = 0.0;
  for (; c + 2 < n_classes; c += 4)
    for (int lane = 0; lane < kMarginLanes; ++lane) {
      const float *const at = z + c * kNext + lane, top = largest[lane];
      const float first = exp_f32(at[0] - top) + exp_f32(at[kNext] - top);
      const float second = exp_f32(at[2 * kNext] - top) + exp_f32(at[3 * kNext] - top);
      sum[lane] += static_cast<double>(first + second);
    }
  if (c < n_classes)
    for (int lane = 0; lane < kMarginLanes; ++lane) {
      const float *const at = z + c * kNext + lane, top = largest[lane];
      sum[lane] += static_cast<double>(exp_f32(at[0] - top) + exp_f32(at[kNext] - top));
    }
}

// W floats side by side, a multiple of 4, and the turning of 4 x 4 tiles within each four of them.
template <int W>
struct TurnLanes;
template <>
struct TurnLanes<4> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  static constexpr Ints low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
  static constexpr Ints first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  static PYATTR_INLINE Floats load(const float* row, std::size_t) {
    Floats values;
    std::memcpy(&values, row, sizeof values);
    return values;
  }
};
template <>
struct TurnLanes<8> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef std::int32_t Ints __attribute__((vector_size(32)));
  static constexpr Ints low = {0, 8, 1, 9, 4, 12, 5, 13}, high = {2, 10, 3, 11, 6, 14, 7, 15};
  static constexpr Ints first = {0, 1, 8, 9, 4, 5, 12, 13};
  static constexpr Ints second = {2, 3, 10, 11, 6, 7, 14, 15};
  // Four floats of a row and four of the row four below.
  static PYATTR_INLINE Floats load(const float* row, std::size_t n_classes) {
    TurnLanes<4>::Floats upper, lower;
    std::memcpy(&upper, row, sizeof upper);
    std::memcpy(&lower, row + 4 * n_classes, sizeof lower);
    return __builtin_shufflevector(upper, lower, 0, 1, 2, 3, 4, 5, 6, 7);
  }
};

// z[c, lane] = rows[lane, c], or -inf for c = label[lane] and past the last class; correct = z_y;
// largest = the largest other logit, NaN where one is.
//   rows (kMarginLanes, n_classes), and at most 3 floats more are read
//   z (n_classes rounded up to 4, kMarginLanes)
template <int W>
PYATTR_INLINE void turn_lanes(const float* rows, std::size_t n_classes, const std::int32_t* label,
                              float* z, float* correct, float* largest) {
  using V = typename TurnLanes<W>::Floats;
  using I = typename TurnLanes<W>::Ints;
  using Turn = TurnLanes<W>;
  const V none = V{} - std::numeric_limits<float>::infinity();
  for (std::size_t lane = 0; lane < kMarginLanes; lane += W) {
    V top = none;
    I own{}, undefined{}, labels;
    std::memcpy(&labels, label + lane, sizeof labels);
    for (std::size_t c = 0; c < n_classes; c += 4) {
      const float* const at = rows + lane * n_classes + c;
      const V r0 = Turn::load(at, n_classes), r1 = Turn::load(at + n_classes, n_classes);
      const V r2 = Turn::load(at + 2 * n_classes, n_classes);
      const V r3 = Turn::load(at + 3 * n_classes, n_classes);
      const V low01 = __builtin_shuffle(r0, r1, Turn::low);
      const V low23 = __builtin_shuffle(r2, r3, Turn::low);
      const V high01 = __builtin_shuffle(r0, r1, Turn::high);
      const V high23 = __builtin_shuffle(r2, r3, Turn::high);
      const V turned[4] = {__builtin_shuffle(low01, low23, Turn::first),
                           __builtin_shuffle(low01, low23, Turn::second),
                           __builtin_shuffle(high01, high23, Turn::first),
                           __builtin_shuffle(high01, high23, Turn::second)};
#pragma GCC unroll 4
      for (std::size_t k = 0; k < 4; ++k) {
        V here = none;
        if (c + k < n_classes) {
          const I is_own = labels == static_cast<std::int32_t>(c + k);
          own |= reinterpret_cast<I>(turned[k]) & is_own;
          here = is_own ? none : turned[k];
          top = here > top ? here : top;
          undefined |= here != here;
        }
        std::memcpy(z + (c + k) * kMarginLanes + lane, &here, sizeof here);
      }
    }
    top = undefined ? top + std::numeric_limits<float>::quiet_NaN() : top;
    std::memcpy(correct + lane, &own, sizeof own);
    std::memcpy(largest + lane, &top, sizeof top);
  }
}

// Whether vectors of 8 floats are whole registers here.
inline bool wide_turning() {
#if defined(__x86_64__) && !defined(PYATTR_NO_CLONES)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

PYATTR_CLONES
static void turn_rows(bool wide, const float* rows, std::size_t n_classes,
                      const std::int32_t* label, float* z, float* correct, float* largest) {
  if (wide)
    turn_lanes<8>(rows, n_classes, label, z, correct, largest);
  else
    turn_lanes<4>(rows, n_classes, label, z, correct, largest);
}

// label[lane] = labels[(target + lane) % n_targets]; returns the next target.
PYATTR_INLINE std::size_t take_labels(const std::int64_t* labels, std::size_t n_targets,
                                      std::size_t target, std::int32_t* label) {
  if (target + kMarginLanes < n_targets) {
    for (int lane = 0; lane < kMarginLanes; ++lane)
      label[lane] = static_cast<std::int32_t>(labels[target + lane]);
    return target + kMarginLanes;
  }
  for (int lane = 0; lane < kMarginLanes; ++lane) {
    label[lane] = static_cast<std::int32_t>(labels[target]);
    target = target + 1 == n_targets ? 0 : target + 1;
  }
  return target;
}

// Rows rows.begin .. rows.end - 1.  z: scratch ((n_classes rounded up to 4) * kMarginLanes),
// staged: scratch (n_classes * kMarginLanes + 4), 64-byte aligned.
template <MarginKind kind, typename Logit>
PYATTR_INLINE void margins_of_kind(const Logit* logits, std::size_t n_classes,
                                   const std::int64_t* labels, std::size_t n_targets, Range rows,
                                   float* z, float* staged, float* out) {
  alignas(64) float correct[kMarginLanes], largest[kMarginLanes], block[kMarginLanes];
  alignas(64) double sum[kMarginLanes] = {};
  alignas(64) std::int32_t label[kMarginLanes];
  const bool wide = wide_turning();
  std::size_t target = rows.begin % n_targets;
  for (std::size_t first = rows.begin; first < rows.end; first += kMarginLanes) {
    const std::size_t used = least(kMarginLanes, rows.end - first);
    const Logit* const own = logits + first * n_classes;
    target = take_labels(labels, n_targets, target, label);
    // The last block is staged too: turn_rows reads whole blocks and a little more.
    if (sizeof(Logit) == sizeof(float) && first + kMarginLanes < rows.end) {
      turn_rows(wide, reinterpret_cast<const float*>(own), n_classes, label, z, correct, largest);
    } else {
      for (std::size_t k = 0; k < used * n_classes; ++k) staged[k] = to_float(own[k]);
      std::memset(staged + used * n_classes, 0,
                  ((kMarginLanes - used) * n_classes + 4) * sizeof(float));
      turn_rows(wide, staged, n_classes, label, z, correct, largest);
    }
    if (kind != MarginKind::kMax && kind != MarginKind::kCorrect)
      sum_exponentials(z, n_classes, largest, sum);
    finish_margins<kind>(correct, largest, sum, block);
    std::memcpy(out + first, block, used * sizeof(float));
  }
}

template <typename Logit>
PYATTR_INLINE void margins_of_type(const Logit* logits, std::size_t n_classes,
                                   const std::int64_t* labels, std::size_t n_targets,
                                   MarginKind kind, Range rows, float* z, float* staged,
                                   float* out) {
  switch (kind) {
    case MarginKind::kLogsumexp:
      return margins_of_kind<MarginKind::kLogsumexp>(logits, n_classes, labels, n_targets, rows, z,
                                                     staged, out);
    case MarginKind::kMax:
      return margins_of_kind<MarginKind::kMax>(logits, n_classes, labels, n_targets, rows, z,
                                               staged, out);
    case MarginKind::kProbability:
      return margins_of_kind<MarginKind::kProbability>(logits, n_classes, labels, n_targets, rows,
                                                       z, staged, out);
    case MarginKind::kCrossEntropy:
      return margins_of_kind<MarginKind::kCrossEntropy>(logits, n_classes, labels, n_targets, rows,
                                                        z, staged, out);
    case MarginKind::kCorrect:
      return margins_of_kind<MarginKind::kCorrect>(logits, n_classes, labels, n_targets, rows, z,
                                                   staged, out);
  }
}

PYATTR_CLONES
static void margins_rows(const float* logits, std::size_t n_classes, const std::int64_t* labels,
                         std::size_t n_targets, MarginKind kind, Range rows, float* z,
                         float* staged, float* out) {
  margins_of_type(logits, n_classes, labels, n_targets, kind, rows, z, staged, out);
}

PYATTR_CLONES
static void margins_rows(const Float16* logits, std::size_t n_classes, const std::int64_t* labels,
                         std::size_t n_targets, MarginKind kind, Range rows, float* z,
                         float* staged, float* out) {
  margins_of_type(logits, n_classes, labels, n_targets, kind, rows, z, staged, out);
}

PYATTR_CLONES
static void margins_rows(const BFloat16* logits, std::size_t n_classes, const std::int64_t* labels,
                         std::size_t n_targets, MarginKind kind, Range rows, float* z,
                         float* staged, float* out) {
  margins_of_type(logits, n_classes, labels, n_targets, kind, rows, z, staged, out);
}

template <typename Logit>
void margins(const Logit* logits, std::size_t n_classes, const std::int64_t* labels,
             std::size_t n_targets, MarginKind kind, Range rows, float* out) {
  Scratch<float> z((n_classes + 3) / 4 * 4 * kMarginLanes), staged(n_classes * kMarginLanes + 4);
  margins_rows(logits, n_classes, labels, n_targets, kind, rows, z.get(), staged.get(), out);
}

#endif  // !__CUDACC__

}  // namespace pyattr

// Margins of a batch of logits: how right a model is about each target, in one number.
//
//   logits  (n_rows, n_classes) float32, row r belonging to target r % n_targets
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
// (polynomial, 2 ulp, 0 below exp(-87)); the sum over classes is float64, class 0 first; the rest
// is float64, rounded once to float32.  |g - exact| <= 4e-7 + half an ulp of g; relative error of p
// and of the cross-entropy <= 5e-7 + half an ulp (cross-entropies below 1e-38 may be 0). Neither
// exp overflows: arguments are <= 0. Any logits within the float32 range are fine. Infinities give
// the limits (z_y = -inf: -inf; all others -inf: +inf; a difference of equal infinities: NaN); a
// NaN logit gives NaN. No libm: the same bits on every machine.
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
PYATTR_INLINE To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

// exp(x) for x <= 0 (or -inf): x = n log 2 + r, degree-7 polynomial in r, scaled by 2^n.
PYATTR_INLINE float exp_f32(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // low mantissa bits hold n
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // n * 0.693359375 is exact
  float poly = r * 1.9875691500e-4f + 1.3981999507e-3f;
  poly = poly * r + 8.3334519073e-3f;
  poly = poly * r + 4.1665795894e-2f;
  poly = poly * r + 1.6666665459e-1f;
  poly = poly * r + 5.0000001201e-1f;
  poly = (poly * (r * r) + r) + 1.0f;
  const float scale = bits_as<float>((bits_as<std::uint32_t>(shifted) << 23) + 0x3F800000u);
  return x < -87.0f ? 0.0f : poly * scale;
}

// exp(x) for x <= 0 (or -inf) to 1e-11 relative; 0 below exp(-700).
PYATTR_INLINE double exp_f64(double x) {
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

// log(x) for normal x >= 1, to 1e-12: x = 2^n m, sqrt(1/2) <= m < sqrt(2), log m = 2 artanh(s),
// s = (m - 1) / (m + 1).
PYATTR_INLINE double log_f64(double x) {
  const std::uint64_t bits = bits_as<std::uint64_t>(x);
  const std::uint64_t n_bits = (bits - 0x3FE6A09E667F3BCDu) >> 52;  // sqrt(1/2) has n = 0
  const double n = bits_as<double>(n_bits | 0x4330000000000000u) - 4503599627370496.0;
  const double m = bits_as<double>(bits - (n_bits << 52));
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double poly = s2 * (1.0 / 13) + 1.0 / 11;
  poly = poly * s2 + 1.0 / 9;
  poly = poly * s2 + 1.0 / 7;
  poly = poly * s2 + 1.0 / 5;
  poly = poly * s2 + 1.0 / 3;
  return n * 0.6931471805599453 + 2.0 * (s + s * s2 * poly);
}

// log(1 + x) for 0 <= x <= 1 with small relative error (Kahan's correction of 1 + x).
PYATTR_INLINE double log1p_f64(double x) {
  const double u = 1.0 + x;
  return log_f64(u) - ((u - 1.0) - x) / u;
}

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

// One block of kMarginLanes rows, z (n_classes, kMarginLanes) with z_y taken out (set to -inf).
template <MarginKind kind>
PYATTR_INLINE void margin_block(const float* z, std::size_t n_classes, const float* correct,
                                float* out) {
  alignas(64) float largest[kMarginLanes];
  alignas(64) double sum[kMarginLanes] = {};
  for (int lane = 0; lane < kMarginLanes; ++lane) largest[lane] = z[lane];
  for (std::size_t c = 1; c < n_classes; ++c)
    for (int lane = 0; lane < kMarginLanes; ++lane) {
      const float here = z[c * kMarginLanes + lane], top = largest[lane];
      const float larger = here > top ? here : top;  // a NaN in `largest` stays
      largest[lane] = here != here ? here : larger;
    }
  if (kind != MarginKind::kMax && kind != MarginKind::kCorrect)
    for (std::size_t c = 0; c < n_classes; ++c)
      for (int lane = 0; lane < kMarginLanes; ++lane)
        sum[lane] += static_cast<double>(exp_f32(z[c * kMarginLanes + lane] - largest[lane]));
  finish_margins<kind>(correct, largest, sum, out);
}

// z[c, lane] = row[lane][c], in tiles of classes that stay in L1. Not a clone on purpose: at the
// AVX-512 level gcc makes scatters of it, three times slower than scalar moves.
#if defined(__GNUC__)
__attribute__((noinline))
#endif
static void gather_rows(const float* const row[kMarginLanes], std::size_t n_classes, float* z) {
  constexpr std::size_t kTile = 64;
  for (std::size_t tile = 0; tile < n_classes; tile += kTile) {
    const std::size_t end = least(tile + kTile, n_classes);
    for (int lane = 0; lane < kMarginLanes; ++lane)
      for (std::size_t c = tile; c < end; ++c) z[c * kMarginLanes + lane] = row[lane][c];
  }
}

// Rows rows.begin .. rows.end - 1.  z: scratch (n_classes, kMarginLanes), 64-byte aligned.
template <MarginKind kind>
PYATTR_INLINE void margins_of_kind(const float* logits, std::size_t n_classes,
                                   const std::int64_t* labels, std::size_t n_targets, Range rows,
                                   float* z, float* out) {
  alignas(64) float correct[kMarginLanes], block[kMarginLanes];
  std::size_t target = rows.begin % n_targets;
  for (std::size_t first = rows.begin; first < rows.end; first += kMarginLanes) {
    const std::size_t used = least(kMarginLanes, rows.end - first);
    const float* row[kMarginLanes];
    for (std::size_t lane = 0; lane < kMarginLanes; ++lane)  // past the end: the last row again
      row[lane] = logits + (first + least(lane, used - 1)) * n_classes;
    gather_rows(row, n_classes, z);
    for (std::size_t lane = 0; lane < kMarginLanes; ++lane) {
      float* own = z + static_cast<std::size_t>(labels[target]) * kMarginLanes + lane;
      correct[lane] = *own;
      *own = -std::numeric_limits<float>::infinity();
      if (++target == n_targets) target = 0;
    }
    margin_block<kind>(z, n_classes, correct, block);
    std::memcpy(out + first, block, used * sizeof(float));
  }
}

PYATTR_CLONES
static void margins_rows(const float* logits, std::size_t n_classes, const std::int64_t* labels,
                         std::size_t n_targets, MarginKind kind, Range rows, float* z, float* out) {
  switch (kind) {
    case MarginKind::kLogsumexp:
      return margins_of_kind<MarginKind::kLogsumexp>(logits, n_classes, labels, n_targets, rows, z,
                                                     out);
    case MarginKind::kMax:
      return margins_of_kind<MarginKind::kMax>(logits, n_classes, labels, n_targets, rows, z, out);
    case MarginKind::kProbability:
      return margins_of_kind<MarginKind::kProbability>(logits, n_classes, labels, n_targets, rows,
                                                       z, out);
    case MarginKind::kCrossEntropy:
      return margins_of_kind<MarginKind::kCrossEntropy>(logits, n_classes, labels, n_targets, rows,
                                                        z, out);
    case MarginKind::kCorrect:
      return margins_of_kind<MarginKind::kCorrect>(logits, n_classes, labels, n_targets, rows, z,
                                                   out);
  }
}

inline void margins(const float* logits, std::size_t n_classes, const std::int64_t* labels,
                    std::size_t n_targets, MarginKind kind, Range rows, float* out) {
  Scratch<float> z(n_classes * kMarginLanes);
  margins_rows(logits, n_classes, labels, n_targets, kind, rows, z.get(), out);
}

}  // namespace pyattr

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

#include "elementary.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "turn_rows.hpp"

namespace pyattr {

enum class MarginKind : int { kLogsumexp, kMax, kProbability, kCrossEntropy, kCorrect };

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
  const bool wide = register_width() >= 8;
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

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
// Accumulator and order.  kMarginLanes rows run side by side, one a lane; the last class takes y's
// place, so that v_0 .. v_{n-2} are the others. exp(v_c - M) is float32 (exp_of_minus); v_4k ..
// v_4k+3 are added in float32, as two pairs, and the fours in float64, first to last; the rest is
// float64, rounded once to float32. With u = 2^-24 and w_c = exp(v_c - M) / sum,
//   |g - exact| <= (2 + sum of w_c (3.2 + 1.23 |v_c - M|) over c with v_c < M) u + half an ulp of
//   g:
// 2 u for the additions; per exponential 3.2 u, and 1.23 u |v_c - M| for rounding v_c - M and for
// log2 e. At most 3.7e-7 up to 20 classes and 6.1e-7 for 1,000; and less than 4e-7 for roundings of
// random sign. The relative error of p and of the cross-entropy is at most 1e-7 more than that, and
// half an ulp (cross-entropies below 1e-38 may be 0). Neither exp overflows: arguments are <= 0.
// Any logits within the float32 range are fine. Infinities give the limits (z_y = -inf: -inf; all
// others -inf: +inf; a difference of equal infinities: NaN); a NaN logit gives NaN. No libm but
// fma, which is exact: the same bits on every machine.
//
// Limit.  Operations of AVX2 for 8 rows of 10 classes: 91 to turn them and to find z_y and M, 117
// for 9 exponentials and their sums, 15 to bring the sums to float64, 58 for the logarithm and the
// difference. A Zen 4 core begins 4 a cycle: 23 cycles for kMax and 70 for kLogsumexp, 0.8 and 2.4
// ns a row at 3.7 GHz, where reading its 40 bytes at 36 GB/s takes 1.1. So kMax can keep up with
// memory, and kLogsumexp with less than half of it; found in cache a row takes 1.3 and 4.0 ns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "elementary.hpp"
#include "exponential.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "turn_rows.hpp"

namespace pyattr {

enum class MarginKind : int { kLogsumexp, kMax, kProbability, kCrossEntropy, kCorrect };

// The margin of one row from z_y, the largest other logit M and the sum of exp(z_c - M) over c !=
// y: what finish_margins does to a lane.
PYATTR_HD float finish_margin(MarginKind kind, float correct, float largest, double sum) {
  if (kind == MarginKind::kMax) return correct - largest;
  if (kind == MarginKind::kCorrect) {
    const bool defined = correct == correct && largest == largest;
    const float won = correct > largest ? 1.0f : 0.0f;
    return defined ? won : std::numeric_limits<float>::quiet_NaN();
  }
  // With an infinite M the sum may be NaN, and log_f64 of it any finite number: M decides.
  const double margin =
      (static_cast<double>(correct) - static_cast<double>(largest)) - log_f64(sum);
  if (kind == MarginKind::kLogsumexp) return static_cast<float>(margin);
  const double tail = exp_f64(margin < 0.0 ? margin : -margin);
  return static_cast<float>(kind == MarginKind::kProbability
                                ? (margin < 0.0 ? tail : 1.0) / (1.0 + tail)
                                : (margin < 0.0 ? -margin : 0.0) + log1p_f64(tail));
}

// The sum of n <= 4 exponentials, as two pairs.
template <int n, typename T>
PYATTR_HD T sum_of_exps(const T* x) {
  if constexpr (n == 1) return exp_of_minus(x[0]);
  if constexpr (n == 2) return exp_of_minus(x[0]) + exp_of_minus(x[1]);
  if constexpr (n > 2) return sum_of_exps<2>(x) + sum_of_exps<n - 2>(x + 2);
}

// exp(v_c - M) + ... of n others, in float64.
template <int n, typename Others>
PYATTR_HD double sum_of_others(const Others& others, std::size_t c, float largest) {
  float x[n];
  for (int k = 0; k < n; ++k) x[k] = largest - others(c + k);
  return static_cast<double>(sum_of_exps<n>(x));
}

// The margin of one row; others(c) is v_c, 0 <= c < n_others.
template <typename Others>
PYATTR_HD float margin_of_row(MarginKind kind, float correct, const Others& others,
                              std::size_t n_others) {
  float largest = others(0);
  for (std::size_t c = 1; c < n_others; ++c) {
    const float here = others(c);
    largest = here != here || here > largest ? here : largest;  // a NaN in `largest` stays
  }
  double sum = 0.0;
  if (kind != MarginKind::kMax && kind != MarginKind::kCorrect) {
    std::size_t c = 0;
    for (; c + 4 <= n_others; c += 4) sum += sum_of_others<4>(others, c, largest);
    if (n_others - c == 3) sum += sum_of_others<3>(others, c, largest);
    if (n_others - c == 2) sum += sum_of_others<2>(others, c, largest);
    if (n_others - c == 1) sum += sum_of_others<1>(others, c, largest);
  }
  return finish_margin(kind, correct, largest, sum);
}

// Whether all labels are in [0, n_classes); no branches, so that looking costs little.
PYATTR_CLONES
static bool labels_within(const std::int64_t* label, std::size_t n, std::size_t n_classes) {
  std::uint64_t signs = 0;  // the highest bit: whether a label or n_classes - 1 - label is negative
  for (std::size_t k = 0; k < n; ++k)
    signs |= static_cast<std::uint64_t>(label[k]) |
             (n_classes - 1 - static_cast<std::uint64_t>(label[k]));
  return signs >> 63 == 0;
}

#if !defined(__CUDACC__)

// -- a block of kMarginLanes rows: z (n_others, kMarginLanes), correct = z_y, largest = M
// ----------

PYATTR_INLINE void find_leads(MarginKind kind, const float* correct, const float* largest,
                              float* out) {
  for (int k = 0; k < kMarginLanes; ++k) {
    const float lead = correct[k] - largest[k];
    const float won = correct[k] > largest[k] ? 1.0f : 0.0f;
    const bool defined = (correct[k] == correct[k]) & (largest[k] == largest[k]);
    const float vote = defined ? won : std::numeric_limits<float>::quiet_NaN();
    out[k] = kind == MarginKind::kMax ? lead : vote;
  }
}

// part[lane] = the sum of the exponentials of n <= 4 others, from z on.
template <typename V, int n>
PYATTR_INLINE void sum_part(const float* z, const float* largest, float* part) {
  for (std::size_t lane = 0; lane < kMarginLanes; lane += sizeof(V) / sizeof(float)) {
    const V top = load<V>(largest + lane);
    V x[n];
    for (int k = 0; k < n; ++k) x[k] = top - load<V>(z + k * kMarginLanes + lane);
    store(sum_of_exps<n>(x), part + lane);
  }
}

// Parts first, then their sums in float64: together they would need more registers than there are.
template <typename V>
PYATTR_INLINE void sum_exponentials(const float* z, std::size_t n_others, const float* largest,
                                    double* sum) {
  constexpr std::size_t kParts = 4;
  alignas(64) float part[kParts][kMarginLanes];
  for (int lane = 0; lane < kMarginLanes; ++lane) sum[lane] = 0.0;
  for (std::size_t c = 0; c < n_others;) {
    std::size_t n_parts = 0;
    for (; n_parts < kParts && c < n_others; ++n_parts, c += 4) {
      const float* const from = z + c * kMarginLanes;
      if (n_others - c >= 4)
        sum_part<V, 4>(from, largest, part[n_parts]);
      else if (n_others - c == 3)
        sum_part<V, 3>(from, largest, part[n_parts]);
      else if (n_others - c == 2)
        sum_part<V, 2>(from, largest, part[n_parts]);
      else
        sum_part<V, 1>(from, largest, part[n_parts]);
    }
    for (std::size_t p = 0; p < n_parts; ++p)
      for (int lane = 0; lane < kMarginLanes; ++lane)
        sum[lane] += static_cast<double>(part[p][lane]);
  }
}

// finish_margin of each lane. One short loop a step: fused, gcc would turn the selects into
// branches.
PYATTR_INLINE void finish_margins(MarginKind kind, const float* correct, const float* largest,
                                  const double* sum, float* out) {
  alignas(64) double margin[kMarginLanes], tail[kMarginLanes];
  for (int k = 0; k < kMarginLanes; ++k)
    margin[k] =
        (static_cast<double>(correct[k]) - static_cast<double>(largest[k])) - log_f64(sum[k]);
  if (kind == MarginKind::kLogsumexp) {
    for (int k = 0; k < kMarginLanes; ++k) out[k] = static_cast<float>(margin[k]);
    return;
  }
  for (int k = 0; k < kMarginLanes; ++k) tail[k] = exp_f64(-__builtin_fabs(margin[k]));
  if (kind == MarginKind::kProbability)
    for (int k = 0; k < kMarginLanes; ++k)
      out[k] = static_cast<float>((margin[k] < 0.0 ? tail[k] : 1.0) / (1.0 + tail[k]));
  else
    for (int k = 0; k < kMarginLanes; ++k)
      out[k] = static_cast<float>((margin[k] < 0.0 ? -margin[k] : 0.0) + log1p_f64(tail[k]));
}

PYATTR_CLONES
static void finish_block(bool wide, MarginKind kind, const float* z, std::size_t n_others,
                         const float* correct, const float* largest, float* out) {
  alignas(64) double sum[kMarginLanes];
  if (kind == MarginKind::kMax || kind == MarginKind::kCorrect)
    return find_leads(kind, correct, largest, out);
  if (wide)
    sum_exponentials<Floats8>(z, n_others, largest, sum);
  else
    sum_exponentials<Floats4>(z, n_others, largest, sum);
  finish_margins(kind, correct, largest, sum, out);
}

// -- rows in their order
// ---------------------------------------------------------------------------

PYATTR_CLONES
static void to_floats(const Float16* values, std::size_t n, float* out) {
  for (std::size_t k = 0; k < n; ++k) out[k] = to_float(values[k]);
}
PYATTR_CLONES
static void to_floats(const BFloat16* values, std::size_t n, float* out) {
  for (std::size_t k = 0; k < n; ++k) out[k] = to_float(values[k]);
}
inline void to_floats(const float* values, std::size_t n, float* out) {
  std::memcpy(out, values, n * sizeof(float));
}

// The labels of a block of n rows, the first of which belongs to `target`: where they lie, or a
// copy where they wrap around or are fewer than kMarginLanes, with zeros for the rest.
inline const std::int64_t* labels_of(const std::int64_t* labels, std::size_t n_targets,
                                     std::size_t target, std::size_t n, std::int64_t* copy) {
  if (n == kMarginLanes && target + n <= n_targets) return labels + target;
  for (std::size_t k = 0; k < kMarginLanes; ++k) {
    copy[k] = k < n ? labels[target] : 0;
    target = target + 1 == n_targets ? 0 : target + 1;
  }
  return copy;
}

// Rows rows.begin .. rows.end - 1. Returns false, and may leave rows undone, if a label of these
// rows is not in [0, n_classes).
template <typename Logit>
bool margins(const Logit* logits, std::size_t n_classes, const std::int64_t* labels,
             std::size_t n_targets, MarginKind kind, Range rows, float* out) {
  Scratch<float> z((n_classes - 1) * kMarginLanes), staged(n_classes * kMarginLanes + 4);
  alignas(64) float block[kMarginLanes], correct[kMarginLanes], largest[kMarginLanes];
  std::int64_t copy[kMarginLanes];
  const bool wide = register_width() >= 8;
  for (std::size_t first = rows.begin; first < rows.end; first += kMarginLanes) {
    const std::size_t used = least(kMarginLanes, rows.end - first);
    const std::int64_t* const label = labels_of(labels, n_targets, first % n_targets, used, copy);
    if (!labels_within(label, kMarginLanes, n_classes)) return false;
    const float* own = reinterpret_cast<const float*>(logits + first * n_classes);
    // The last block is staged too: turn_rows reads whole blocks and a little more.
    if (sizeof(Logit) != sizeof(float) || first + kMarginLanes >= rows.end) {
      to_floats(logits + first * n_classes, used * n_classes, staged.get());
      std::memset(staged.get() + used * n_classes, 0,
                  ((kMarginLanes - used) * n_classes + 4) * sizeof(float));
      own = staged.get();
    }
    turn_rows(wide, own, n_classes, label, z.get(), correct, largest);
    finish_block(wide, kind, z.get(), n_classes - 1, correct, largest,
                 used == kMarginLanes ? out + first : block);
    if (used < kMarginLanes) std::memcpy(out + first, block, used * sizeof(float));
  }
  return true;
}

#endif  // !__CUDACC__

}  // namespace pyattr

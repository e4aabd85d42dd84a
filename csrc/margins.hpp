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
// place, so that v_0 .. v_{n-2} are the others. exp(v_c - M) is float32 (exp_of_minus); those of
// v_16k .. v_16k+15 are added in float32, two by two, the sixteens in float64, first to last, and
// the sum is rounded to float32. kLogsumexp is (z_y - M) - log(sum) in float32 (log_from_one), the
// kinds after it take float64 from the sum on, so that a small p keeps its relative error. With
// u = 2^-24 and w_c = exp(v_c - M) / sum,
//   |g - exact| <= (6.2 + 2.05 log(sum) + sum of w_c (3.2 + 1.23 |v_c - M|) over c with v_c < M) u
//                  + 2 u |g|:
// 5 u for the additions; per exponential 3.2 u, and 1.23 u |v_c - M| for rounding v_c - M and for
// log2 e; 1.2 u for the polynomial of the logarithm; and a rounding each of z_y - M, of the
// logarithm and of g. Without 2 u |g| that is at most 9.1e-7 up to 20 classes and 1.41e-6 for
// 1,000, and less than 4e-7 for roundings of random sign. The relative error of p and of the
// cross-entropy is at most 7e-7 for 20 classes and 1.1e-6 for 1,000 (cross-entropies below 1e-38
// may be 0). Neither exp overflows: arguments are <= 0. Any logits within the float32 range are
// fine. Infinities give the limits (z_y = -inf: -inf; all others -inf: +inf; a difference of equal
// infinities: NaN); a NaN logit gives NaN. No libm but fma, which is exact: the same bits on every
// machine.
//
// Limit.  Operations of AVX2 for 8 rows of 10 classes: 91 to turn them and to find z_y and M, 116
// for 9 exponentials and their sum, 17 for the logarithm and the difference. A Zen 4 core begins 4
// simple operations a cycle, but 2.7 of the mixture that an exponential is (a fused multiply-add
// reads its third number through an adder's port; measured on independent ones): 25 cycles for kMax
// and 75 for kLogsumexp, 0.8 and 2.5 ns a row at 3.7 GHz, where reading its 40 bytes at 36 GB/s
// takes 1.1. So kMax can keep up with memory, and kLogsumexp with less than half of it; found in
// cache a row takes 1.3 and 3.0 ns, and 2.7 with AVX-512.
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
PYATTR_HD float finish_margin(MarginKind kind, float correct, float largest, float sum) {
  if (kind == MarginKind::kMax) return correct - largest;
  if (kind == MarginKind::kCorrect) {
    const bool defined = correct == correct && largest == largest;
    const float won = correct > largest ? 1.0f : 0.0f;
    return defined ? won : std::numeric_limits<float>::quiet_NaN();
  }
  // With an infinite M the sum may be NaN, and the logarithm of it any finite number: M decides.
  if (kind == MarginKind::kLogsumexp) return (correct - largest) - log_from_one(sum);
  const double margin = (static_cast<double>(correct) - static_cast<double>(largest)) -
                        log_f64(static_cast<double>(sum));
  const double tail = exp_f64(margin < 0.0 ? margin : -margin);
  return static_cast<float>(kind == MarginKind::kProbability
                                ? (margin < 0.0 ? tail : 1.0) / (1.0 + tail)
                                : (margin < 0.0 ? -margin : 0.0) + log1p_f64(tail));
}

// exp(x_c - top) + ... of n <= 16 numbers from c on, x(c) being x_c: those of the largest power of
// two below n, halved again and again, and the rest.
template <int n, typename T, typename Numbers>
PYATTR_HD T sum_of_exps(const Numbers& x, std::size_t c, T top) {
  constexpr int kFirst = n > 8 ? 8 : n > 4 ? 4 : n > 2 ? 2 : 1;
  if constexpr (n == 1)
    return exp_of_minus(top - x(c));
  else
    return sum_of_exps<kFirst>(x, c, top) + sum_of_exps<n - kFirst>(x, c + kFirst, top);
}

// The same, where n - c, or 16 if it is more, is the number.
template <typename T, typename Numbers>
PYATTR_HD T sum_of_sixteen(const Numbers& x, std::size_t c, std::size_t n, T top) {
  T four[4] = {T{}, T{}, T{}, T{}};  // adding zeros changes nothing
  for (int k = 0; k < 4 && c < n; ++k, c += 4) {
    if (n - c >= 4)
      four[k] = sum_of_exps<4>(x, c, top);
    else if (n - c == 3)
      four[k] = sum_of_exps<3>(x, c, top);
    else if (n - c == 2)
      four[k] = sum_of_exps<2>(x, c, top);
    else
      four[k] = sum_of_exps<1>(x, c, top);
  }
  return (four[0] + four[1]) + (four[2] + four[3]);
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
  if (kind == MarginKind::kMax || kind == MarginKind::kCorrect)
    return finish_margin(kind, correct, largest, 1.0f);
  double sum = 0.0;
  for (std::size_t c = 0; c < n_others; c += 16)
    sum += static_cast<double>(sum_of_sixteen(others, c, n_others, largest));
  return finish_margin(kind, correct, largest, static_cast<float>(sum));
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

// -- a block of kMarginLanes rows: z (n_others, kMarginLanes), correct = z_y --------------------

// The others of as many rows as V holds.
template <typename V>
struct OtherLanes {
  const float* z;

  PYATTR_INLINE V operator()(std::size_t c) const { return load<V>(z + c * kMarginLanes); }
};

// sum[lane] = the sum of exp(v_c - M).
template <typename V>
PYATTR_INLINE void sum_exponentials(const float* z, std::size_t n_others, const float* largest,
                                    float* sum) {
  alignas(64) float part[kMarginLanes];
  alignas(64) double total[kMarginLanes] = {};
  for (std::size_t c = 0; c < n_others; c += 16) {
    for (std::size_t lane = 0; lane < kMarginLanes; lane += sizeof(V) / sizeof(float))
      store(sum_of_sixteen(OtherLanes<V>{z + lane}, c, n_others, load<V>(largest + lane)),
            part + lane);
    for (int k = 0; k < kMarginLanes; ++k) total[k] += static_cast<double>(part[k]);
  }
  for (int k = 0; k < kMarginLanes; ++k) sum[k] = static_cast<float>(total[k]);
}
template <typename V, int n_others>
PYATTR_INLINE void sum_exponentials(const float* z, const float* largest, float* sum) {
  for (std::size_t lane = 0; lane < kMarginLanes; lane += sizeof(V) / sizeof(float))
    store(sum_of_exps<n_others>(OtherLanes<V>{z + lane}, 0, load<V>(largest + lane)), sum + lane);
}

// finish_margin of each lane. One short loop a step: fused, gcc would turn the selects into
// branches.
PYATTR_CLONES
static void finish_leads(MarginKind kind, const float* correct, const float* largest, float* out) {
  for (int k = 0; k < kMarginLanes; ++k) {
    const float lead = correct[k] - largest[k];
    const float won = correct[k] > largest[k] ? 1.0f : 0.0f;
    const bool defined = (correct[k] == correct[k]) & (largest[k] == largest[k]);
    const float vote = defined ? won : std::numeric_limits<float>::quiet_NaN();
    out[k] = kind == MarginKind::kMax ? lead : vote;
  }
}

template <typename V>
PYATTR_INLINE void finish_logsumexps(const float* correct, const float* largest, const float* sum,
                                     float* out) {
  for (std::size_t lane = 0; lane < kMarginLanes; lane += sizeof(V) / sizeof(float)) {
    const V lead = load<V>(correct + lane) - load<V>(largest + lane);
    store(lead - log_from_one(load<V>(sum + lane)), out + lane);
  }
}

PYATTR_INLINE void finish_margins(MarginKind kind, const float* correct, const float* largest,
                                  const float* sum, float* out) {
  alignas(64) double margin[kMarginLanes], tail[kMarginLanes];
  for (int k = 0; k < kMarginLanes; ++k)
    margin[k] = (static_cast<double>(correct[k]) - static_cast<double>(largest[k])) -
                log_f64(static_cast<double>(sum[k]));
  for (int k = 0; k < kMarginLanes; ++k) tail[k] = exp_f64(-__builtin_fabs(margin[k]));
  if (kind == MarginKind::kProbability)
    for (int k = 0; k < kMarginLanes; ++k)
      out[k] = static_cast<float>((margin[k] < 0.0 ? tail[k] : 1.0) / (1.0 + tail[k]));
  else
    for (int k = 0; k < kMarginLanes; ++k)
      out[k] = static_cast<float>((margin[k] < 0.0 ? -margin[k] : 0.0) + log1p_f64(tail[k]));
}

template <typename V>
PYATTR_INLINE void finish_sums(MarginKind kind, const float* z, std::size_t n_others,
                               const float* correct, const float* largest, float* out) {
  alignas(64) float sum[kMarginLanes];
  if (sizeof(V) > 16 && n_others == 9)  // as it is most often: without loops faster
    sum_exponentials<V, 9>(z, largest, sum);
  else
    sum_exponentials<V>(z, n_others, largest, sum);
  if (kind == MarginKind::kLogsumexp)
    finish_logsumexps<V>(correct, largest, sum, out);
  else
    finish_margins(kind, correct, largest, sum, out);
}

PYATTR_LEVEL_4 inline void finish_16(MarginKind kind, const float* z, std::size_t n_others,
                                     const float* correct, const float* largest, float* out) {
  finish_sums<Floats16>(kind, z, n_others, correct, largest, out);
}
PYATTR_LEVEL_3 inline void finish_8(MarginKind kind, const float* z, std::size_t n_others,
                                    const float* correct, const float* largest, float* out) {
  finish_sums<Floats8>(kind, z, n_others, correct, largest, out);
}
inline void finish_4(MarginKind kind, const float* z, std::size_t n_others, const float* correct,
                     const float* largest, float* out) {
  finish_sums<Floats4>(kind, z, n_others, correct, largest, out);
}

inline void finish_block(int width, MarginKind kind, const float* z, std::size_t n_others,
                         const float* correct, const float* largest, float* out) {
  if (kind == MarginKind::kMax || kind == MarginKind::kCorrect)
    finish_leads(kind, correct, largest, out);
  else if (width == 16)
    finish_16(kind, z, n_others, correct, largest, out);
  else if (width == 8)
    finish_8(kind, z, n_others, correct, largest, out);
  else
    finish_4(kind, z, n_others, correct, largest, out);
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
  const int width = register_width();
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
    turn_rows(width >= 8, own, n_classes, label, z.get(), correct, largest);
    finish_block(width, kind, z.get(), n_classes - 1, correct, largest,
                 used == kMarginLanes ? out + first : block);
    if (used < kMarginLanes) std::memcpy(out + first, block, used * sizeof(float));
  }
  return true;
}

#endif  // !__CUDACC__

}  // namespace pyattr

// LASSO paths of many targets on one shared Gram matrix, by coordinate descent.
//
//   gram    G (n, n) float32   X^T X / m, symmetric; X the centred rows, m their number
//   cross   b (T, n) float32   X^T y / m
//   square  s (T,)   float64   y^T y / m
//   lambdas (T, L)   float64   decreasing for each target
// For each target and each of its lambdas: minimise  P(w) = |y - X w|^2 / 2m + lambda |w|_1, which
// is scikit-learn's objective, until the duality gap is at most tolerance * s.
//
// Method.  Warm starts along the path. A target's active set is what it has used so far and what
// the sequential strong rule lets in (Tibshirani et al. 2012); its part of G is gathered into a
// small dense matrix, and Gauss-Seidel sweeps over blocks of four coordinates run on that alone.
// Then one pass over G gives the whole gradient g = b - G w, for up to kBatch targets together so
// that a tile of G is read once; from it follow the gap and the coordinates that are missing.
// A target with more than a quarter of all coordinates active goes on in a lane: sweeps over all
// coordinates, 16 such targets of a batch side by side, share each element of G.
//
// Accumulators.  Sweeps and gradients float32; the gradient is formed anew from b at every pass, so
// that no error piles up. The gap is float64 of that gradient: with r = y - X w,
//   |r|^2 / m = s - b.w - w.g,   y.r / m = s - b.w,   gap = P(w) - D(a r),  a = min(1,
//   lambda/|g|_oo).
// Order.  A target's sums depend on its own data alone: not on the batch, the range of targets, the
// thread count or the instruction set, so neither do the bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "packed_matmul.hpp"
#include "simd.hpp"
#include "target_lanes.hpp"

namespace pyattr {

constexpr std::size_t kBatch = 16;      // targets that share a pass over G
constexpr std::size_t kTileRows = 128;  // a tile of G, 512 KB, stays in L2
constexpr std::size_t kTileColumns = 1024;
constexpr int kMaxRounds = 50;   // sweeps and passes for one lambda before giving up
constexpr int kMaxSweeps = 200;  // between two passes

// Rows that were held out: their error is s - 2 b.w + w^T G w, all centred at the *fitted* means.
struct HeldOut {
  const float* gram = nullptr;
  const float* cross = nullptr;
  const double* square = nullptr;
  int patience = 0;   // stop after so many lambdas without a new least error ...
  double rise = 0.0;  // ... once the error is above (1 + rise) times the least
};

struct LassoProblem {
  const float* gram;
  const float* cross;
  const double* square;
  const double* lambdas;
  const std::int32_t* n_steps;  // (T,) how many of the L lambdas to fit
  std::size_t n, n_lambdas;
  double tolerance;
  HeldOut held_out;
};

struct LassoPath {
  float* weights;        // (T, L, n), or (T, n) for the last lambda alone
  bool whole;            // which of the two
  double* gaps;          // (T, L) relative to s; NaN beyond the end of a path
  double* errors;        // (T, L) held-out mean square; NaN beyond the end; null without hold-out
  std::int32_t* n_done;  // (T,) lambdas fitted
};

PYATTR_INLINE float soft_threshold(float value, float lambda) {
  const float size = __builtin_fabsf(value) - lambda;
  return size > 0.0f ? __builtin_copysignf(size, value) : 0.0f;
}

// Sums over the active set that the gap needs, in 16 lanes of float32.
struct LocalSums {
  double wb, wg, l1;
  float largest;  // |g|_oo
};

PYATTR_INLINE LocalSums local_sums(const float* w, const float* b, const float* g, std::size_t k) {
  alignas(64) float wb[16] = {}, wg[16] = {}, l1[16] = {}, top[16] = {};
  for (std::size_t i = 0; i < k; i += 16)
    for (std::size_t c = 0; c < 16; ++c) {
      wb[c] += w[i + c] * b[i + c];
      wg[c] += w[i + c] * g[i + c];
      l1[c] += __builtin_fabsf(w[i + c]);
      const float size = __builtin_fabsf(g[i + c]);
      top[c] = size > top[c] ? size : top[c];
    }
  LocalSums sums{0.0, 0.0, 0.0, 0.0f};
  for (std::size_t c = 0; c < 16; ++c) {
    sums.wb += wb[c];
    sums.wg += wg[c];
    sums.l1 += l1[c];
    sums.largest = top[c] > sums.largest ? top[c] : sums.largest;
  }
  return sums;
}

// Primal minus dual objective; the dual point is the residual scaled to be feasible.
inline double duality_gap(double square, double lambda, const LocalSums& sums) {
  const double residual = square - sums.wb - sums.wg, inner = square - sums.wb;
  const double scale = sums.largest > lambda ? lambda / sums.largest : 1.0;
  return 0.5 * residual + lambda * sums.l1 - scale * (inner - 0.5 * scale * residual);
}

// One sweep over k coordinates (k a multiple of 16; padding has diagonal 0 and stays 0).
//   sub (k, stride) their Gram matrix, w, g, diagonal (k,): g = b - sub w is kept up to date.
PYATTR_INLINE void sweep_active(const float* sub, std::size_t stride, std::size_t k,
                                const float* diagonal, const float* inverse, float lambda, float* w,
                                float* g) {
  for (std::size_t c = 0; c < k; c += 4) {
    float step[4];
    bool moved = false;
    for (std::size_t a = 0; a < 4; ++a) {
      const float* row = sub + (c + a) * stride + c;
      float here = g[c + a];
      for (std::size_t e = 0; e < a; ++e) here -= row[e] * step[e];
      const float next = soft_threshold(here + diagonal[c + a] * w[c + a], lambda) * inverse[c + a];
      step[a] = next - w[c + a];
      w[c + a] = next;
      moved |= step[a] != 0.0f;
    }
    if (!moved) continue;
    const float *r0 = sub + c * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    const float s0 = step[0], s1 = step[1], s2 = step[2], s3 = step[3];
    for (std::size_t i = 0; i < k; ++i)
      g[i] -= (s0 * r0[i] + s1 * r1[i]) + (s2 * r2[i] + s3 * r3[i]);
  }
}

// Sweep until the gap of the problem on the active set is at most `goal`; returns the sweeps done.
PYATTR_CLONES
static int solve_active(const float* sub, std::size_t stride, std::size_t k, const float* diagonal,
                        const float* inverse, const float* b, double square, double lambda,
                        double goal, float* w, float* g) {
  for (int sweep = 1; sweep <= kMaxSweeps; ++sweep) {
    sweep_active(sub, stride, k, diagonal, inverse, static_cast<float>(lambda), w, g);
    if (duality_gap(square, lambda, local_sums(w, b, g, k)) <= goal) return sweep;
  }
  return kMaxSweeps;
}

// g[columns] -= sum over e of value[e] * G[index[e], columns], eight rows at a time.
PYATTR_CLONES
static void subtract_rows(const float* gram, std::size_t n, const std::uint32_t* index,
                          const float* value, std::size_t n_entries, Range columns, float* g) {
  std::size_t e = 0;
  for (; e + 8 <= n_entries; e += 8) {
    const float *r0 = gram + index[e] * n, *r1 = gram + index[e + 1] * n;
    const float *r2 = gram + index[e + 2] * n, *r3 = gram + index[e + 3] * n;
    const float *r4 = gram + index[e + 4] * n, *r5 = gram + index[e + 5] * n;
    const float *r6 = gram + index[e + 6] * n, *r7 = gram + index[e + 7] * n;
    const float* v = value + e;
    const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
    const float v4 = v[4], v5 = v[5], v6 = v[6], v7 = v[7];
    for (std::size_t i = columns.begin; i < columns.end; ++i)
      g[i] -= ((v0 * r0[i] + v1 * r1[i]) + (v2 * r2[i] + v3 * r3[i])) +
              ((v4 * r4[i] + v5 * r5[i]) + (v6 * r6[i] + v7 * r7[i]));
  }
  for (; e < n_entries; ++e) {
    const float* row = gram + index[e] * n;
    const float v = value[e];
    for (std::size_t i = columns.begin; i < columns.end; ++i) g[i] -= v * row[i];
  }
}

PYATTR_CLONES
static float largest_size(const float* values, std::size_t n) {
  alignas(64) float top[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::size_t c = 0; c < 16; ++c) {
      const float size = __builtin_fabsf(values[i + c]);
      top[c] = size > top[c] ? size : top[c];
    }
  float result = 0.0f;
  for (; i < n; ++i) result = std::max(result, __builtin_fabsf(values[i]));
  for (float size : top) result = std::max(result, size);
  return result;
}

// Room for the part of G on one active set and the vectors that go with it; kept from one batch to
// the next, since fresh pages cost more than the sweeps on them. All values are finite always.
struct ActiveSpace {
  std::size_t stride = 0;
  std::vector<float> sub, w, g, b, diagonal, inverse;

  // Make room for k coordinates, of which the first `used` have values to keep.
  void grow(std::size_t k, std::size_t used) {
    if (k <= stride) return;
    const std::size_t larger = std::max<std::size_t>(64, (std::max(k, stride * 2) + 15) / 16 * 16);
    std::vector<float> next(larger * larger, 0.0f);
    for (std::size_t c = 0; c < used; ++c)
      std::copy_n(sub.data() + c * stride, used, next.data() + c * larger);
    sub.swap(next);
    stride = larger;
    for (auto* vector : {&w, &g, &b, &diagonal, &inverse}) vector->resize(larger, 0.0f);
  }
};

// One target on its way down the path.
class LassoTarget {
 public:
  LassoTarget(const LassoProblem& problem, std::size_t target, ActiveSpace& space)
      : problem_(problem),
        space_(space),
        cross_(problem.cross + target * problem.n),
        square_(problem.square[target]),
        gradient_(cross_, cross_ + problem.n),
        position_(problem.n, kAbsent) {}

  // Let in what the sequential strong rule cannot exclude.
  void begin(double lambda, double previous) {
    lambda_ = lambda;
    goal_ = kFirstGoal * problem_.tolerance * square_;
    if (dense()) return;
    add_above(static_cast<float>(2.0 * lambda - previous));
    if (active_.size() <= std::max<std::size_t>(problem_.n / kDenseShare, kLanes)) return;
    dense_.assign(problem_.n, 0.0f);
    for (std::size_t c = 0; c < active_.size(); ++c) dense_[active_[c]] = space_.w[c];
  }

  // Whether all coordinates are swept, in a lane.
  bool dense() const { return !dense_.empty(); }
  float* dense_weights() { return dense_.data(); }
  const float* gradient() const { return gradient_.data(); }
  const float* cross() const { return cross_; }
  double square() const { return square_; }
  double lambda() const { return lambda_; }
  double goal() const { return goal_; }

  void solve() {
    if (active_.empty()) return;
    for (std::size_t c = 0; c < active_.size(); ++c) space_.g[c] = gradient_[active_[c]];
    std::fill(space_.g.begin() + active_.size(), space_.g.begin() + padded(), 0.0f);
    solve_active(space_.sub.data(), space_.stride, padded(), space_.diagonal.data(),
                 space_.inverse.data(), space_.b.data(), square_, lambda_, goal_, space_.w.data(),
                 space_.g.data());
  }

  // The entries of w that are not 0, by rising index, for the gradient pass.
  void list_support() {
    index_.clear();
    value_.clear();
    order_.clear();
    for (std::size_t j = 0; j < dense_.size(); ++j)
      if (dense_[j] != 0.0f) {
        index_.push_back(static_cast<std::uint32_t>(j));
        value_.push_back(dense_[j]);
      }
    if (dense()) return;
    for (std::size_t c = 0; c < active_.size(); ++c)
      if (space_.w[c] != 0.0f) order_.push_back(active_[c]);
    std::sort(order_.begin(), order_.end());
    for (std::uint32_t j : order_) {
      index_.push_back(j);
      value_.push_back(space_.w[position_[j]]);
    }
  }

  float* begin_gradient() {
    std::copy(cross_, cross_ + problem_.n, gradient_.begin());
    return gradient_.data();
  }

  float* begin_held_out() {
    held_out_.assign(problem_.n, 0.0f);
    return held_out_.data();
  }

  // Subtract from `columns` of `sums` what rows of a Gram matrix below `row_end` contribute to G w.
  std::size_t subtract(const float* gram, std::size_t from, std::size_t row_end, Range columns,
                       float* sums) const {
    std::size_t to = from;
    while (to < index_.size() && index_[to] < row_end) ++to;
    subtract_rows(gram, problem_.n, index_.data() + from, value_.data() + from, to - from, columns,
                  sums);
    return to;
  }

  // Whether the gap is small enough; if not, what is missing comes in and the goal gets harder.
  bool finished() {
    LocalSums sums{0.0, 0.0, 0.0, largest_size(gradient_.data(), problem_.n)};
    for (std::size_t e = 0; e < index_.size(); ++e) {
      const double w = value_[e];
      sums.wb += w * cross_[index_[e]];
      sums.wg += w * gradient_[index_[e]];
      sums.l1 += std::fabs(w);
    }
    gap_ = duality_gap(square_, lambda_, sums);
    if (gap_ <= problem_.tolerance * square_) return true;
    const std::size_t before = active_.size();
    if (!dense()) add_above(static_cast<float>(lambda_));
    if (active_.size() == before) goal_ *= 0.25;
    return false;
  }

  double relative_gap() const { return square_ > 0.0 ? std::max(gap_, 0.0) / square_ : 0.0; }

  double held_out_error(std::size_t target) const {
    const float* cross = problem_.held_out.cross + target * problem_.n;
    double sum = problem_.held_out.square[target];
    for (std::size_t e = 0; e < index_.size(); ++e)
      sum -= double(value_[e]) * (2.0 * cross[index_[e]] + held_out_[index_[e]]);
    return sum;
  }

  void store(float* out) const {
    std::fill(out, out + problem_.n, 0.0f);
    for (std::size_t e = 0; e < index_.size(); ++e) out[index_[e]] = value_[e];
  }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFFu;
  static constexpr double kFirstGoal = 0.9;
  static constexpr std::size_t kDenseShare = 4;

  std::size_t padded() const { return (active_.size() + 15) / 16 * 16; }

  void add_above(float bound) {
    const std::size_t before = active_.size();
    for (std::size_t j = 0; j < problem_.n; ++j)
      if (__builtin_fabsf(gradient_[j]) >= bound && position_[j] == kAbsent &&
          problem_.gram[j * problem_.n + j] > 0.0f) {
        position_[j] = static_cast<std::uint32_t>(active_.size());
        active_.push_back(static_cast<std::uint32_t>(j));
      }
    if (active_.size() > before) gather(before);
  }

  // Gather what coordinates `before` .. k - 1 of the active set add to its part of G.
  void gather(std::size_t before) {
    const std::size_t k = active_.size();
    space_.grow(k, before);
    for (std::size_t c = 0; c < k; ++c) {
      const float* row = problem_.gram + active_[c] * problem_.n;
      float* out = space_.sub.data() + c * space_.stride;
      for (std::size_t e = c < before ? before : 0; e < k; ++e) out[e] = row[active_[e]];
      for (std::size_t e = k; e < padded(); ++e) out[e] = 0.0f;
    }
    for (std::size_t c = before; c < padded(); ++c) {
      const bool real = c < k;
      const std::size_t j = real ? active_[c] : 0;
      const float diagonal = problem_.gram[j * problem_.n + j];
      space_.w[c] = 0.0f;
      space_.diagonal[c] = real ? diagonal : 0.0f;
      space_.inverse[c] = real ? 1.0f / diagonal : 0.0f;
      space_.b[c] = real ? cross_[j] : 0.0f;
    }
  }

  const LassoProblem& problem_;
  ActiveSpace& space_;
  const float* cross_;
  double square_, lambda_ = 0.0, goal_ = 0.0, gap_ = 0.0;
  std::vector<float> gradient_, held_out_, dense_;
  std::vector<std::uint32_t> position_, active_, index_, order_;
  std::vector<float> value_;
};

// sums -= G w for the given targets; a tile of G serves all of them.
inline void product_pass(const float* gram, std::size_t n,
                         const std::vector<const LassoTarget*>& targets,
                         const std::vector<float*>& sums) {
  std::vector<std::size_t> cursor(targets.size());
  for (std::size_t column = 0; column < n; column += kTileColumns) {
    const Range columns{column, least(column + kTileColumns, n)};
    std::fill(cursor.begin(), cursor.end(), 0);
    // Tiles of rows begin at fixed indices, so the groups of eight do not depend on the batch.
    for (std::size_t row = 0; row < n; row += kTileRows)
      for (std::size_t t = 0; t < targets.size(); ++t)
        cursor[t] = targets[t]->subtract(gram, cursor[t], row + kTileRows, columns, sums[t]);
  }
}

// What a sweep needs to know of each lane, and the sums that its gap needs.
struct LassoLanes {
  alignas(64) float lambda[kLanes], moving[kLanes], largest[kLanes];
  alignas(64) double wb[kLanes], wg[kLanes], l1[kLanes];
};

// One sweep over all coordinates, then the sums; w, gradient, cross (n, kLanes).
PYATTR_CLONES
static void sweep_lanes(const float* gram, std::size_t n, const float* cross, float* w,
                        float* gradient, LassoLanes& lanes) {
  alignas(64) float step[kBlock][kLanes];
  for (std::size_t first = 0; first < n; first += kBlock) {
    const std::size_t n_block = least(kBlock, n - first);
    for (std::size_t b = 0; b < n_block; ++b) {
      const std::size_t j = first + b;
      const float* row = gram + j * n;
      const float diagonal = row[j], inverse = diagonal > 0.0f ? 1.0f / diagonal : 0.0f;
      alignas(64) float here[kLanes];
      for (int l = 0; l < kLanes; ++l) here[l] = gradient[j * kLanes + l];
      for (std::size_t c = 0; c < b; ++c)
        for (int l = 0; l < kLanes; ++l) here[l] -= row[first + c] * step[c][l];
      for (int l = 0; l < kLanes; ++l) {
        const float value = here[l] + diagonal * w[j * kLanes + l];
        const float size = __builtin_fabsf(value) - lanes.lambda[l];
        const float next = __builtin_copysignf(size > 0.0f ? size : 0.0f, value) * inverse;
        step[b][l] = (next - w[j * kLanes + l]) * lanes.moving[l];
        // A lane at rest keeps its bits; a moving one must reach 0 exactly.
        w[j * kLanes + l] = lanes.moving[l] > 0.0f ? next : w[j * kLanes + l];
      }
    }
    apply_steps(gram, n, first, n_block, reinterpret_cast<const TargetLanes*>(step),
                reinterpret_cast<TargetLanes*>(gradient));
  }
  for (int l = 0; l < kLanes; ++l) lanes.wb[l] = lanes.wg[l] = lanes.l1[l] = lanes.largest[l] = 0;
  for (std::size_t j = 0; j < n; ++j)
    for (int l = 0; l < kLanes; ++l) {
      const std::size_t at = j * kLanes + l;
      lanes.wb[l] += double(w[at]) * double(cross[at]);
      lanes.wg[l] += double(w[at]) * double(gradient[at]);
      lanes.l1[l] += __builtin_fabs(double(w[at]));
      const float size = __builtin_fabsf(gradient[at]);
      lanes.largest[l] = size > lanes.largest[l] ? size : lanes.largest[l];
    }
}

// Sweep up to 16 dense targets until each has reached its goal.
inline void solve_dense(const LassoProblem& problem, LassoTarget* const* targets,
                        std::size_t size) {
  const std::size_t n = problem.n;
  Scratch<float> w(n * kLanes), gradient(n * kLanes), cross(n * kLanes);
  LassoLanes lanes;
  for (std::size_t l = 0; l < kLanes; ++l) {
    LassoTarget& target = *targets[l < size ? l : 0];
    lanes.lambda[l] = static_cast<float>(target.lambda());
    lanes.moving[l] = l < size ? 1.0f : 0.0f;
    for (std::size_t j = 0; j < n; ++j) {
      w.get()[j * kLanes + l] = target.dense_weights()[j];
      gradient.get()[j * kLanes + l] = target.gradient()[j];
      cross.get()[j * kLanes + l] = target.cross()[j];
    }
  }
  std::size_t left = size;
  for (int sweep = 0; sweep < kMaxSweeps && left > 0; ++sweep) {
    sweep_lanes(problem.gram, n, cross.get(), w.get(), gradient.get(), lanes);
    for (std::size_t l = 0; l < size; ++l) {
      if (lanes.moving[l] == 0.0f) continue;
      const LocalSums sums{lanes.wb[l], lanes.wg[l], lanes.l1[l], lanes.largest[l]};
      if (duality_gap(targets[l]->square(), targets[l]->lambda(), sums) > targets[l]->goal())
        continue;
      lanes.moving[l] = 0.0f;
      --left;
    }
  }
  for (std::size_t l = 0; l < size; ++l)
    for (std::size_t j = 0; j < n; ++j) targets[l]->dense_weights()[j] = w.get()[j * kLanes + l];
}

// Up to kBatch targets that go down their paths side by side.
class LassoBatch {
 public:
  LassoBatch(const LassoProblem& problem, std::size_t first, std::size_t size, const LassoPath& out,
             std::vector<ActiveSpace>& spaces)
      : problem_(problem),
        out_(out),
        first_(first),
        best_(size),
        best_step_(size, 0),
        running_(size, 1) {
    targets_.reserve(size);
    for (std::size_t t = 0; t < size; ++t) targets_.emplace_back(problem, first + t, spaces[t]);
    std::fill(best_.begin(), best_.end(), std::numeric_limits<double>::infinity());
  }

  void run() {
    for (std::size_t step = 0; step < problem_.n_lambdas; ++step) {
      const std::vector<std::size_t> fitted = begin(step);
      if (fitted.empty()) break;
      std::vector<std::size_t> pending = fitted;
      for (int round = 0; round < kMaxRounds && !pending.empty(); ++round) {
        std::vector<LassoTarget*> dense;
        for (std::size_t t : pending) {
          if (targets_[t].dense())
            dense.push_back(&targets_[t]);
          else
            targets_[t].solve();
        }
        if (!dense.empty()) solve_dense(problem_, dense.data(), dense.size());
        for (std::size_t t : pending) targets_[t].list_support();
        pass(problem_.gram, pending, &LassoTarget::begin_gradient);
        std::vector<std::size_t> left;
        for (std::size_t t : pending)
          if (!targets_[t].finished()) left.push_back(t);
        pending.swap(left);
      }
      if (problem_.held_out.gram)
        pass(problem_.held_out.gram, fitted, &LassoTarget::begin_held_out);
      for (std::size_t t : fitted) record(t, step);
    }
    if (out_.whole) return;
    for (std::size_t t = 0; t < targets_.size(); ++t)
      targets_[t].store(out_.weights + (first_ + t) * problem_.n);
  }

 private:
  // Start the next lambda of every target that is still on its way.
  std::vector<std::size_t> begin(std::size_t step) {
    std::vector<std::size_t> started;
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      const std::size_t at = first_ + t;
      if (!running_[t] || step >= static_cast<std::size_t>(problem_.n_steps[at])) continue;
      const double* lambda = problem_.lambdas + at * problem_.n_lambdas + step;
      targets_[t].begin(lambda[0], step ? lambda[-1] : lambda[0]);
      started.push_back(t);
    }
    return started;
  }

  void pass(const float* gram, const std::vector<std::size_t>& which,
            float* (LassoTarget::*start)()) {
    std::vector<const LassoTarget*> targets;
    std::vector<float*> sums;
    for (std::size_t t : which) {
      sums.push_back((targets_[t].*start)());
      targets.push_back(&targets_[t]);
    }
    product_pass(gram, problem_.n, targets, sums);
  }

  void record(std::size_t t, std::size_t step) {
    const std::size_t at = (first_ + t) * problem_.n_lambdas + step;
    out_.gaps[at] = targets_[t].relative_gap();
    out_.n_done[first_ + t] = static_cast<std::int32_t>(step + 1);
    if (out_.whole) targets_[t].store(out_.weights + at * problem_.n);
    const HeldOut& held = problem_.held_out;
    if (!held.gram) return;
    const double error = out_.errors[at] = targets_[t].held_out_error(first_ + t);
    if (error < best_[t]) {
      best_[t] = error;
      best_step_[t] = step;
    }
    running_[t] = step - best_step_[t] < static_cast<std::size_t>(held.patience) ||
                  error <= best_[t] * (1.0 + held.rise);
  }

  const LassoProblem& problem_;
  const LassoPath& out_;
  std::size_t first_;
  std::vector<LassoTarget> targets_;
  std::vector<double> best_;
  std::vector<std::size_t> best_step_;
  std::vector<char> running_;
};

// The paths of targets targets.begin .. targets.end - 1.
inline void lasso_paths(const LassoProblem& problem, Range targets, const LassoPath& out) {
  std::vector<ActiveSpace> spaces(kBatch);
  for (std::size_t first = targets.begin; first < targets.end; first += kBatch)
    LassoBatch(problem, first, least(kBatch, targets.end - first), out, spaces).run();
}

}  // namespace pyattr

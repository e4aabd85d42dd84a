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
// the sequential strong rule lets in (Tibshirani et al. 2012), and sweeps run on that alone
// (csrc/active_set.hpp). Then one pass over G gives the whole gradient g = b - G w, for all targets
// of a batch together so that a tile of G is read once (csrc/gradient_pass.hpp); from it follow the
// gap (csrc/lasso_problem.hpp) and the coordinates that are missing. A target with more than a
// fifth of all coordinates active, or an eighth used, goes on in a lane (csrc/lasso_lanes.hpp).
//
// Accumulators.  Sweeps and gradients float32; the gradient is formed anew from b at every pass, so
// that no error piles up. The gap is float64 of that gradient.
// Order.  A target's sums depend on its own data alone: not on the batch, the range of targets, the
// thread count or the instruction set, so neither do the bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "active_set.hpp"
#include "gradient_pass.hpp"
#include "gram_codes.hpp"
#include "lasso_lanes.hpp"
#include "lasso_problem.hpp"
#include "lasso_target.hpp"
#include "ranges.hpp"

namespace pyattr {

constexpr std::size_t kLeastBatch = 16, kMostBatch = 64;     // targets that share a pass over G
constexpr std::size_t kSpaceBytes = std::size_t{256} << 20;  // for their active sets, if it can be
constexpr int kMaxRounds = 50;  // sweeps and passes for one lambda before giving up

// Up to kMostBatch targets that go down their paths side by side.
class LassoBatch {
 public:
  LassoBatch(const LassoProblem& problem, std::size_t first, std::size_t size, const LassoPath& out,
             std::vector<ActiveSpace>& spaces, LassoLanes& lanes)
      : problem_(problem),
        out_(out),
        lanes_(lanes),
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
        lanes_.solve(dense);
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
            SparseProduct (LassoTarget::*start)()) {
    std::vector<SparseProduct> products;
    for (std::size_t t : which) products.push_back((targets_[t].*start)());
    subtract_products(gram, problem_.n, products);
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
  LassoLanes& lanes_;
  std::size_t first_;
  std::vector<LassoTarget> targets_;
  std::vector<double> best_;
  std::vector<std::size_t> best_step_;
  std::vector<char> running_;
};

inline std::size_t batch_size(std::size_t n) {
  const std::size_t largest = sizeof(float) * (n / 5 + 1) * (n / 5 + 1);  // an active set's matrix
  return std::min(std::max(kSpaceBytes / largest, kLeastBatch), kMostBatch);
}

// The paths of targets targets.begin .. targets.end - 1; `codes` are of problem.gram.
inline void lasso_paths(const LassoProblem& problem, GramCodes& codes, Range targets,
                        const LassoPath& out) {
  const std::size_t batch = batch_size(problem.n);
  std::vector<ActiveSpace> spaces(least(batch, targets.end - targets.begin));
  LassoLanes lanes(codes);
  for (std::size_t first = targets.begin; first < targets.end; first += batch)
    LassoBatch(problem, first, least(batch, targets.end - first), out, spaces, lanes).run();
}

}  // namespace pyattr

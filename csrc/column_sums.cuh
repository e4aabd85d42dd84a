// Sums over all coordinates for many targets, columns of (n, width) matrices: float64, first to
// last, from terms that many threads form. The bits are those of a loop over the coordinates.
#pragma once

#include <cstddef>

#include "lane_solver.hpp"
#include "ranges.hpp"
#include "thread_block.cuh"

namespace pyattr {
namespace cuda {

constexpr std::size_t kSumTargets = 32;

// Sums over coordinates j = 0 .. n - 1, in this order, for 32 targets a block.  Terms: kSums;
// term(q, j * width + column); join(q, sum, term); finish(column, sums)
template <typename Terms>
struct SumsBlock {
  static constexpr int kThreads = 256, kBlocksPerProcessor = 1;
  static constexpr std::size_t kRows = 32;
  struct Shared {
    double term[Terms::kSums][kRows][kSumTargets];
  };
  struct Sums {
    double at[Terms::kSums];
  };

  std::size_t n, width;
  Terms terms;

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t column = index * kSumTargets;
    const std::size_t lane = block.thread % kSumTargets, row = block.thread / kSumTargets;
    Sums sums;
#pragma unroll
    for (int q = 0; q < Terms::kSums; ++q) sums.at[q] = 0.0;
    for (std::size_t j = 0; j < n; j += kRows) {
      const std::size_t n_rows = least(kRows, n - j);
      for (std::size_t i = row; i < n_rows; i += kThreads / kSumTargets)
#pragma unroll
        for (int q = 0; q < Terms::kSums; ++q)
          shared.term[q][i][lane] = terms.term(q, (j + i) * width + column + lane);
      block.sync();
      if (row == 0)
        for (std::size_t i = 0; i < n_rows; ++i)
#pragma unroll
          for (int q = 0; q < Terms::kSums; ++q)
            sums.at[q] = terms.join(q, sums.at[q], shared.term[q][i][lane]);
      block.sync();
    }
    if (row == 0) terms.finish(column + lane, sums.at);
  }
};

// lane.explained = (b + g).w
struct ExplainedTerms {
  static constexpr int kSums = 1;
  const float *cross, *gradient, *weights;
  MixtureLane* lanes;

  PYATTR_DEVICE double term(int, std::size_t at) const {
    return (static_cast<double>(cross[at]) + static_cast<double>(gradient[at])) *
           static_cast<double>(weights[at]);
  }
  PYATTR_DEVICE double join(int, double sum, double term) const { return sum + term; }
  PYATTR_DEVICE void finish(std::size_t column, const double* sums) const {
    lanes[column].explained = sums[0];
  }
};

// lane.wb, wg, l1 and largest: what a duality gap needs.
struct GapTerms {
  static constexpr int kSums = 4;
  const float *cross, *gradient, *weights;
  LassoLane* lanes;

  PYATTR_DEVICE double term(int q, std::size_t at) const {
    const double w = static_cast<double>(weights[at]), g = static_cast<double>(gradient[at]);
    if (q == 0) return w * static_cast<double>(cross[at]);
    if (q == 1) return w * g;
    return q == 2 ? (w < 0.0 ? -w : w) : (g < 0.0 ? -g : g);
  }
  PYATTR_DEVICE double join(int q, double sum, double term) const {
    return q < 3 ? sum + term : (term > sum ? term : sum);
  }
  PYATTR_DEVICE void finish(std::size_t column, const double* sums) const {
    LassoLane& lane = lanes[column];
    lane.wb = sums[0], lane.wg = sums[1], lane.l1 = sums[2], lane.largest = sums[3];
  }
};

// error[column] = sum of -w (2 b + g): held-out error less y^T y / m, for g = -G w.
struct HeldOutTerms {
  static constexpr int kSums = 1;
  const float *cross, *gradient, *weights;
  double* errors;

  PYATTR_DEVICE double term(int, std::size_t at) const {
    return static_cast<double>(weights[at]) *
           (2.0 * static_cast<double>(cross[at]) + static_cast<double>(gradient[at]));
  }
  PYATTR_DEVICE double join(int, double sum, double term) const { return sum - term; }
  PYATTR_DEVICE void finish(std::size_t column, const double* sums) const {
    errors[column] = sums[0];
  }
};

}  // namespace cuda
}  // namespace pyattr

// Sweeps of coordinate descent over all coordinates, for many targets on one Gram matrix.
//
//   gram (n, n) float32, symmetric; weights, gradient (n, width) float32, one column a target;
//   width is a multiple of kTrailingTargets
//
// A panel of kPanelRows coordinates is solved for kPanelTargets targets by a block of threads
// (PanelBlock): blocks of kSolveRows coordinates one after the other, one lane a target, and after
// each the gradient of the panel's own coordinates. Then the gradient of all other coordinates
// follows (trailing_block.cuh), a matrix product gradient -= G[panel] transposed @ steps. Entry (i,
// t) gets the same subtractions in the same order as in target_lanes.hpp, each rounded on its own:
// the bits are those of the CPU's lanes, whatever the width, the panels and the blocks of threads.
//
// What the panels save: the gradient is read and written once for kPanelRows coordinates, not
// once for each 16.
//
// Reference: Friedman, Hastie and Tibshirani, J. Stat. Software 2010, "covariance updates".
#pragma once

#include <cstddef>
#include <cstdint>

#include "lane_solver.hpp"
#include "ranges.hpp"
#include "thread_block.cuh"
#include "trailing_block.cuh"

namespace pyattr {
namespace cuda {

constexpr std::size_t kSolveRows = 16;  // kBlock of target_lanes.hpp: sums of a block are float32
constexpr std::size_t kPanelTargets = 32;

// A rule (panel_rules.cuh) says what a step is:
//   struct Shared; struct Lane (in registers); load(shared, column, lane) -> Lane; step(shared,
//   own, lane, diagonal, gradient, weight) -> LaneStep, its variance in own.variance; end_block;
//   store
template <typename Rule>
struct PanelBlock {
  static constexpr int kThreads = 256, kBlocksPerProcessor = 1;
  static constexpr std::size_t kRowsAtOnce = kThreads / kPanelTargets;
  struct Shared {
    float gradient[kPanelRows][kPanelTargets];
    float gram[kSolveRows][kPanelRows];
    float weight[kSolveRows][kPanelTargets], step[kSolveRows][kPanelTargets];
    typename Rule::Shared rule;
    std::int32_t moving;
  };

  const float* gram;
  std::size_t n, first, width;  // coordinates first .. first + kPanelRows - 1, as far as there are
  float *gradient, *weights;
  float* steps;  // (kPanelRows, width)
  Rule rule;

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t column = index * kPanelTargets, n_rows = least(kPanelRows, n - first);
    const std::size_t lane = block.thread % kPanelTargets, row = block.thread / kPanelTargets;
    const bool solves = row == 0;
    typename Rule::Lane own;
    if (block.thread == 0) shared.moving = 0;
    block.sync();
    if (solves) {
      own = rule.load(shared.rule, column, lane);
      if (rule.moves(own)) shared.moving = 1;
    }
    block.sync();
    if (!shared.moving) {
      for (std::size_t b = row; b < n_rows; b += kRowsAtOnce)
        steps[b * width + column + lane] = 0.0f;
      return;
    }
    for (std::size_t i = row; i < n_rows; i += kRowsAtOnce)
      shared.gradient[i][lane] = gradient[(first + i) * width + column + lane];
    for (std::size_t begin = 0; begin < n_rows; begin += kSolveRows) {
      const std::size_t n_block = least(kSolveRows, n_rows - begin);
      load(shared, column, begin, n_block, n_rows, block.thread);
      block.sync();
      if (solves) solve(shared, own, column, begin, n_block, block.thread);
      block.sync();
      follow(shared, column, begin, n_block, n_rows, block.thread);
      block.sync();
    }
    for (std::size_t i = row; i < n_rows; i += kRowsAtOnce)
      gradient[(first + i) * width + column + lane] = shared.gradient[i][lane];
    if (solves) rule.store(shared.rule, own, column, lane);
  }

 private:
  PYATTR_DEVICE void load(Shared& shared, std::size_t column, std::size_t begin,
                          std::size_t n_block, std::size_t n_rows, int thread) const {
    for (std::size_t e = thread; e < n_block * kPanelRows; e += kThreads) {
      const std::size_t b = e / kPanelRows, i = e % kPanelRows;
      if (i < n_rows) shared.gram[b][i] = gram[(first + begin + b) * n + first + i];
    }
    const std::size_t lane = thread % kPanelTargets;
    for (std::size_t b = thread / kPanelTargets; b < n_block; b += kRowsAtOnce)
      shared.weight[b][lane] = weights[(first + begin + b) * width + column + lane];
  }

  PYATTR_DEVICE void solve(Shared& shared, typename Rule::Lane& own, std::size_t column,
                           std::size_t begin, std::size_t n_block, int lane) const {
    rule.begin_block(shared.rule, own, lane);
    for (std::size_t b = 0; b < n_block; ++b) {
      float here = shared.gradient[begin + b][lane];
      for (std::size_t c = 0; c < b; ++c) here -= shared.gram[b][begin + c] * shared.step[c][lane];
      const std::size_t at = (first + begin + b) * width + column + static_cast<std::size_t>(lane);
      const LaneStep next = rule.step(shared.rule, own, lane, at, shared.gram[b][begin + b], here,
                                      shared.weight[b][lane]);
      shared.step[b][lane] = next.step;
      shared.weight[b][lane] = next.kept;
    }
    rule.end_block(shared.rule, own, lane);
  }

  PYATTR_DEVICE void follow(Shared& shared, std::size_t column, std::size_t begin,
                            std::size_t n_block, std::size_t n_rows, int thread) const {
    const std::size_t lane = thread % kPanelTargets;
    for (std::size_t i = thread / kPanelTargets; i < n_rows; i += kRowsAtOnce) {
      float sum = shared.gradient[i][lane];
      for (std::size_t b = 0; b < n_block; ++b) sum -= shared.gram[b][i] * shared.step[b][lane];
      shared.gradient[i][lane] = sum;
    }
    for (std::size_t b = thread / kPanelTargets; b < n_block; b += kRowsAtOnce) {
      weights[(first + begin + b) * width + column + lane] = shared.weight[b][lane];
      steps[(begin + b) * width + column + lane] = shared.step[b][lane];
    }
  }
};

}  // namespace cuda
}  // namespace pyattr

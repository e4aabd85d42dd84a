// Sweeps of coordinate descent over all coordinates, for many targets on one Gram matrix.
//
//   gram (n, n) float32, symmetric; weights, gradient (n, width) float32, one column a target;
//   width is a multiple of kTrailingTargets
//
// A panel of kPanelRows coordinates is solved for kPanelTargets targets by a block of threads
// (PanelBlock): blocks of kSolveRows coordinates one after the other, one lane a target, and after
// each the gradient of the panel's own coordinates. Then the gradient of all other coordinates
// follows (TrailingBlock), a matrix product gradient -= G[panel] transposed @ steps. Entry (i, t)
// gets the same subtractions in the same order as in target_lanes.hpp, each rounded on its own: the
// bits are those of the CPU's lanes, whatever the width, the panels and the blocks of threads.
//
// What the panels save: the gradient is read and written once for kPanelRows coordinates, not
// once for each 16.
//
// Reference: Friedman, Hastie and Tibshirani, J. Stat. Software 2010, "covariance updates".
#pragma once

#include <cstddef>
#include <cstdint>

#include "lane_solver.hpp"
#include "packed_matmul.hpp"
#include "thread_block.cuh"

namespace pyattr {
namespace cuda {

constexpr std::size_t kSolveRows = 16;  // kBlock of target_lanes.hpp: sums of a block are float32
constexpr std::size_t kPanelRows = 128;
constexpr std::size_t kPanelTargets = 32;
constexpr std::size_t kTrailingTargets = 64;

struct alignas(16) Floats4 {
  float at[4];
};

// A rule says what a step is:
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

struct LassoRule {
  struct Shared {};
  struct Lane {
    LassoLane lane;
  };

  const LassoLane* lanes;  // (width,)

  PYATTR_DEVICE Lane load(Shared&, std::size_t column, std::size_t lane) const {
    return {lanes[column + lane]};
  }
  PYATTR_DEVICE bool moves(const Lane& own) const { return own.lane.moving > 0.0f; }
  PYATTR_DEVICE void begin_block(Shared&, Lane&, int) const {}
  PYATTR_DEVICE LaneStep step(Shared&, Lane& own, int, std::size_t, float diagonal, float gradient,
                              float weight) const {
    return lasso_step(own.lane, diagonal, gradient, weight);
  }
  PYATTR_DEVICE void end_block(Shared&, Lane&, int) const {}
  PYATTR_DEVICE void store(Shared&, const Lane&, std::size_t, std::size_t) const {}
};

struct MixtureRule {
  struct Shared {
    float tau2[kMostComponents][kPanelTargets], pi[kMostComponents][kPanelTargets];
    float phi[kMostComponents][kPanelTargets], sums[kMostComponents][kPanelTargets];
    double weight_sum[kMostComponents][kPanelTargets];
  };
  struct Lane {
    MixtureScalars scalars;
    float shrink, moved, square;  // of a block of coordinates
    double shrink_sum, moved_sum, square_sum;
  };

  MixtureLane* lanes;  // (width,)
  float* variances;    // (n, width) of the posterior
  int n_components;

  PYATTR_DEVICE Lane load(Shared& shared, std::size_t column, std::size_t lane) const {
    const MixtureLane& from = lanes[column + lane];
    for (int k = 0; k < n_components; ++k) {
      shared.tau2[k][lane] = from.tau2[k];
      shared.pi[k][lane] = from.pi[k];
      shared.weight_sum[k][lane] = from.weight_sum[k];
    }
    return {from.scalars, 0.0f, 0.0f, 0.0f, from.shrink_sum, from.moved, from.square_sum};
  }

  PYATTR_DEVICE bool moves(const Lane& own) const { return own.scalars.moving > 0.0f; }
  PYATTR_DEVICE void begin_block(Shared& shared, Lane& own, int lane) const {
    for (int k = 0; k < n_components; ++k) shared.sums[k][lane] = 0.0f;
    own.shrink = own.moved = own.square = 0.0f;
  }

  PYATTR_DEVICE LaneStep step(Shared& shared, Lane& own, int lane, std::size_t at, float diagonal,
                              float gradient, float weight) const {
    const MixtureView view{&shared.tau2[0][lane], &shared.pi[0][lane], &shared.phi[0][lane],
                           &shared.sums[0][lane], kPanelTargets};
    const MixtureStep next =
        mixture_step(own.scalars, view, n_components, diagonal, gradient, weight);
    if (own.scalars.moving > 0.0f) variances[at] = next.variance;
    own.shrink += next.shrink;
    own.moved += next.moved;
    own.square += next.square;
    return {next.step, weight + next.step};
  }

  PYATTR_DEVICE void end_block(Shared& shared, Lane& own, int lane) const {
    for (int k = 0; k < n_components; ++k)
      shared.weight_sum[k][lane] += static_cast<double>(shared.sums[k][lane]);
    own.shrink_sum += static_cast<double>(own.shrink);
    own.moved_sum += static_cast<double>(own.moved);
    own.square_sum += static_cast<double>(own.square);
  }

  PYATTR_DEVICE void store(Shared& shared, const Lane& own, std::size_t column,
                           std::size_t lane) const {
    MixtureLane& to = lanes[column + lane];
    for (int k = 0; k < n_components; ++k) to.weight_sum[k] = shared.weight_sum[k][lane];
    to.shrink_sum = own.shrink_sum;
    to.moved = own.moved_sum;
    to.square_sum = own.square_sum;
  }
};

// gradient[i, t] -= sum over b of G[first + b, i] * steps[b, t], b rising, for the 128 coordinates
// i and 64 targets t of a block; coordinates of the panel itself are left out unless `all`. Steps
// that are 0 for all 64 targets are skipped: a sparse target's coordinates rest for most sweeps.
struct TrailingBlock {
  static constexpr int kThreads = 256, kBlocksPerProcessor = 2;
  static constexpr std::size_t kDepth = 16;  // steps a stage
  static constexpr int kSlots = 3;
  static constexpr int kOwnRows = 8, kOwnTargets = 4;
  struct Shared {
    alignas(16) float gram[kSlots][kDepth][kPanelRows];
    alignas(16) float steps[kSlots][kDepth][kTrailingTargets];
    std::int32_t used[kPanelRows], list[kPanelRows];
    std::int32_t n_used;
  };
  struct Sums {
    float at[kOwnRows][kOwnTargets];
  };

  const float* gram;
  std::size_t n, first, n_steps, width;
  const float* steps;  // (n_steps, width)
  bool all;
  float* gradient;

  std::size_t size() const {
    return (n + kPanelRows - 1) / kPanelRows * (width / kTrailingTargets);
  }

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t n_columns = width / kTrailingTargets;
    const std::size_t column = index % n_columns * kTrailingTargets;
    const std::size_t row = index / n_columns * kPanelRows;
    if (row == first && !all) return;
    list_used(block, shared, column);
    const std::size_t n_used = static_cast<std::size_t>(shared.n_used);
    if (n_used == 0) return;
    const std::size_t n_stages = (n_used + kDepth - 1) / kDepth;
    Sums sums;
    for (std::size_t s = 0; s + 1 < kSlots; ++s) load(block, shared, row, column, s, n_used, s);
    each_entry(row, column, block.thread,
               [&](int r, int c, float& entry) { sums.at[r][c] = entry; });
    for (std::size_t s = 0; s < n_stages; ++s) {
      block.template wait<kSlots - 2>();
      block.sync();
      load(block, shared, row, column, s + kSlots - 1, n_used, (s + kSlots - 1) % kSlots);
      subtract(shared.gram[s % kSlots], shared.steps[s % kSlots], sums, block.thread);
    }
    each_entry(row, column, block.thread,
               [&](int r, int c, float& entry) { entry = sums.at[r][c]; });
  }

 private:
  // Which steps are not 0 for all targets, by rising index.
  PYATTR_DEVICE void list_used(const ThreadBlock<kThreads>& block, Shared& shared,
                               std::size_t column) const {
    const int thread = block.thread;
    if (thread < static_cast<int>(kPanelRows)) shared.used[thread] = 0;
    block.sync();
    const std::size_t b = thread / 2, half = thread % 2 * (kTrailingTargets / 2);
    bool any = false;
    if (b < n_steps)
      for (std::size_t t = 0; t < kTrailingTargets / 2; ++t)
        any |= steps[b * width + column + half + t] != 0.0f;
    if (any) shared.used[b] = 1;
    block.sync();
    if (thread < static_cast<int>(kPanelRows)) {
      std::int32_t before = 0;
      for (int c = 0; c < thread; ++c) before += shared.used[c];
      if (shared.used[thread]) shared.list[before] = thread;
      if (thread == static_cast<int>(kPanelRows) - 1) shared.n_used = before + shared.used[thread];
    }
    block.sync();
  }

  PYATTR_DEVICE void load(const ThreadBlock<kThreads>& block, Shared& shared, std::size_t row,
                          std::size_t column, std::size_t stage, std::size_t n_used,
                          std::size_t slot) const {
    if (stage * kDepth < n_used) {
      for (std::size_t e = block.thread; e < kDepth * kPanelRows; e += kThreads) {
        const std::size_t b = e / kPanelRows, i = e % kPanelRows, at = stage * kDepth + b;
        float* const to = &shared.gram[slot][b][i];
        if (at < n_used && row + i < n)
          block.copy1(to, gram + (first + static_cast<std::size_t>(shared.list[at])) * n + row + i);
        else
          *to = 0.0f;
      }
      for (std::size_t e = block.thread; e < kDepth * kTrailingTargets; e += kThreads) {
        const std::size_t b = e / kTrailingTargets, t = e % kTrailingTargets;
        const std::size_t at = stage * kDepth + b;
        float* const to = &shared.steps[slot][b][t];
        if (at < n_used)
          block.copy1(to, steps + static_cast<std::size_t>(shared.list[at]) * width + column + t);
        else
          *to = 0.0f;
      }
    }
    block.end_group();
  }

  PYATTR_DEVICE void subtract(const float (*rows)[kPanelRows],
                              const float (*step)[kTrailingTargets], Sums& sums, int thread) const {
    const int i = thread / 16 * kOwnRows, t = thread % 16 * kOwnTargets;
#pragma unroll
    for (std::size_t b = 0; b < kDepth; ++b) {
      const Floats4 g[2] = {*reinterpret_cast<const Floats4*>(&rows[b][i]),
                            *reinterpret_cast<const Floats4*>(&rows[b][i + 4])};
      const Floats4 s = *reinterpret_cast<const Floats4*>(&step[b][t]);
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r)
#pragma unroll
        for (int c = 0; c < kOwnTargets; ++c) sums.at[r][c] -= g[r / 4].at[r % 4] * s.at[c];
    }
  }

  // The entries of the gradient that are a thread's.
  template <typename Use>
  PYATTR_DEVICE void each_entry(std::size_t row, std::size_t column, int thread, Use use) const {
    const std::size_t i = row + static_cast<std::size_t>(thread / 16 * kOwnRows);
    const std::size_t t = column + static_cast<std::size_t>(thread % 16 * kOwnTargets);
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r)
#pragma unroll
      for (int c = 0; c < kOwnTargets; ++c)
        if (i + r < n) use(r, c, gradient[(i + r) * width + t + c]);
  }
};

}  // namespace cuda
}  // namespace pyattr

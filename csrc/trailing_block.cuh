// The gradient of all coordinates after the steps of a panel: one matrix product.
//
// Entry (i, t) gets its subtractions one after the other by rising b, each rounded on its own, as
// in target_lanes.hpp: the bits are the CPU's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "thread_block.cuh"

namespace pyattr {
namespace cuda {

constexpr std::size_t kPanelRows = 128;
constexpr std::size_t kTrailingTargets = 64;

struct alignas(16) Floats4 {
  float at[4];
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

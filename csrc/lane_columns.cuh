// Targets as columns of (n, width) matrices on the device, and what the solvers do to all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "column_sums.cuh"
#include "device_solvers.hpp"
#include "panel_rules.cuh"
#include "trailing_block.cuh"

namespace pyattr {
namespace cuda {

// Column c of (n, width) from row targets[c] of (T, n); 0 where there is none.
struct ToColumnsElement {
  const float* from;
  const std::int32_t* targets;  // (width,); negative: none
  std::size_t n, width;
  float* to;

  PYATTR_HD void operator()(std::size_t index) const {
    const std::int32_t target = targets[index % width];
    to[index] = target < 0 ? 0.0f : from[static_cast<std::size_t>(target) * n + index / width];
  }
};

// Row targets[c] of (T, n) from column c of (n, width), if chosen[c]; zeros lose their sign.
struct ToRowsElement {
  const float* from;
  const std::int32_t *targets, *chosen;
  std::size_t n, width;
  bool root;
  float* to;
  std::size_t stride, offset;  // row t is at t * stride + offset

  PYATTR_HD void operator()(std::size_t index) const {
    const std::size_t column = index / n, j = index % n;
    if (!chosen[column]) return;
    const float value = from[j * width + column];
    to[static_cast<std::size_t>(targets[column]) * stride + offset + j] =
        root ? sqrtf(value) : (value == 0.0f ? 0.0f : value);
  }
};

// Columns of (n, width) to keep, side by side: column c of `to` is column kept[c] of `from`.
struct CompactElement {
  const float* from;
  const std::int32_t* kept;  // (new_width,); negative: 0
  std::size_t width, new_width;
  float* to;

  PYATTR_HD void operator()(std::size_t index) const {
    const std::int32_t column = kept[index % new_width];
    to[index] =
        column < 0 ? 0.0f : from[index / new_width * width + static_cast<std::size_t>(column)];
  }
};

constexpr std::size_t kMostColumns = 4096;  // at a time: at n = 50,000 five matrices of 0.8 GB

inline std::size_t padded_width(std::size_t n_columns) {
  return (n_columns + kTrailingTargets - 1) / kTrailingTargets * kTrailingTargets;
}

class Columns {
 public:
  // Targets first .. first + size - 1; weights 0, gradient = cross.
  Columns(const DeviceMoments& moments, std::size_t first, std::size_t size)
      : gram_(moments.gram),
        n_(moments.n),
        targets_(padded_width(size), -1),
        cross_(from_rows(moments.cross, first, size)),
        weights_(n_ * width()),
        gradient_(n_ * width()),
        steps_(kPanelRows * width()) {
    std::iota(targets_.begin(), targets_.begin() + static_cast<std::ptrdiff_t>(size),
              static_cast<std::int32_t>(first));
    copy_on_device(gradient_.get(), cross_.get(), n_ * width() * sizeof(float));
  }

  std::size_t n() const { return n_; }
  std::size_t width() const { return targets_.size(); }
  std::int32_t target(std::size_t column) const { return targets_[column]; }  // negative: none
  const float* cross() const { return cross_.get(); }
  const float* weights() const { return weights_.get(); }
  const float* gradient() const { return gradient_.get(); }

  // (n, width) from rows first .. of (T, n).
  DeviceBuffer<float> from_rows(const float* rows, std::size_t first, std::size_t size) const {
    std::vector<std::int32_t> which(padded_width(size), -1);
    std::iota(which.begin(), which.begin() + static_cast<std::ptrdiff_t>(size),
              static_cast<std::int32_t>(first));
    return to_columns(rows, which);
  }
  DeviceBuffer<float> from_rows(const float* rows) const { return to_columns(rows, targets_); }

  // One sweep over all coordinates; the gradient follows.
  template <typename Rule>
  void sweep(const Rule& rule) {
    for (std::size_t first = 0; first < n_; first += kPanelRows) {
      launch_blocks(width() / kPanelTargets,
                    PanelBlock<Rule>{gram_, n_, first, width(), gradient_.get(), weights_.get(),
                                     steps_.get(), rule});
      if (n_ > kPanelRows) trail(gram_, first, steps_.get(), false, gradient_.get());
    }
  }

  // gradient = cross - G w
  void form_gradient() {
    copy_on_device(gradient_.get(), cross_.get(), n_ * width() * sizeof(float));
    subtract_product(gram_, gradient_.get());
  }

  // sums (n, width) -= G w
  void subtract_product(const float* gram, float* sums) const {
    subtract_product(gram, weights_.get(), sums);
  }
  void subtract_product(const float* gram, const float* columns, float* sums) const {
    for (std::size_t first = 0; first < n_; first += kPanelRows)
      trail(gram, first, columns + first * width(), true, sums);
  }

  template <typename Terms>
  void sum(const Terms& terms) const {
    launch_blocks(width() / kSumTargets, SumsBlock<Terms>{n_, width(), terms});
  }

  // Rows of the chosen columns' targets, t * stride + offset into `rows`, from (n, width).
  void store(const float* columns, const std::vector<std::int32_t>& chosen, bool root, float* rows,
             std::size_t stride, std::size_t offset) const {
    const DeviceBuffer<std::int32_t> targets(width(), targets_.data());
    const DeviceBuffer<std::int32_t> which(width(), chosen.data());
    launch(n_ * width(), ToRowsElement{columns, targets.get(), which.get(), n_, width(), root, rows,
                                       stride, offset});
  }

  // Whether moving n_kept columns together would save a quarter of the work.
  bool worth_compacting(std::size_t n_kept) const {
    return 4 * padded_width(n_kept) <= 3 * width();
  }

  // Keep these columns alone; `others` are more matrices (n, width) of the same columns.
  void compact(const std::vector<std::int32_t>& kept,
               const std::vector<DeviceBuffer<float>*>& others) {
    std::vector<std::int32_t> columns = kept;
    columns.resize(padded_width(kept.size()), -1);
    const DeviceBuffer<std::int32_t> which(columns.size(), columns.data());
    std::vector<DeviceBuffer<float>*> all{&cross_, &weights_, &gradient_};
    all.insert(all.end(), others.begin(), others.end());
    for (DeviceBuffer<float>* matrix : all) {
      DeviceBuffer<float> next(n_ * columns.size());
      launch(next.size(),
             CompactElement{matrix->get(), which.get(), width(), columns.size(), next.get()});
      matrix->swap(next);
    }
    std::vector<std::int32_t> targets(columns.size(), -1);
    for (std::size_t c = 0; c < kept.size(); ++c) targets[c] = targets_[kept[c]];
    targets_.swap(targets);
  }

 private:
  DeviceBuffer<float> to_columns(const float* rows, const std::vector<std::int32_t>& which) const {
    const DeviceBuffer<std::int32_t> targets(which.size(), which.data());
    DeviceBuffer<float> columns(n_ * which.size());
    launch(columns.size(), ToColumnsElement{rows, targets.get(), n_, which.size(), columns.get()});
    return columns;
  }

  void trail(const float* gram, std::size_t first, const float* steps, bool all,
             float* sums) const {
    const TrailingBlock kernel{gram,    n_,    first, least(kPanelRows, n_ - first),
                               width(), steps, all,   sums};
    launch_blocks(kernel.size(), kernel);
  }

  const float* gram_;
  std::size_t n_;
  std::vector<std::int32_t> targets_;
  DeviceBuffer<float> cross_, weights_, gradient_, steps_;
};

// States of the columns' targets on the host and on the device.
template <typename Lane>
class Lanes {
 public:
  explicit Lanes(std::size_t width) : host(width), device_(width) {}
  std::vector<Lane> host;

  Lane* device() const { return device_.get(); }
  void write() const { copy_to_device(device_.get(), host.data(), host.size() * sizeof(Lane)); }
  void read() { copy_to_host(host.data(), device_.get(), host.size() * sizeof(Lane)); }
  // Keep the columns in `kept`, then columns like `spare`.
  void compact(const std::vector<std::int32_t>& kept, const Lane& spare) {
    std::vector<Lane> next(padded_width(kept.size()), spare);
    for (std::size_t c = 0; c < kept.size(); ++c) next[c] = host[kept[c]];
    host.swap(next);
  }

 private:
  DeviceBuffer<Lane> device_;
};

}  // namespace cuda
}  // namespace pyattr

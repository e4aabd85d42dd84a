// LASSO paths on the device: sweeps by launches; lambdas, gaps and ends of paths on the host.
#include <algorithm>
#include <limits>
#include <vector>

#include "lane_columns.cuh"

namespace pyattr {
namespace cuda {
namespace {

constexpr int kMostRounds = 50;       // of sweeps and a gradient formed anew, for one lambda
constexpr int kSweepsARound = 25;     // an updated gradient drifts: more sweeps would stall the gap
constexpr double kFirstGoal = 0.9;    // of the tolerance, for the gap of the updated gradient
constexpr double kHarderGoal = 0.25;  // where the gap of the gradient formed anew was too large

class LassoColumns {
 public:
  LassoColumns(const DeviceMoments& moments, const DeviceLassoPath& path, std::size_t first,
               std::size_t size, float* weights)
      : path_(path),
        columns_(moments, first, size),
        lanes_(columns_.width()),
        held_cross_(held_out() ? columns_.from_rows(path.held_out.cross, first, size)
                               : DeviceBuffer<float>(0)),
        weights_(weights),
        best_(size, std::numeric_limits<double>::infinity()),
        best_step_(size, 0),
        running_(size, 1),
        first_(first) {
    for (std::size_t c = 0; c < size; ++c) lanes_.host[c].square = moments.square[first + c];
  }

  void run() {
    for (std::size_t step = 0; step < path_.n_lambdas; ++step) {
      compact(step);
      const std::vector<std::size_t> fitted = begin(step);
      if (fitted.empty()) break;
      solve(fitted, step);
      if (held_out()) hold_out(fitted, step);
      record(fitted, step);
    }
    if (!path_.whole) store(std::vector<std::int32_t>(columns_.width(), 1), columns_.n(), 0);
  }

 private:
  bool held_out() const { return path_.held_out.gram != nullptr; }
  std::size_t target(std::size_t c) const { return static_cast<std::size_t>(columns_.target(c)); }
  double lambda(std::size_t c, std::size_t step) const {
    return path_.lambdas[target(c) * path_.n_lambdas + step];
  }
  bool goes_on(std::size_t c, std::size_t step) const {
    return columns_.target(c) >= 0 && running_[target(c) - first_] &&
           step < static_cast<std::size_t>(path_.n_steps[target(c)]);
  }

  // Start a lambda for every target that is still on its way.
  std::vector<std::size_t> begin(std::size_t step) {
    std::vector<std::size_t> fitted;
    for (std::size_t c = 0; c < columns_.width(); ++c) {
      LassoLane& lane = lanes_.host[c];
      lane.moving = 0.0f;
      if (!goes_on(c, step)) continue;
      lane.lambda = static_cast<float>(lambda(c, step));
      lane.goal = kFirstGoal * path_.tolerance * lane.square;
      lane.moving = 1.0f;
      fitted.push_back(c);
    }
    return fitted;
  }

  // Rounds of sweeps until the gap of a gradient formed anew is small enough for all.
  void solve(const std::vector<std::size_t>& fitted, std::size_t step) {
    std::vector<std::size_t> pending = fitted;
    for (int round = 0; round < kMostRounds && !pending.empty(); ++round) {
      sweep(pending, step);
      columns_.form_gradient();
      measure();
      std::vector<std::size_t> left;
      for (std::size_t c : pending) {
        LassoLane& lane = lanes_.host[c];
        const bool rested = lane.moving == 0.0f;
        const bool done = lasso_gap(lane, lambda(c, step)) <= path_.tolerance * lane.square;
        lane.moving = done ? 0.0f : 1.0f;
        if (done) continue;
        if (rested) lane.goal *= kHarderGoal;
        left.push_back(c);
      }
      pending.swap(left);
    }
  }

  void sweep(const std::vector<std::size_t>& pending, std::size_t step) {
    std::size_t n_moving = pending.size();
    for (int sweep = 0; sweep < kSweepsARound && n_moving > 0; ++sweep) {
      lanes_.write();
      columns_.sweep(LassoRule{lanes_.device()});
      measure();
      n_moving = 0;
      for (std::size_t c : pending) {
        LassoLane& lane = lanes_.host[c];
        if (lane.moving > 0.0f && lasso_gap(lane, lambda(c, step)) <= lane.goal) lane.moving = 0.0f;
        n_moving += lane.moving > 0.0f;
      }
    }
  }

  void measure() {
    lanes_.write();
    columns_.sum(
        GapTerms{columns_.cross(), columns_.gradient(), columns_.weights(), lanes_.device()});
    lanes_.read();
  }

  void hold_out(const std::vector<std::size_t>& fitted, std::size_t step) {
    const DeviceBuffer<float> product(columns_.n() * columns_.width());
    columns_.subtract_product(path_.held_out.gram, product.get());
    const DeviceBuffer<double> errors(columns_.width());
    columns_.sum(HeldOutTerms{held_cross_.get(), product.get(), columns_.weights(), errors.get()});
    std::vector<double> sums(columns_.width());
    errors.copy(sums.data());
    for (std::size_t c : fitted)
      path_.errors[target(c) * path_.n_lambdas + step] = path_.held_out.square[target(c)] + sums[c];
  }

  void record(const std::vector<std::size_t>& fitted, std::size_t step) {
    for (std::size_t c : fitted) {
      const std::size_t t = target(c), at = t * path_.n_lambdas + step, own = t - first_;
      const LassoLane& lane = lanes_.host[c];
      const double gap = lasso_gap(lane, lambda(c, step));
      path_.gaps[at] = lane.square > 0.0 ? std::max(gap, 0.0) / lane.square : 0.0;
      path_.n_done[t] = static_cast<std::int32_t>(step + 1);
      if (!held_out()) continue;
      const double error = path_.errors[at];
      if (error < best_[own]) best_[own] = error, best_step_[own] = step;
      running_[own] = step - best_step_[own] < static_cast<std::size_t>(path_.held_out.patience) ||
                      error <= best_[own] * (1.0 + path_.held_out.rise);
    }
    if (!path_.whole) return;
    std::vector<std::int32_t> chosen(columns_.width(), 0);
    for (std::size_t c : fitted) chosen[c] = 1;
    store(chosen, path_.n_lambdas * columns_.n(), step * columns_.n());
  }

  // Weights of the chosen columns that have a target.
  void store(std::vector<std::int32_t> chosen, std::size_t stride, std::size_t offset) const {
    for (std::size_t c = 0; c < chosen.size(); ++c)
      if (columns_.target(c) < 0) chosen[c] = 0;
    columns_.store(columns_.weights(), chosen, false, weights_, stride, offset);
  }

  // Put targets whose path has ended aside.
  void compact(std::size_t step) {
    std::vector<std::int32_t> kept, done(columns_.width(), 1);
    for (std::size_t c = 0; c < columns_.width(); ++c)
      if (goes_on(c, step)) {
        kept.push_back(static_cast<std::int32_t>(c));
        done[c] = 0;
      }
    if (kept.empty() || !columns_.worth_compacting(kept.size())) return;
    if (!path_.whole) store(done, columns_.n(), 0);
    columns_.compact(kept, held_out() ? std::vector<DeviceBuffer<float>*>{&held_cross_}
                                      : std::vector<DeviceBuffer<float>*>{});
    lanes_.compact(kept, LassoLane{});
  }

  const DeviceLassoPath& path_;
  Columns columns_;
  Lanes<LassoLane> lanes_;
  DeviceBuffer<float> held_cross_;
  float* weights_;  // device, as path.weights
  std::vector<double> best_;
  std::vector<std::size_t> best_step_;
  std::vector<char> running_;
  std::size_t first_;
};

}  // namespace

void lasso_paths(const DeviceMoments& moments, const DeviceLassoPath& path) {
  const DeviceBuffer<float> weights(moments.n_targets * moments.n *
                                    (path.whole ? path.n_lambdas : 1));
  for (std::size_t first = 0; first < moments.n_targets; first += kMostColumns)
    LassoColumns(moments, path, first, least(kMostColumns, moments.n_targets - first),
                 weights.get())
        .run();
  weights.copy(path.weights);
}

}  // namespace cuda
}  // namespace pyattr

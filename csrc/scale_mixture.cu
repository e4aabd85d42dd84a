// Empirical Bayes on the device: sweeps by launches, EM's step of each target on the host.
#include <algorithm>
#include <vector>

#include "lane_columns.cuh"

namespace pyattr {
namespace cuda {
namespace {

// Lanes of columns that have no target: nothing in them is 0 / 0, and they never move.
MixtureLane spare_lane(const MixtureRules& rules) {
  MixtureLane lane{};
  std::fill_n(lane.pi, kMostComponents, 1.0f);
  lane.noise = 1.0;
  set_noise(lane, rules, 1.0);
  return lane;
}

class MixtureColumns {
 public:
  MixtureColumns(const DeviceMoments& moments, const DeviceMixture& fit, std::size_t first,
                 std::size_t size, float* weights, float* deviations)
      : fit_(fit),
        rules_{static_cast<int>(fit.n_components),
               static_cast<double>(moments.n),
               fit.n_rows,
               fit.kept,
               fit.n_kept,
               fit.extra_rows,
               fit.normal,
               fit.tolerance},
        columns_(moments, first, size),
        lanes_(columns_.width()),
        variances_(moments.n * columns_.width()),
        weights_(weights),
        deviations_(deviations) {
    std::fill(lanes_.host.begin(), lanes_.host.end(), spare_lane(rules_));
    for (std::size_t c = 0; c < size; ++c) start(lanes_.host[c], first + c, moments.square);
  }

  void run() {
    for (int sweep = 1; sweep <= fit_.max_sweeps; ++sweep) {
      const std::vector<std::int32_t> running = columns_that_run();
      if (running.empty()) break;
      if (columns_.worth_compacting(running.size())) compact(running);
      lanes_.write();
      columns_.sweep(MixtureRule{lanes_.device(), variances_.get(), rules_.n_components});
      if (sweep % kSweepsToRefresh == 0) columns_.form_gradient();
      columns_.sum(ExplainedTerms{columns_.cross(), columns_.gradient(), columns_.weights(),
                                  lanes_.device()});
      lanes_.read();
      for (MixtureLane& lane : lanes_.host) update_mixture(lane, rules_, sweep);
    }
    store({});
  }

 private:
  void start(MixtureLane& lane, std::size_t target, const double* square) const {
    const std::size_t n_components = fit_.n_components;
    std::copy_n(fit_.variances + target * n_components, n_components, lane.tau2);
    std::copy_n(fit_.proportions + target * n_components, n_components, lane.pi);
    lane.square = square[target];
    lane.running = lane.square > 0.0;
    set_noise(lane, rules_, lane.running ? fit_.noise[target] : 1.0);
  }

  std::vector<std::int32_t> columns_that_run() const {
    std::vector<std::int32_t> running;
    for (std::size_t c = 0; c < columns_.width(); ++c)
      if (lanes_.host[c].running) running.push_back(static_cast<std::int32_t>(c));
    return running;
  }

  void compact(const std::vector<std::int32_t>& running) {
    store(running);
    columns_.compact(running, {&variances_});
    lanes_.compact(running, spare_lane(rules_));
  }

  // Results of all targets but those of the columns `kept`.
  void store(const std::vector<std::int32_t>& kept) {
    std::vector<std::int32_t> chosen(columns_.width(), 0);
    for (std::size_t c = 0; c < columns_.width(); ++c) chosen[c] = columns_.target(c) >= 0;
    for (std::int32_t c : kept) chosen[c] = 0;
    columns_.store(columns_.weights(), chosen, false, weights_, columns_.n(), 0);
    columns_.store(variances_.get(), chosen, true, deviations_, columns_.n(), 0);
    for (std::size_t c = 0; c < columns_.width(); ++c) {
      if (!chosen[c]) continue;
      const MixtureLane& lane = lanes_.host[c];
      const auto t = static_cast<std::size_t>(columns_.target(c));
      const bool any = lane.square > 0.0;
      std::copy_n(lane.pi, fit_.n_components, fit_.proportions + t * fit_.n_components);
      fit_.noise[t] = any ? lane.noise : 0.0;
      fit_.freedom[t] = lane.freedom;
      fit_.residual[t] = any ? lane.residual : 0.0;
      fit_.sweeps[t] = lane.converged || !any ? lane.sweeps : -lane.sweeps;
    }
  }

  const DeviceMixture& fit_;
  MixtureRules rules_;
  Columns columns_;
  Lanes<MixtureLane> lanes_;
  DeviceBuffer<float> variances_;
  float *weights_, *deviations_;  // (T, n) device
};

}  // namespace

void fit_mixtures(const DeviceMoments& moments, const DeviceMixture& fit) {
  const std::size_t size = moments.n_targets * moments.n;
  const DeviceBuffer<float> weights(size), deviations(size);
  for (std::size_t first = 0; first < moments.n_targets; first += kMostColumns)
    MixtureColumns(moments, fit, first, least(kMostColumns, moments.n_targets - first),
                   weights.get(), deviations.get())
        .run();
  weights.copy(fit.weights);
  deviations.copy(fit.deviations);
}

}  // namespace cuda
}  // namespace pyattr

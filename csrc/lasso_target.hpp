// One target on its way down the path.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "active_set.hpp"
#include "gradient_pass.hpp"
#include "lasso_problem.hpp"

namespace pyattr {

class LassoTarget {
 public:
  LassoTarget(const LassoProblem& problem, std::size_t target, ActiveSpace& space)
      : problem_(problem),
        cross_(problem.cross + target * problem.n),
        square_(problem.square[target]),
        active_(problem.gram, cross_, problem.n, space),
        gradient_(cross_, cross_ + problem.n) {}

  // Choose where to start: a dense target from where its path was heading, another one with what
  // the sequential strong rule cannot exclude.
  void begin(double lambda, double previous) {
    const double step = previous - lambda;
    lambda_ = lambda;
    goal_ = kFirstGoal * problem_.tolerance * square_;
    relax_ = sweeps_ > kQuickSweeps ? kRelaxed : 1.0f;
    last_sweeps_ = sweeps_;
    sweeps_ = 0;
    if (dense()) {
      predict(step);
    } else {
      active_.add_above(gradient_.data(), static_cast<float>(2.0 * lambda - previous));
      if (uses_many()) {
        dense_.assign(problem_.n, 0.0f);
        active_.scatter(dense_.data());
      }
    }
    last_step_ = step;
  }

  // Whether all coordinates are swept, in a lane.
  bool dense() const { return !dense_.empty(); }
  float* dense_weights() { return dense_.data(); }
  const float* gradient() const { return gradient_.data(); }
  const float* cross() const { return cross_; }
  double square() const { return square_; }
  double lambda() const { return lambda_; }
  double goal() const { return goal_; }
  int last_sweeps() const { return last_sweeps_; }
  float relax() const { return relax_; }
  void count_sweeps(int sweeps) { sweeps_ += sweeps; }

  void solve() { active_.solve(gradient_.data(), square_, lambda_, goal_); }

  // The entries of w that are not 0, by rising index, for the gradient pass.
  void list_support() {
    index_.clear();
    value_.clear();
    for (std::size_t j = 0; j < dense_.size(); ++j)
      if (dense_[j] != 0.0f) {
        index_.push_back(static_cast<std::uint32_t>(j));
        value_.push_back(dense_[j]);
      }
    if (!dense()) active_.append_support(index_, value_);
  }

  SparseProduct begin_gradient() {
    std::copy(cross_, cross_ + problem_.n, gradient_.begin());
    return {&index_, &value_, gradient_.data()};
  }

  SparseProduct begin_held_out() {
    held_out_.assign(problem_.n, 0.0f);
    return {&index_, &value_, held_out_.data()};
  }

  // Whether the gap is small enough; if not, what is missing comes in and the goal gets harder.
  bool finished() {
    GapSums sums;
    sums.largest = largest_size(gradient_.data(), problem_.n);
    for (std::size_t e = 0; e < index_.size(); ++e) {
      const double w = value_[e];
      sums.wb += w * cross_[index_[e]];
      sums.wg += w * gradient_[index_[e]];
      sums.l1 += std::fabs(w);
    }
    gap_ = duality_gap(square_, lambda_, sums);
    if (gap_ <= problem_.tolerance * square_) return true;
    if (dense() || !active_.add_above(gradient_.data(), static_cast<float>(lambda_))) goal_ *= 0.25;
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
  static constexpr double kFirstGoal = 0.9;  // of the tolerance, for sweeps
  static constexpr std::size_t kFewCoordinates = 16;
  static constexpr double kMostAhead = 2.0;
  // A path that took many sweeps for its last lambda has coordinates that are strongly correlated:
  // over-relaxed sweeps save a sixth there (and cost a tenth where few sweeps are enough).
  static constexpr int kQuickSweeps = 5;
  static constexpr float kRelaxed = 1.15f;

  // The strong rule lets in more than are used, so a quarter active or an eighth used.
  bool uses_many() const {
    return active_.size() > std::max(problem_.n / 4, kFewCoordinates) ||
           index_.size() > std::max(problem_.n / 8, kFewCoordinates);
  }

  // Between the lambdas at which its support changes a path is linear in lambda, and so is its
  // gradient: go on as far as the last step and this one say, but stop at 0, which costs G one row
  // for each coordinate that would have crossed it.
  void predict(double step) {
    const bool known = !dense_before_.empty() && last_step_ > 0.0;
    const float share = known ? static_cast<float>(std::min(step / last_step_, kMostAhead)) : 0.0f;
    dense_before_.resize(problem_.n, 0.0f);
    gradient_before_.resize(problem_.n, 0.0f);
    index_.clear();
    value_.clear();
    for (std::size_t j = 0; j < problem_.n; ++j) {
      const float w = dense_[j], ahead = w + share * (w - dense_before_[j]);
      const float g = gradient_[j];
      gradient_[j] = g + share * (g - gradient_before_[j]);
      gradient_before_[j] = g;
      dense_before_[j] = w;
      dense_[j] = ahead * w > 0.0f ? ahead : 0.0f;
      if (dense_[j] == ahead) continue;
      index_.push_back(static_cast<std::uint32_t>(j));
      value_.push_back(-ahead);
    }
    subtract_rows(problem_.gram, problem_.n, index_.data(), value_.data(), index_.size(),
                  {0, problem_.n}, gradient_.data());
  }

  const LassoProblem& problem_;
  const float* cross_;  // (n,)
  double square_, lambda_ = 0.0, last_step_ = 0.0, goal_ = 0.0, gap_ = 0.0;
  float relax_ = 1.0f;
  int sweeps_ = 0, last_sweeps_ = 0;  // in lanes, for this lambda and the one before
  ActiveSet active_;
  std::vector<float> gradient_, held_out_, dense_, dense_before_, gradient_before_;
  std::vector<std::uint32_t> index_;
  std::vector<float> value_;
};

}  // namespace pyattr

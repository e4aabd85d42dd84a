// Empirical Bayes for many targets on one shared Gram matrix: a scale mixture of normals as prior,
// fitted to each target by EM, and the posterior mean by coordinate ascent (mr.ash).
//
//   gram   G (n, n) float32  X^T X / m, symmetric; X the centred rows, m their number
//   cross  b (T, n) float32  X^T y / m
//   square s (T,)   float64  y^T y / m
//   prior    w_j ~ sum_k pi_k N(0, tau_k^2), tau_0 = 0;   variances (T, K) float32 of tau_k^2
// With g = b - G w, d = G_jj, v = sigma^2 / (rho m), r = d w_j + g_j / rho and q_k = tau_k^2 / (v +
// d tau_k^2), component k has posterior mean q_k r, variance q_k v and weight
//   phi_k ~ pi_k sqrt(v / (v + d tau_k^2)) exp(q_k r^2 / 2 v).
// Then w_j = sum phi_k q_k r, pi_k = mean_j phi_jk. After each sweep, with h_j = d Var_j / v = dw_j
// / d(r/d), c = sum_j h_j / m and RSS = s - b.w - g.w, the noise is
//   sigma^2 = (RSS + e s / m) / (1 - c + e / m),
// e extra rows at the mean subset, with a square of s, that no w explains: it is never 0.
//
// rho is the share of the precision m d / sigma^2 that w_j keeps when the other coordinates, as
// uncertain as they are, are integrated out. 1 is mean field; on independent rows it is 1 - c and
// the fixed point that of approximate message passing, the Bayes-optimal one. In general it is a
// function of mean_j h_j and the spectrum of G, given as a table (Opper and Winther, "Adaptive and
// self-averaging TAP mean-field theory", PRE 2001). A coordinate moves to the root of its own
// equation by a Newton step, so that sweeps with rho < 1 are still coordinate descent of a fixed
// objective and do not diverge on correlated masks, as message passing does. Nor would message
// passing be a faster start: it takes as many products with G as there are sweeps, or more.
//
// Method.  16 targets side by side in SIMD lanes; lanes never mix. kBlock coordinates at a time are
// updated one after the other, then the whole gradient by one small matrix product. Gradients
// float32, formed anew every kRefresh sweeps; sums over coordinates float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "elementary.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "target_lanes.hpp"

namespace pyattr {

constexpr int kMaxComponents = 16;
constexpr int kRefresh = 25;
constexpr int kLeastSweeps = 8;        // the prior may still move where the means do not yet
constexpr float kLeastWeight = 1e-8f;  // of the widest component: no sum of weights is ever 0
constexpr double kLeastKept = 0.01;    // rho stays above

struct MixtureProblem {
  const float* gram;
  const float* cross;
  const double* square;
  const float* variances;  // (T, K)
  std::size_t n, n_components;
  double n_rows;
  const double* kept;  // (L,) rho where mean_j h_j = 0, 1 / (L - 1), ... 1; L >= 2
  std::size_t n_kept;
  double extra_rows;  // e
  bool normal;        // re-estimate tau_1^2 (of K = 2) too: tau_1^2 = sum w^2 / sum h (MacKay)
  int max_sweeps;
  double tolerance;  // stop when sum_j d_j (change of w_j)^2 <= tolerance * s
};

struct MixtureFit {
  float* weights;        // (T, n) posterior means
  float* deviations;     // (T, n) posterior standard deviations
  float* proportions;    // (T, K) in: where EM starts; out: pi
  double* noise;         // (T,)   in: where EM starts; out: sigma^2
  double* freedom;       // (T,)   c, effective degrees of freedom a row
  double* residual;      // (T,)   RSS
  std::int32_t* sweeps;  // (T,)   sweeps done; negative: the tolerance was not reached
};

// 1 / sqrt(x) for normal x > 0, to 2 ulp: an integer guess and three Newton steps.
PYATTR_INLINE float inverse_sqrt(float x) {
  float y = bits_as<float>(0x5F375A86u - (bits_as<std::uint32_t>(x) >> 1));
  y = y * (1.5f - 0.5f * x * (y * y));
  y = y * (1.5f - 0.5f * x * (y * y));
  return y * (1.5f - 0.5f * x * (y * y));
}

struct LaneState {
  alignas(64) float tau2[kMaxComponents][kLanes], pi[kMaxComponents][kLanes];
  alignas(64) float v[kLanes], inverse_v[kLanes], boost[kLanes], damp[kLanes], moving[kLanes];
  alignas(64) double weight_sum[kMaxComponents][kLanes];
  alignas(64) double freedom[kLanes], shrink_sum[kLanes], moved[kLanes], square_sum[kLanes];
};

// The step of one coordinate in every lane, its posterior variance, and the sums for EM.
//   sums (n_components + 3, kLanes) float32: phi_k, then h, d step^2 and the new w^2
PYATTR_INLINE void mixture_step(const LaneState& state, int n_components, float diagonal,
                                const float* gradient, const float* w, float* step, float* variance,
                                float (*sums)[kLanes]) {
  alignas(64) float q[kMaxComponents][kLanes], phi[kMaxComponents][kLanes];
  alignas(64) float r[kLanes], half[kLanes], total[kLanes] = {}, mean[kLanes] = {},
                                             square[kLanes] = {};
  for (int l = 0; l < kLanes; ++l) {
    r[l] = diagonal * w[l] + state.boost[l] * gradient[l];
    half[l] = 0.5f * (r[l] * r[l]) * state.inverse_v[l];
  }
  for (int k = n_components - 1; k >= 0; --k)
    for (int l = 0; l < kLanes; ++l)
      q[k][l] = state.tau2[k][l] / (state.v[l] + diagonal * state.tau2[k][l]);
  for (int k = n_components - 1; k >= 0; --k) {
    const float* widest = q[n_components - 1];
    for (int l = 0; l < kLanes; ++l) {
      // Relative to the widest component, whose exponent is the largest; rounding must not put
      // another above it. The moments are taken about it too: at little noise all q are alike.
      const float lower = q[k][l] - widest[l], below = lower < 0.0f ? lower : 0.0f;
      const float e = exp_f32(half[l] * below);
      const float narrow = 1.0f + diagonal * state.tau2[k][l] * state.inverse_v[l];
      phi[k][l] = state.pi[k][l] * e * inverse_sqrt(narrow);
      total[l] += phi[k][l];
      mean[l] += phi[k][l] * below;
      square[l] += phi[k][l] * (below * below);
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    const float scale = 1.0f / total[l];
    const float d1 = mean[l] * scale, d2 = square[l] * scale;
    const float q1 = q[n_components - 1][l] + d1;
    const float between = (r[l] * r[l]) * (d2 - d1 * d1);
    const float spread = q1 * state.v[l] + (between > 0.0f ? between : 0.0f);
    const float h = diagonal * spread * state.inverse_v[l];
    const float change = (q1 * r[l] - w[l]) / (1.0f + h * state.damp[l]) * state.moving[l];
    step[l] = change;
    variance[l] = state.moving[l] > 0.0f ? spread : variance[l];
    for (int k = 0; k < n_components; ++k) sums[k][l] += phi[k][l] * scale;
    sums[n_components][l] += h;
    sums[n_components + 1][l] += diagonal * (change * change);
    sums[n_components + 2][l] += (w[l] + change) * (w[l] + change);
  }
}

PYATTR_CLONES
static void form_gradient(const float* gram, std::size_t n, const float* cross, const float* w,
                          float* gradient) {
  std::memcpy(gradient, cross, n * kLanes * sizeof(float));
  for (std::size_t first = 0; first < n; first += kBlock)
    apply_steps(gram, n, first, least(kBlock, n - first),
                reinterpret_cast<const TargetLanes*>(w) + first,
                reinterpret_cast<TargetLanes*>(gradient));
}

// One sweep over all coordinates; w, gradient, variance (n, kLanes).
PYATTR_CLONES
static void mixture_sweep(const float* gram, std::size_t n, int n_components, LaneState& state,
                          float* w, float* gradient, float* variance) {
  alignas(64) float step[kBlock][kLanes];
  for (std::size_t first = 0; first < n; first += kBlock) {
    const std::size_t n_block = least(kBlock, n - first);
    alignas(64) float sums[kMaxComponents + 3][kLanes] = {};
    for (std::size_t b = 0; b < n_block; ++b) {
      const std::size_t j = first + b;
      const float* row = gram + j * n;
      alignas(64) float here[kLanes];
      std::memcpy(here, gradient + j * kLanes, sizeof here);
      for (std::size_t c = 0; c < b; ++c)
        for (int l = 0; l < kLanes; ++l) here[l] -= row[first + c] * step[c][l];
      mixture_step(state, n_components, row[j], here, w + j * kLanes, step[b],
                   variance + j * kLanes, sums);
      for (int l = 0; l < kLanes; ++l) w[j * kLanes + l] += step[b][l];
    }
    apply_steps(gram, n, first, n_block, reinterpret_cast<const TargetLanes*>(step),
                reinterpret_cast<TargetLanes*>(gradient));
    for (int k = 0; k < n_components; ++k)
      for (int l = 0; l < kLanes; ++l) state.weight_sum[k][l] += static_cast<double>(sums[k][l]);
    for (int l = 0; l < kLanes; ++l) {
      state.shrink_sum[l] += static_cast<double>(sums[n_components][l]);
      state.moved[l] += static_cast<double>(sums[n_components + 1][l]);
      state.square_sum[l] += static_cast<double>(sums[n_components + 2][l]);
    }
  }
}

// out[l] = sum over j of (cross + gradient) * w, in float64.
PYATTR_CLONES
static void explained(const float* cross, const float* gradient, const float* w, std::size_t n,
                      double* out) {
  for (int l = 0; l < kLanes; ++l) out[l] = 0.0;
  for (std::size_t i = 0; i < n; ++i)
    for (int l = 0; l < kLanes; ++l) {
      const std::size_t at = i * kLanes + l;
      out[l] += (double(cross[at]) + double(gradient[at])) * double(w[at]);
    }
}

// Up to 16 targets, first .. first + size - 1.
class MixtureBatch {
 public:
  MixtureBatch(const MixtureProblem& problem, std::size_t first, std::size_t size,
               const MixtureFit& out)
      : problem_(problem),
        out_(out),
        first_(first),
        size_(size),
        n_(problem.n),
        n_components_(static_cast<int>(problem.n_components)),
        w_(n_ * kLanes),
        gradient_(n_ * kLanes),
        cross_(n_ * kLanes),
        variance_(n_ * kLanes) {
    std::fill_n(w_.get(), n_ * kLanes, 0.0f);
    std::fill_n(variance_.get(), n_ * kLanes, 0.0f);
    for (std::size_t l = 0; l < kLanes; ++l) {
      const std::size_t t = first_ + (l < size_ ? l : 0);  // spare lanes repeat the first target
      for (std::size_t j = 0; j < n_; ++j)
        cross_.get()[j * kLanes + l] = problem_.cross[t * n_ + j];
      for (int k = 0; k < n_components_; ++k) {
        state_.tau2[k][l] = problem_.variances[t * problem_.n_components + k];
        state_.pi[k][l] = out_.proportions[t * problem_.n_components + k];
      }
      square_[l] = problem_.square[t];
      running_[l] = l < size_ && square_[l] > 0.0;
      state_.freedom[l] = 0.0;
      sweeps_[l] = 0;
      set_noise(l, square_[l] > 0.0 ? out_.noise[t] : 1.0);
    }
    std::memcpy(gradient_.get(), cross_.get(), n_ * kLanes * sizeof(float));
  }

  void run() {
    for (int sweep = 1; sweep <= problem_.max_sweeps && any_running(); ++sweep) {
      clear_sums();
      mixture_sweep(problem_.gram, n_, n_components_, state_, w_.get(), gradient_.get(),
                    variance_.get());
      if (sweep % kRefresh == 0)
        form_gradient(problem_.gram, n_, cross_.get(), w_.get(), gradient_.get());
      explained(cross_.get(), gradient_.get(), w_.get(), n_, explained_);
      for (std::size_t l = 0; l < kLanes; ++l)
        if (running_[l]) update(l, sweep);
    }
    store();
  }

 private:
  // EM's step for the prior and the noise of a lane; then decide whether the lane goes on.
  void update(std::size_t l, int sweep) {
    double total = 0.0;
    for (int k = 0; k < n_components_; ++k) total += state_.weight_sum[k][l];
    for (int k = 0; k < n_components_; ++k)
      state_.pi[k][l] = static_cast<float>(state_.weight_sum[k][l] / total);
    float& widest = state_.pi[n_components_ - 1][l];
    widest = std::max(widest, kLeastWeight);
    if (problem_.normal && state_.shrink_sum[l] > 0.0)
      state_.tau2[1][l] = static_cast<float>(state_.square_sum[l] / state_.shrink_sum[l]);
    residual_[l] = std::max(square_[l] - explained_[l], 0.0);
    // Undamped, a large noise now gives a small c and a small noise next time, and so on.
    const double freedom = state_.shrink_sum[l] / problem_.n_rows;
    state_.freedom[l] = sweep > 1 ? 0.5 * (freedom + state_.freedom[l]) : freedom;
    sweeps_[l] = sweep;
    const double extra = problem_.extra_rows / problem_.n_rows;
    const double left = std::max(1.0 - state_.freedom[l], 0.0) + extra;
    const double unexplained = (residual_[l] + extra * square_[l]) / left;
    // In this order 0 / 0, where nothing is left to judge by, counts as the square.
    const double noise = std::sqrt(noise_[l] * std::min(square_[l], unexplained));
    set_noise(l, std::max(noise, 1e-6 * square_[l]));
    if (sweep < kLeastSweeps || state_.moved[l] > problem_.tolerance * square_[l]) return;
    running_[l] = false;
    converged_[l] = true;
    state_.moving[l] = 0.0f;
  }

  void set_noise(std::size_t l, double noise) {
    const double rho = kept(state_.freedom[l]);
    noise_[l] = noise;
    state_.v[l] = static_cast<float>(noise / rho / problem_.n_rows);
    state_.inverse_v[l] = static_cast<float>(problem_.n_rows / noise * rho);
    state_.boost[l] = static_cast<float>(1.0 / rho);
    state_.damp[l] = static_cast<float>(1.0 / rho - 1.0);
    state_.moving[l] = running_[l] ? 1.0f : 0.0f;
  }

  // rho where sum h = c m, between the entries of the table on a line.
  double kept(double freedom) const {
    const double last = static_cast<double>(problem_.n_kept - 1);
    const double at = std::min(freedom * problem_.n_rows / static_cast<double>(n_), 1.0) * last;
    const auto below = static_cast<std::size_t>(std::min(at, last - 1.0));
    const double part = at - static_cast<double>(below);
    const double rho = problem_.kept[below] * (1.0 - part) + problem_.kept[below + 1] * part;
    return std::max(rho, kLeastKept);
  }

  void clear_sums() {
    std::memset(state_.weight_sum, 0, sizeof state_.weight_sum);
    std::memset(state_.shrink_sum, 0, sizeof state_.shrink_sum);
    std::memset(state_.moved, 0, sizeof state_.moved);
    std::memset(state_.square_sum, 0, sizeof state_.square_sum);
  }

  bool any_running() const {
    return std::any_of(running_, running_ + kLanes, [](bool r) { return r; });
  }

  void store() const {
    for (std::size_t l = 0; l < size_; ++l) {
      const std::size_t t = first_ + l;
      for (std::size_t j = 0; j < n_; ++j) {
        out_.weights[t * n_ + j] = w_.get()[j * kLanes + l];
        out_.deviations[t * n_ + j] = std::sqrt(variance_.get()[j * kLanes + l]);
      }
      for (int k = 0; k < n_components_; ++k)
        out_.proportions[t * problem_.n_components + k] = state_.pi[k][l];
      out_.noise[t] = square_[l] > 0.0 ? noise_[l] : 0.0;
      out_.freedom[t] = state_.freedom[l];
      out_.residual[t] = square_[l] > 0.0 ? residual_[l] : 0.0;
      out_.sweeps[t] = converged_[l] || !(square_[l] > 0.0) ? sweeps_[l] : -sweeps_[l];
    }
  }

  const MixtureProblem& problem_;
  const MixtureFit& out_;
  std::size_t first_, size_, n_;
  int n_components_;
  Scratch<float> w_, gradient_, cross_, variance_;
  LaneState state_;
  double square_[kLanes], noise_[kLanes], residual_[kLanes] = {}, explained_[kLanes];
  bool running_[kLanes], converged_[kLanes] = {};
  int sweeps_[kLanes];
};

// Targets targets.begin .. targets.end - 1.
inline void fit_mixtures(const MixtureProblem& problem, Range targets, const MixtureFit& out) {
  for (std::size_t first = targets.begin; first < targets.end; first += kLanes)
    MixtureBatch(problem, first, least(kLanes, targets.end - first), out).run();
}

}  // namespace pyattr

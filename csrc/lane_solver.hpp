// What a sweep does to one coordinate of one target, and what follows a sweep, for host and device.
//
// For mixtures the operations of scale_mixture.hpp's lanes, in their order: where its arithmetic
// changes, this must follow (tests/test_cuda_solvers.py compares the bits). For LASSO the objective
// and the gap of coordinate_descent.hpp, but float32 Gram entries throughout.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "elementary.hpp"
#include "simd.hpp"

namespace pyattr {
namespace cuda {

// A step that a coordinate makes; `kept` is its new weight.
struct LaneStep {
  float step, kept;
};

PYATTR_HD float size_of(float value) { return value < 0.0f ? -value : value; }

inline double at_least(double value, double bound) { return value < bound ? bound : value; }
inline double at_most(double value, double bound) { return bound < value ? bound : value; }

// -- LASSO

struct LassoLane {
  float lambda, moving;        // moving: 1, or 0 for a target at rest
  double square, goal;         // y^T y / m; the gap at which the target comes to rest
  double wb, wg, l1, largest;  // w.b, w.g, |w|_1 and |g|_oo after a sweep
};

// To the minimum over one coordinate: soft thresholding.
PYATTR_HD LaneStep lasso_step(const LassoLane& lane, float diagonal, float gradient, float weight) {
  const float inverse = diagonal > 0.0f ? 1.0f / diagonal : 0.0f;
  const float value = gradient + diagonal * weight;
  const float size = size_of(value) - lane.lambda;
  const float shrunk = size > 0.0f ? size : 0.0f;
  const float next = (value < 0.0f ? -shrunk : shrunk) * inverse;
  return {(next - weight) * lane.moving, lane.moving > 0.0f ? next : weight};
}

// duality_gap of lasso_problem.hpp, for lambda before it is rounded to float32.
inline double lasso_gap(const LassoLane& lane, double lambda) {
  const double residual = lane.square - lane.wb - lane.wg, inner = lane.square - lane.wb;
  const double scale = lane.largest > lambda ? lambda / lane.largest : 1.0;
  return 0.5 * residual + lambda * lane.l1 - scale * (inner - 0.5 * scale * residual);
}

// -- scale mixtures of normals

constexpr int kMostComponents = 16;
constexpr int kSweepsToRefresh = 25;

struct MixtureRules {
  int n_components;
  double n, n_rows;    // of coordinates and of rows
  const double* kept;  // (n_kept,) rho where mean_j h_j = 0, 1 / (n_kept - 1), ... 1
  std::size_t n_kept;
  double extra_rows;
  bool normal;
  double tolerance;
};

// v = sigma^2 / (rho m); boost = 1 / rho and damp = 1 / rho - 1; moving: 1, or 0 at rest.
struct MixtureScalars {
  float v, inverse_v, boost, damp, moving;
};

// A target from sweep to sweep.
struct MixtureLane {
  float tau2[kMostComponents], pi[kMostComponents];
  MixtureScalars scalars;
  double weight_sum[kMostComponents];
  double shrink_sum, moved, square_sum;  // of a sweep: h, d step^2 and the new w^2
  double explained;                      // (b + g).w after a sweep
  double square, noise, residual, freedom;
  int sweeps, running, converged;
};

// 1 / sqrt(x) for normal x > 0: an integer guess and three Newton steps.
PYATTR_HD float inverse_root(float x) {
  float y = bits_as<float>(0x5F375A86u - (bits_as<std::uint32_t>(x) >> 1));
  y = y * (1.5f - 0.5f * x * (y * y));
  y = y * (1.5f - 0.5f * x * (y * y));
  return y * (1.5f - 0.5f * x * (y * y));
}

// Components of a lane, `stride` apart, and the sums of a block of coordinates.
struct MixtureView {
  const float *tau2, *pi;
  float *phi, *sums;  // sums: phi_k
  std::size_t stride;
};

struct MixtureStep {
  float step, variance;  // variance: the posterior's, of this coordinate
  float shrink, moved, square;
};

// mixture_step of scale_mixture.hpp.
PYATTR_HD MixtureStep mixture_step(const MixtureScalars& lane, const MixtureView& at,
                                   int n_components, float diagonal, float gradient, float weight) {
  const float r = diagonal * weight + lane.boost * gradient;
  const float half = 0.5f * (r * r) * lane.inverse_v;
  const float widest_tau2 = at.tau2[(n_components - 1) * at.stride];
  const float widest = widest_tau2 / (lane.v + diagonal * widest_tau2);
  float total = 0.0f, mean = 0.0f, square = 0.0f;
  for (int k = n_components - 1; k >= 0; --k) {
    const float tau2 = at.tau2[k * at.stride];
    const float q = tau2 / (lane.v + diagonal * tau2);
    const float lower = q - widest, below = lower < 0.0f ? lower : 0.0f;
    const float e = exp_f32(half * below);
    const float narrow = 1.0f + diagonal * tau2 * lane.inverse_v;
    const float phi = at.pi[k * at.stride] * e * inverse_root(narrow);
    at.phi[k * at.stride] = phi;
    total += phi;
    mean += phi * below;
    square += phi * (below * below);
  }
  const float scale = 1.0f / total;
  const float d1 = mean * scale, d2 = square * scale;
  const float q1 = widest + d1;
  const float between = (r * r) * (d2 - d1 * d1);
  const float spread = q1 * lane.v + (between > 0.0f ? between : 0.0f);
  const float h = diagonal * spread * lane.inverse_v;
  const float change = (q1 * r - weight) / (1.0f + h * lane.damp) * lane.moving;
  for (int k = 0; k < n_components; ++k) at.sums[k * at.stride] += at.phi[k * at.stride] * scale;
  const float next = weight + change;
  return {change, spread, h, diagonal * (change * change), next * next};
}

// MixtureBatch::kept of scale_mixture.hpp: rho by the degrees of freedom a row.
inline double kept_precision(const MixtureRules& rules, double freedom) {
  constexpr double kLeast = 0.01;
  const double last = static_cast<double>(rules.n_kept - 1);
  const double at = at_most(freedom * rules.n_rows / rules.n, 1.0) * last;
  const auto below = static_cast<std::size_t>(at_most(at, last - 1.0));
  const double part = at - static_cast<double>(below);
  return at_least(rules.kept[below] * (1.0 - part) + rules.kept[below + 1] * part, kLeast);
}

inline void set_noise(MixtureLane& lane, const MixtureRules& rules, double noise) {
  const double rho = kept_precision(rules, lane.freedom);
  lane.noise = noise;
  lane.scalars.v = static_cast<float>(noise / rho / rules.n_rows);
  lane.scalars.inverse_v = static_cast<float>(rules.n_rows / noise * rho);
  lane.scalars.boost = static_cast<float>(1.0 / rho);
  lane.scalars.damp = static_cast<float>(1.0 / rho - 1.0);
  lane.scalars.moving = lane.running ? 1.0f : 0.0f;
}

inline void clear_sums(MixtureLane& lane) {
  for (int k = 0; k < kMostComponents; ++k) lane.weight_sum[k] = 0.0;
  lane.shrink_sum = lane.moved = lane.square_sum = 0.0;
}

// MixtureBatch::update of scale_mixture.hpp: EM's step after a sweep.
inline void update_mixture(MixtureLane& lane, const MixtureRules& rules, int sweep) {
  constexpr int kLeast = 8;
  constexpr float kLeastShare = 1e-8f;
  if (lane.running) {
    double total = 0.0;
    for (int k = 0; k < rules.n_components; ++k) total += lane.weight_sum[k];
    for (int k = 0; k < rules.n_components; ++k)
      lane.pi[k] = static_cast<float>(lane.weight_sum[k] / total);
    float& widest = lane.pi[rules.n_components - 1];
    widest = widest < kLeastShare ? kLeastShare : widest;
    if (rules.normal && lane.shrink_sum > 0.0)
      lane.tau2[1] = static_cast<float>(lane.square_sum / lane.shrink_sum);
    lane.residual = at_least(lane.square - lane.explained, 0.0);
    const double freedom = lane.shrink_sum / rules.n_rows;
    lane.freedom = sweep > 1 ? 0.5 * (freedom + lane.freedom) : freedom;
    lane.sweeps = sweep;
    const double extra = rules.extra_rows / rules.n_rows;
    const double left = at_least(1.0 - lane.freedom, 0.0) + extra;
    const double unexplained = (lane.residual + extra * lane.square) / left;
    // In this order 0 / 0, where nothing is left to judge by, counts as the square.
    const double noise = std::sqrt(lane.noise * at_most(lane.square, unexplained));
    set_noise(lane, rules, at_least(noise, 1e-6 * lane.square));
    if (sweep >= kLeast && lane.moved <= rules.tolerance * lane.square) {
      lane.running = 0;
      lane.converged = 1;
      lane.scalars.moving = 0.0f;
    }
  }
  clear_sums(lane);
}

}  // namespace cuda
}  // namespace pyattr

// The solvers of many regressions on one shared Gram matrix, on the current CUDA device.
//
// Meanings, shapes and objectives are those of coordinate_descent.hpp and scale_mixture.hpp. Every
// target is swept over all coordinates, in a column of its own (panel_blocks.cuh); columns that are
// done are put aside and the rest moved together. Gram and cross are device memory; results and all
// other arrays are the host's. A target's bits do not depend on the other targets.
//   fit_mixtures  the bits of the CPU's
//   lasso_paths   the CPU's bound of the duality gap, certified from a gradient formed anew with
//                 the float32 Gram matrix. Where the CPU takes int16 codes of it (gram_codes.hpp)
//                 or visits fewer coordinates, the weights differ within that gap
// A failed CUDA call throws std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyattr {
namespace cuda {

struct DeviceMoments {
  const float* gram;     // (n, n)    device
  const float* cross;    // (T, n)    device
  const double* square;  // (T,)
  std::size_t n, n_targets;
};

struct DeviceHeldOut {
  const float* gram;   // (n, n) device; null: nothing was held out
  const float* cross;  // (T, n) device
  const double* square;
  int patience;
  double rise;
};

struct DeviceLassoPath {
  const double* lambdas;        // (T, L)
  const std::int32_t* n_steps;  // (T,)
  std::size_t n_lambdas;
  double tolerance;
  DeviceHeldOut held_out;
  float* weights;  // (T, L, n) if whole, else (T, n)
  bool whole;
  double *gaps, *errors;  // (T, L)
  std::int32_t* n_done;   // (T,)
};

void lasso_paths(const DeviceMoments& moments, const DeviceLassoPath& path);

struct DeviceMixture {
  const float* variances;  // (T, K)
  std::size_t n_components;
  double n_rows;
  const double* kept;  // (n_kept,)
  std::size_t n_kept;
  double extra_rows;
  bool normal;
  int max_sweeps;
  double tolerance;
  float *weights, *deviations, *proportions;  // proportions and noise: where EM starts, and ends
  double *noise, *freedom, *residual;
  std::int32_t* sweeps;
};

void fit_mixtures(const DeviceMoments& moments, const DeviceMixture& fit);

// out (n_rows, n) = -rows G, float32 sums over rising coordinates. Gram, rows (n_rows, n): device.
void negative_product(const float* gram, const float* rows, std::size_t n, std::size_t n_rows,
                      float* out);

}  // namespace cuda
}  // namespace pyattr

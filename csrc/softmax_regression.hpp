// Softmax regressions by a fixed number of accelerated full-batch gradient steps, each model on its
// own subset: the method of pyattr/retraining/softmax_cuda.py, whose torch code is the definition.
//
// A model is trained from its first step to its last before the next one begins, on copies of its
// own rows, so that weights, rows and logits stay in a core's cache and nothing is computed for
// examples that are left out.
//
// Weights of a model, flat (n_weights,) float32: for each class `width` numbers (n_features, zeros
// up to a multiple of kProductLanes), then the biases, zeros up to a multiple. Products as in
// small_products.hpp; sums over all weights as the 16 sums of every 16th, by sum_of_lanes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ranges.hpp"
#include "simd.hpp"
#include "small_products.hpp"
#include "softmax_errors.hpp"

namespace pyattr {

struct LinearShape {
  std::size_t n_features, n_classes;

  std::size_t width() const { return whole_lanes(n_features); }
  std::size_t bias() const { return n_classes * width(); }  // where the biases begin
  std::size_t n_weights() const { return bias() + whole_lanes(n_classes); }
};

struct SoftmaxProblem {
  LinearShape shape;
  const float* rows;           // (n_examples, width), zeros past n_features
  const std::int32_t* labels;  // (n_examples,) in [0, n_classes)
  std::size_t n_examples;
  const float* spectrum;  // (n_weights,) second moment of the pool along each weight's axis
  const float* l2;        // (n_weights,) penalty
  float floor;            // added to the penalty in the steps' lengths, above 0
  float start, safety, decay;
  std::size_t n_steps;
};

// Vectors of n_weights numbers that one model's iteration needs.
struct SoftmaxState {
  float *weights, *point, *gradient, *point_before, *gradient_before;
};

// The curvature of the data term along the last move, per unit of the pool's.
PYATTR_CLONES
static float curvature_along_move(const SoftmaxProblem& problem, const SoftmaxState& state) {
  ProductLanes rise = {}, unit = {};
  for (std::size_t i = 0; i < problem.shape.n_weights(); i += kProductLanes) {
    const ProductLanes moved = load_lanes(state.point + i) - load_lanes(state.point_before + i);
    const ProductLanes changed =
        load_lanes(state.gradient + i) - load_lanes(state.gradient_before + i);
    rise += moved * (changed - load_lanes(problem.l2 + i) * moved);
    unit += load_lanes(problem.spectrum + i) * moved * moved;
  }
  return sum_of_lanes(rise) / (sum_of_lanes(unit) + 1e-30f);
}

// The gradient step from `point`, and whether the move from `weights` to it leads uphill.
PYATTR_CLONES
static bool gradient_step(const SoftmaxProblem& problem, const SoftmaxState& state, float curvature,
                          float* after) {
  ProductLanes slope = {};
  for (std::size_t i = 0; i < problem.shape.n_weights(); i += kProductLanes) {
    const ProductLanes scale =
        load_lanes(problem.spectrum + i) * curvature + (load_lanes(problem.l2 + i) + problem.floor);
    const ProductLanes to = load_lanes(state.point + i) - load_lanes(state.gradient + i) / scale;
    slope += load_lanes(state.gradient + i) * (to - load_lanes(state.weights + i));
    store_lanes(after + i, to);
  }
  return sum_of_lanes(slope) > 0.0f;
}

// point_before = point; point = after + (after - weights) * share; weights = after.
PYATTR_CLONES
static void momentum_step(std::size_t n_weights, const float* __restrict after, float share,
                          float* __restrict weights, float* __restrict point,
                          float* __restrict point_before) {
  for (std::size_t i = 0; i < n_weights; ++i) {
    point_before[i] = point[i];
    point[i] = after[i] + (after[i] - weights[i]) * share;
    weights[i] = after[i];
  }
}

// gradient += l2 * point.
PYATTR_CLONES
static void add_penalty(std::size_t n_weights, const float* __restrict l2,
                        const float* __restrict point, float* __restrict gradient) {
  for (std::size_t i = 0; i < n_weights; ++i) gradient[i] += l2[i] * point[i];
}

// Scratch for the largest subset: its rows, these turned, its logits and labels.
struct SoftmaxSubset {
  SoftmaxSubset(const LinearShape& shape, std::size_t n_examples)
      : rows(n_examples * shape.width()),
        turned(shape.n_features * whole_lanes(n_examples)),
        logits(shape.n_classes * whole_lanes(n_examples)),
        labels(n_examples) {}

  // bits: (n_examples,) 0 or 1.
  void take(const SoftmaxProblem& problem, const std::uint8_t* bits) {
    const std::size_t width = problem.shape.width(), n_features = problem.shape.n_features;
    n = 0;
    for (std::size_t e = 0; e < problem.n_examples; ++e) {
      if (!bits[e]) continue;
      std::memcpy(rows.get() + n * width, problem.rows + e * width, width * sizeof(float));
      labels.get()[n++] = problem.labels[e];
    }
    const std::size_t n_columns = whole_lanes(n);
    for (std::size_t j = 0; j < n_columns; ++j)
      for (std::size_t d = 0; d < n_features; ++d)
        turned.get()[d * n_columns + j] = j < n ? rows.get()[j * width + d] : 0.0f;
  }

  Scratch<float> rows, turned, logits;
  Scratch<std::int32_t> labels;
  std::size_t n = 0;
};

// gradient = l2 * point + the data term's.
inline void softmax_gradient(const SoftmaxProblem& problem, const SoftmaxSubset& subset,
                             const SoftmaxState& state) {
  const LinearShape& shape = problem.shape;
  const std::size_t width = shape.width(), n_columns = whole_lanes(subset.n);
  float* const z = subset.logits.get();
  small_product({state.point, width, 1}, shape.n_classes, subset.turned.get(), n_columns,
                shape.n_features, n_columns, z, n_columns);
  softmax_errors(z, shape.n_classes, subset.n, state.point + shape.bias(), subset.labels.get(),
                 state.gradient + shape.bias());
  small_product({z, n_columns, 1}, shape.n_classes, subset.rows.get(), width, subset.n, width,
                state.gradient, width);
  add_penalty(shape.n_weights(), problem.l2, state.point, state.gradient);
}

// bits: (n_examples,); state.weights: initial weights, replaced by the fitted ones. `after` is
// scratch of n_weights like the vectors of state.
inline void fit_softmax_regression(const SoftmaxProblem& problem, const std::uint8_t* bits,
                                   SoftmaxSubset& subset, SoftmaxState state, float* after) {
  const std::size_t n_weights = problem.shape.n_weights();
  subset.take(problem, bits);
  std::memcpy(state.point, state.weights, n_weights * sizeof(float));
  std::memset(state.gradient, 0, n_weights * sizeof(float));
  std::memset(state.gradient_before, 0, n_weights * sizeof(float));
  float curvature = problem.start * (static_cast<float>(subset.n) / problem.n_examples);
  float momentum = 1.0f;
  for (std::size_t step = 0; step < problem.n_steps; ++step) {
    softmax_gradient(problem, subset, state);
    if (step) {
      const float measured = problem.safety * curvature_along_move(problem, state);
      const float fallen = problem.decay * curvature;
      curvature = measured > fallen ? measured : fallen;
    }
    if (gradient_step(problem, state, curvature, after)) momentum = 1.0f;
    const float following = (1.0f + std::sqrt(1.0f + 4.0f * momentum * momentum)) / 2.0f;
    momentum_step(n_weights, after, (momentum - 1.0f) / following, state.weights, state.point,
                  state.point_before);
    momentum = following;
    float* const gradient = state.gradient;
    state.gradient = state.gradient_before;
    state.gradient_before = gradient;
  }
}

// bits: (n_models, n_examples); weights: (n_models, n_weights), initial, replaced by the fitted.
inline void fit_softmax_regressions(const SoftmaxProblem& problem, std::size_t n_models,
                                    const std::uint8_t* bits, float* weights) {
  const std::size_t n_weights = problem.shape.n_weights();
  SoftmaxSubset subset(problem.shape, problem.n_examples);
  Scratch<float> vectors(5 * n_weights);
  float* const at = vectors.get();
  for (std::size_t m = 0; m < n_models; ++m)
    fit_softmax_regression(
        problem, bits + m * problem.n_examples, subset,
        {weights + m * n_weights, at, at + n_weights, at + 2 * n_weights, at + 3 * n_weights},
        at + 4 * n_weights);
}

// Logits of linear models. turned: (n_features, n_columns), one target a column, n_columns
// n_targets rounded up; weights: (n_models, n_weights); out: (n_models, n_targets, n_classes).
inline void linear_logits(const LinearShape& shape, const float* turned, std::size_t n_targets,
                          std::size_t n_models, const float* weights, float* out) {
  const std::size_t n_columns = whole_lanes(n_targets), n_classes = shape.n_classes;
  Scratch<float> logits(n_classes * n_columns);
  float* const z = logits.get();
  for (std::size_t m = 0; m < n_models; ++m) {
    const float* const own = weights + m * shape.n_weights();
    small_product({own, shape.width(), 1}, n_classes, turned, n_columns, shape.n_features,
                  n_columns, z, n_columns);
    for (std::size_t j = 0; j < n_targets; ++j)
      for (std::size_t c = 0; c < n_classes; ++c)
        *out++ = z[c * n_columns + j] + own[shape.bias() + c];
  }
}

}  // namespace pyattr

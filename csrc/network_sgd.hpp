// Networks with one hidden layer of rectified units by momentum SGD, each model on its own stream
// of examples: the method of pyattr/retraining/mlp_cuda.py, whose torch code is the definition.
//
// A model takes all its steps before the next one begins: its weights and velocities stay in a
// core's cache.
//
// Weights of a model, flat (n_weights,) float32: (n_inputs, width) of the hidden layer, the last
// input being the constant 1; (n_classes, width); the biases of the classes, zeros up to a multiple
// of kProductLanes. width is n_hidden rounded up to one, with zeros, which stay zeros.
// Per step, g the mean gradient of the batch: v = momentum v + g + decay w; w = w - rate v.
// Products as in small_products.hpp, with k the input, unit, class or the example of the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ranges.hpp"
#include "simd.hpp"
#include "small_products.hpp"
#include "softmax_errors.hpp"

namespace pyattr {

struct NetworkShape {
  std::size_t n_inputs, n_hidden, n_classes;

  std::size_t width() const { return whole_lanes(n_hidden); }
  std::size_t second() const { return n_inputs * width(); }  // where the second layer begins
  std::size_t bias() const { return second() + n_classes * width(); }
  std::size_t n_weights() const { return bias() + whole_lanes(n_classes); }
};

struct NetworkProblem {
  NetworkShape shape;
  const float* rows;           // (n_examples, n_inputs)
  const std::int32_t* labels;  // (n_examples,) in [0, n_classes)
  const float* rates;          // (n_steps,)
  std::size_t n_steps, batch_size;
  float momentum, decay;
};

// What a pass over up to n_rows examples needs.
struct NetworkPass {
  NetworkPass(const NetworkShape& shape, std::size_t n_rows)
      : active(n_rows * shape.width()),
        back(n_rows * shape.width()),
        second_turned(shape.width() * whole_lanes(shape.n_classes)),
        logits(n_rows * whole_lanes(shape.n_classes)) {
    std::memset(second_turned.get(), 0,
                shape.width() * whole_lanes(shape.n_classes) * sizeof(float));
  }

  Scratch<float> active;         // (n_rows, width) outputs of the hidden units
  Scratch<float> back;           // (n_rows, width) gradient in their inputs
  Scratch<float> second_turned;  // (width, n_classes rounded up) the second layer
  Scratch<float> logits;         // (n_rows, n_classes rounded up), without the biases
};

PYATTR_CLONES
static void rectify(float* __restrict values, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) values[i] = values[i] < 0.0f ? 0.0f : values[i];
}

PYATTR_CLONES
static void keep_where_active(const float* __restrict active, float* __restrict values,
                              std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) values[i] = active[i] <= 0.0f ? 0.0f : values[i];
}

PYATTR_CLONES
static void sgd_step(std::size_t n_weights, float share, float momentum, float decay, float rate,
                     const float* __restrict gradient, float* __restrict velocity,
                     float* __restrict weights) {
  for (std::size_t i = 0; i < n_weights; ++i) {
    const float kept = momentum * velocity[i] + share * gradient[i];
    velocity[i] = kept + decay * weights[i];
    weights[i] -= rate * velocity[i];
  }
}

// active and logits of n_rows examples; x: (n_rows, n_inputs).
inline void network_forward(const NetworkShape& shape, const float* weights, const float* x,
                            std::size_t n_rows, NetworkPass& pass) {
  const std::size_t width = shape.width(), classes = whole_lanes(shape.n_classes);
  const float* const second = weights + shape.second();
  float* const turned = pass.second_turned.get();
  small_product({x, shape.n_inputs, 1}, n_rows, weights, width, shape.n_inputs, width,
                pass.active.get(), width);
  rectify(pass.active.get(), n_rows * width);
  for (std::size_t c = 0; c < shape.n_classes; ++c)
    for (std::size_t h = 0; h < width; ++h) turned[h * classes + c] = second[c * width + h];
  small_product({pass.active.get(), width, 1}, n_rows, turned, classes, width, classes,
                pass.logits.get(), classes);
}

// The batch of a step: inputs, labels, and its logits with one example a column.
struct NetworkBatch {
  NetworkBatch(const NetworkShape& shape, std::size_t size)
      : x(size * shape.n_inputs), labels(size), errors(shape.n_classes * whole_lanes(size)) {}

  void take(const NetworkProblem& problem, const std::int32_t* examples) {
    const std::size_t n_inputs = problem.shape.n_inputs;
    for (std::size_t j = 0; j < problem.batch_size; ++j) {
      const auto e = static_cast<std::size_t>(examples[j]);
      std::memcpy(x.get() + j * n_inputs, problem.rows + e * n_inputs, n_inputs * sizeof(float));
      labels.get()[j] = problem.labels[e];
    }
  }

  Scratch<float> x;
  Scratch<std::int32_t> labels;
  Scratch<float> errors;
};

// Sum of the batch's gradients, laid out like the weights.
inline void network_gradient(const NetworkProblem& problem, const float* weights,
                             const NetworkBatch& batch, NetworkPass& pass, float* gradient) {
  const NetworkShape& shape = problem.shape;
  const std::size_t size = problem.batch_size, width = shape.width();
  const std::size_t classes = whole_lanes(shape.n_classes), columns = whole_lanes(size);
  network_forward(shape, weights, batch.x.get(), size, pass);
  float* const errors = batch.errors.get();
  for (std::size_t c = 0; c < shape.n_classes; ++c)
    for (std::size_t j = 0; j < columns; ++j)
      errors[c * columns + j] = j < size ? pass.logits.get()[j * classes + c] : 0.0f;
  softmax_errors(errors, shape.n_classes, size, weights + shape.bias(), batch.labels.get(),
                 gradient + shape.bias());
  small_product({errors, 1, columns}, size, weights + shape.second(), width, shape.n_classes, width,
                pass.back.get(), width);
  keep_where_active(pass.active.get(), pass.back.get(), size * width);
  small_product({errors, columns, 1}, shape.n_classes, pass.active.get(), width, size, width,
                gradient + shape.second(), width);
  small_product({batch.x.get(), 1, shape.n_inputs}, shape.n_inputs, pass.back.get(), width, size,
                width, gradient, width);
}

// examples: (n_models, n_steps, batch_size); weights: (n_models, n_weights), initial, replaced by
// the trained.
inline void train_networks(const NetworkProblem& problem, std::size_t n_models,
                           const std::int32_t* examples, float* weights) {
  const std::size_t n_weights = problem.shape.n_weights();
  NetworkPass pass(problem.shape, problem.batch_size);
  NetworkBatch batch(problem.shape, problem.batch_size);
  const float share = 1.0f / static_cast<float>(problem.batch_size);
  Scratch<float> gradient(n_weights), velocity(n_weights);
  std::memset(gradient.get(), 0, n_weights * sizeof(float));  // past the last bias it stays 0
  for (std::size_t m = 0; m < n_models; ++m, weights += n_weights) {
    std::memset(velocity.get(), 0, n_weights * sizeof(float));
    for (std::size_t step = 0; step < problem.n_steps; ++step, examples += problem.batch_size) {
      batch.take(problem, examples);
      network_gradient(problem, weights, batch, pass, gradient.get());
      sgd_step(n_weights, share, problem.momentum, problem.decay, problem.rates[step],
               gradient.get(), velocity.get(), weights);
    }
  }
}

// rows: (n_targets, n_inputs); weights: (n_models, n_weights); out: (n_models, n_targets,
// n_classes).
inline void network_logits(const NetworkShape& shape, const float* rows, std::size_t n_targets,
                           std::size_t n_models, const float* weights, float* out) {
  constexpr std::size_t kRows = 60;  // whose hidden units stay in the first-level cache
  const std::size_t classes = whole_lanes(shape.n_classes);
  NetworkPass pass(shape, kRows);
  for (std::size_t m = 0; m < n_models; ++m) {
    const float* const own = weights + m * shape.n_weights();
    for (std::size_t first = 0; first < n_targets; first += kRows) {
      const std::size_t n = least(kRows, n_targets - first);
      network_forward(shape, own, rows + first * shape.n_inputs, n, pass);
      for (std::size_t j = 0; j < n; ++j)
        for (std::size_t c = 0; c < shape.n_classes; ++c)
          *out++ = pass.logits.get()[j * classes + c] + own[shape.bias() + c];
    }
  }
}

}  // namespace pyattr

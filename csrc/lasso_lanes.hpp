// Coordinate descent over all coordinates, for targets that use many of them: 16 side by side.
//
// Coordinates are scaled to a unit diagonal (csrc/gram_codes.hpp): u_j = r_j w_j, and g and b over
// r_j. A panel of 64 coordinates is updated one after the other (Gauss-Seidel), in float32 with the
// panel's exact block of C; then its steps, as integers, change the whole gradient. The result is
// a start for the next pass over G, which forms the gradient anew, and no more than that.
//
// A lane whose target has reached its goal takes the next target of the queue. Lanes never mix, so
// neither lanes nor neighbours change a target's bits; with eight or fewer left, half is computed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "gram_codes.hpp"
#include "lasso_problem.hpp"
#include "lasso_target.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "target_lanes.hpp"

namespace pyattr {

// What a sweep needs to know of each lane, and the sums that its gap needs.
struct LassoState {
  alignas(64) float lambda[kLanes] = {}, relax[kLanes] = {}, moving[kLanes] = {}, largest[kLanes];
  alignas(64) double wb[kLanes], wg[kLanes], l1[kLanes];
};

// Steps of coordinates first .. first + 15 of a panel. u (64, kLanes); here (64, kLanes): the
// panel's gradient, after the steps of all coordinates before. Over-relaxed steps go beyond the
// minimum of their coordinate; a coordinate on its way to 0 or across it stops there.
PYATTR_INLINE void step_coordinates(const float* block, const float* inverse_root,
                                    std::size_t first, const LassoState& lanes, float* u,
                                    float (*here)[kLanes], float (*step)[kLanes]) {
  for (std::size_t j = first; j < first + kBlock; ++j) {
    alignas(64) float value[kLanes];
    for (int l = 0; l < kLanes; ++l) value[l] = here[j][l];
    for (std::size_t c = first; c < j; ++c)
      for (int l = 0; l < kLanes; ++l) value[l] -= block[j * kCodePanel + c] * step[c][l];
    for (int l = 0; l < kLanes; ++l) {
      const float was = u[j * kLanes + l];
      const float best = soft_threshold(value[l] + was, lanes.lambda[l] * inverse_root[j]);
      const float beyond = was + lanes.relax[l] * (best - was);
      const bool same_side = best * was > 0.0f && best * beyond > 0.0f;
      const float next = lanes.moving[l] > 0.0f ? (same_side ? beyond : best) : was;
      step[j][l] = next - was;
      u[j * kLanes + l] = next;
    }
  }
}

// One sweep over all coordinates; u, gradient (n_padded, kLanes).
PYATTR_CLONES
static void sweep_lanes(const GramCodes& gram, const LassoState& lanes, int n_lanes, float* u,
                        float* gradient) {
  alignas(64) float step[kCodePanel][kLanes], here[kCodePanel][kLanes];
  CodedSteps coded;
  for (std::size_t p = 0; p < gram.n_panels(); ++p) {
    const std::size_t at = p * kCodePanel * kLanes;
    const float* block = gram.block(p);
    std::memcpy(here, gradient + at, sizeof here);
    for (std::size_t first = 0; first < kCodePanel; first += kBlock) {
      step_coordinates(block, gram.inverse_root() + p * kCodePanel, first, lanes, u + at, here,
                       step);
      apply_steps(block, kCodePanel, first, kBlock,
                  reinterpret_cast<const TargetLanes*>(step) + first,
                  reinterpret_cast<TargetLanes*>(here), first + kBlock);
    }
    if (code_steps(step, gram.unit(), coded))
      subtract_steps(gram.codes(p), gram.n_padded(), coded, n_lanes, gradient);
    for (std::size_t j = 0; j < kCodePanel; ++j)
      for (int l = 0; l < kLanes; ++l) gradient[at + j * kLanes + l] -= step[j][l];
  }
}

// u, gradient, cross (n_padded, kLanes).
PYATTR_CLONES
static void sum_lanes(const GramCodes& gram, const float* cross, const float* u,
                      const float* gradient, LassoState& lanes) {
  for (int l = 0; l < kLanes; ++l) lanes.wb[l] = lanes.wg[l] = lanes.l1[l] = lanes.largest[l] = 0;
  for (std::size_t j = 0; j < gram.n(); ++j) {
    const double inverse = double(gram.inverse_root()[j]);
    const float root = gram.root()[j];
    for (int l = 0; l < kLanes; ++l) {
      const std::size_t at = j * kLanes + l;
      lanes.wb[l] += double(u[at]) * double(cross[at]);
      lanes.wg[l] += double(u[at]) * double(gradient[at]);
      lanes.l1[l] += __builtin_fabs(double(u[at])) * inverse;
      const float size = __builtin_fabsf(gradient[at]) * root;
      lanes.largest[l] = size > lanes.largest[l] ? size : lanes.largest[l];
    }
  }
}

class LassoLanes {
 public:
  explicit LassoLanes(GramCodes& gram) : gram_(gram) {}

  // Sweep until each target has reached its goal.
  void solve(std::vector<LassoTarget*> queue) {
    if (queue.empty()) return;
    if (gram_.filled().n_padded() * kLanes > size_) make_room();
    // The slowest first, as far as their last lambda tells: fewer lanes then wait at the end.
    std::stable_sort(queue.begin(), queue.end(), [](const LassoTarget* a, const LassoTarget* b) {
      return a->last_sweeps() > b->last_sweeps();
    });
    std::size_t next = 0, n_lanes = 0;
    for (;;) {
      for (std::size_t l = 0; l < kLanes && next < queue.size(); ++l)
        if (!targets_[l]) load(l, queue[next++]);
      if ((n_lanes = pack()) == 0) return;
      sweep_lanes(gram_, lanes_, n_lanes > kHalfLanes ? kLanes : kHalfLanes, u_.get(),
                  gradient_.get());
      sum_lanes(gram_, cross_.get(), u_.get(), gradient_.get(), lanes_);
      for (std::size_t l = 0; l < n_lanes; ++l) check(l);
    }
  }

 private:
  void make_room() {
    size_ = gram_.n_padded() * kLanes;
    for (Scratch<float>* array : {&u_, &gradient_, &cross_}) {
      *array = Scratch<float>(size_);
      std::fill_n(array->get(), size_, 0.0f);
    }
  }

  void load(std::size_t l, LassoTarget* target) {
    targets_[l] = target;
    sweeps_[l] = 0;
    lanes_.lambda[l] = static_cast<float>(target->lambda());
    lanes_.relax[l] = target->relax();
    lanes_.moving[l] = 1.0f;
    const float *root = gram_.root(), *inverse = gram_.inverse_root();
    const float *w = target->dense_weights(), *g = target->gradient(), *b = target->cross();
    for (std::size_t j = 0; j < gram_.n(); ++j) {
      u_.get()[j * kLanes + l] = w[j] * root[j];
      gradient_.get()[j * kLanes + l] = g[j] * inverse[j];
      cross_.get()[j * kLanes + l] = b[j] * inverse[j];
    }
  }

  // Bring the lanes in use to the front; returns how many there are.
  std::size_t pack() {
    std::size_t n_used = 0;
    for (std::size_t l = 0; l < kLanes; ++l) {
      if (!targets_[l]) continue;
      if (l != n_used) move(l, n_used);
      ++n_used;
    }
    return n_used;
  }

  void move(std::size_t from, std::size_t to) {
    targets_[to] = targets_[from];
    sweeps_[to] = sweeps_[from];
    lanes_.lambda[to] = lanes_.lambda[from];
    lanes_.relax[to] = lanes_.relax[from];
    lanes_.moving[to] = 1.0f;
    for (float* array : {u_.get(), gradient_.get(), cross_.get()})
      for (std::size_t j = 0; j < gram_.n(); ++j) array[j * kLanes + to] = array[j * kLanes + from];
    release(from);
  }

  void release(std::size_t l) {
    targets_[l] = nullptr;
    lanes_.moving[l] = 0.0f;
  }

  // Whether lane l's target has reached its goal; if so, it gets its weights.
  void check(std::size_t l) {
    LassoTarget& target = *targets_[l];
    const GapSums sums{lanes_.wb[l], lanes_.wg[l], lanes_.l1[l], lanes_.largest[l]};
    const double gap = duality_gap(target.square(), target.lambda(), sums);
    if (++sweeps_[l] < kMaxSweeps && gap > target.goal()) return;
    float* w = target.dense_weights();
    const float* inverse = gram_.inverse_root();
    for (std::size_t j = 0; j < gram_.n(); ++j) w[j] = u_.get()[j * kLanes + l] * inverse[j];
    target.count_sweeps(sweeps_[l]);
    release(l);
  }

  GramCodes& gram_;
  std::size_t size_ = 0;
  Scratch<float> u_{0}, gradient_{0}, cross_{0};
  LassoState lanes_;
  LassoTarget* targets_[kLanes] = {};
  int sweeps_[kLanes];
};

}  // namespace pyattr

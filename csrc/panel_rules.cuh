// What a coordinate's step is, and what a target remembers of it: the rules of PanelBlock.
#pragma once

#include <cstddef>

#include "lane_solver.hpp"
#include "panel_blocks.cuh"

namespace pyattr {
namespace cuda {

struct LassoRule {
  struct Shared {};
  struct Lane {
    LassoLane lane;
  };

  const LassoLane* lanes;  // (width,)

  PYATTR_DEVICE Lane load(Shared&, std::size_t column, std::size_t lane) const {
    return {lanes[column + lane]};
  }
  PYATTR_DEVICE bool moves(const Lane& own) const { return own.lane.moving > 0.0f; }
  PYATTR_DEVICE void begin_block(Shared&, Lane&, int) const {}
  PYATTR_DEVICE LaneStep step(Shared&, Lane& own, int, std::size_t, float diagonal, float gradient,
                              float weight) const {
    return lasso_step(own.lane, diagonal, gradient, weight);
  }
  PYATTR_DEVICE void end_block(Shared&, Lane&, int) const {}
  PYATTR_DEVICE void store(Shared&, const Lane&, std::size_t, std::size_t) const {}
};

struct MixtureRule {
  struct Shared {
    float tau2[kMostComponents][kPanelTargets], pi[kMostComponents][kPanelTargets];
    float phi[kMostComponents][kPanelTargets], sums[kMostComponents][kPanelTargets];
    double weight_sum[kMostComponents][kPanelTargets];
  };
  struct Lane {
    MixtureScalars scalars;
    float shrink, moved, square;  // of a block of coordinates
    double shrink_sum, moved_sum, square_sum;
  };

  MixtureLane* lanes;  // (width,)
  float* variances;    // (n, width) of the posterior
  int n_components;

  PYATTR_DEVICE Lane load(Shared& shared, std::size_t column, std::size_t lane) const {
    const MixtureLane& from = lanes[column + lane];
    for (int k = 0; k < n_components; ++k) {
      shared.tau2[k][lane] = from.tau2[k];
      shared.pi[k][lane] = from.pi[k];
      shared.weight_sum[k][lane] = from.weight_sum[k];
    }
    return {from.scalars, 0.0f, 0.0f, 0.0f, from.shrink_sum, from.moved, from.square_sum};
  }

  PYATTR_DEVICE bool moves(const Lane& own) const { return own.scalars.moving > 0.0f; }
  PYATTR_DEVICE void begin_block(Shared& shared, Lane& own, int lane) const {
    for (int k = 0; k < n_components; ++k) shared.sums[k][lane] = 0.0f;
    own.shrink = own.moved = own.square = 0.0f;
  }

  PYATTR_DEVICE LaneStep step(Shared& shared, Lane& own, int lane, std::size_t at, float diagonal,
                              float gradient, float weight) const {
    const MixtureView view{&shared.tau2[0][lane], &shared.pi[0][lane], &shared.phi[0][lane],
                           &shared.sums[0][lane], kPanelTargets};
    const MixtureStep next =
        mixture_step(own.scalars, view, n_components, diagonal, gradient, weight);
    if (own.scalars.moving > 0.0f) variances[at] = next.variance;
    own.shrink += next.shrink;
    own.moved += next.moved;
    own.square += next.square;
    return {next.step, weight + next.step};
  }

  PYATTR_DEVICE void end_block(Shared& shared, Lane& own, int lane) const {
    for (int k = 0; k < n_components; ++k)
      shared.weight_sum[k][lane] += static_cast<double>(shared.sums[k][lane]);
    own.shrink_sum += static_cast<double>(own.shrink);
    own.moved_sum += static_cast<double>(own.moved);
    own.square_sum += static_cast<double>(own.square);
  }

  PYATTR_DEVICE void store(Shared& shared, const Lane& own, std::size_t column,
                           std::size_t lane) const {
    MixtureLane& to = lanes[column + lane];
    for (int k = 0; k < n_components; ++k) to.weight_sum[k] = shared.weight_sum[k][lane];
    to.shrink_sum = own.shrink_sum;
    to.moved = own.moved_sum;
    to.square_sum = own.square_sum;
  }
};

}  // namespace cuda
}  // namespace pyattr

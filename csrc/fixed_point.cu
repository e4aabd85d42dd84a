// Launches of fixed_point.hpp.
#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "elements.hpp"

namespace pyattr {
namespace cuda {
namespace {

template <typename Float>
std::size_t to_fixed_point_of(const Float* outputs, const double* centre, const double* steps,
                              std::size_t n_targets, std::size_t begin, std::size_t end,
                              std::int32_t* out) {
  const std::size_t size = (end - begin) * n_targets;
  std::int32_t* const first = out + begin * n_targets;
  const DeviceBuffer<Float> values(size, outputs + begin * n_targets);
  const DeviceBuffer<double> c(n_targets, centre), s(n_targets, steps);
  const DeviceBuffer<std::int32_t> fixed(size);
  launch(size, FixedPointElement<Float>{values.get(), c.get(), s.get(), n_targets, fixed.get()});
  fixed.copy(first);
  std::size_t bad = n_targets;
  for (std::size_t k = 0; k < size; ++k)
    if (first[k] == kNotFixedPoint) bad = least(bad, k % n_targets);
  return bad;
}

}  // namespace

std::size_t to_fixed_point_many(const float* outputs, const double* centre, const double* steps,
                                std::size_t n_targets, std::size_t begin, std::size_t end,
                                std::int32_t* out) {
  return to_fixed_point_of(outputs, centre, steps, n_targets, begin, end, out);
}

std::size_t to_fixed_point_many(const double* outputs, const double* centre, const double* steps,
                                std::size_t n_targets, std::size_t begin, std::size_t end,
                                std::int32_t* out) {
  return to_fixed_point_of(outputs, centre, steps, n_targets, begin, end, out);
}

}  // namespace cuda
}  // namespace pyattr

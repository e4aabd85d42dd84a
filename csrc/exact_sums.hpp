// Sums over rows of masks and outputs that stay on the device: counts, masks transposed @ q, sum q
// and sum q^2 for outputs in fixed point q (fixed_point.hpp). Exact: the same for every chunk size
// and order, equal to the CPU's.
//
// Rows come from the host in chunks, through pinned memory and two streams in turn: one chunk is
// copied while the other is summed. Both add to the same sums, by integer atomics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "device_memory.hpp"

namespace pyattr {
namespace cuda {

class ExactSums {
 public:
  // centre and steps = 1 / step (n_targets,), host memory; chunk_rows: rows on the device at a
  // time, in each of the two streams.
  ExactSums(std::size_t n_train, std::size_t n_targets, const double* centre, const double* steps,
            std::size_t chunk_rows);
  ~ExactSums();

  // packed (n_rows, row_bytes), outputs (n_rows, n_targets) float32 or float64, in host memory,
  // which is read before this returns; the sums may not be done yet.
  template <typename Float>
  void add(const std::uint8_t* packed, const Float* outputs, std::size_t n_rows);

  // Wait for all rows. totals, squares (n_targets,) int64; returns the first target that had an
  // output that is not finite or out of range (fixed_point.hpp), or n_targets.
  std::size_t finish(std::int64_t* totals, std::int64_t* squares);

  // Device memory: (n_train, n_train) int32, (n_train, n_targets) int64. Complete after finish().
  std::shared_ptr<DeviceMemory> counts() const;
  std::shared_ptr<DeviceMemory> cross() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cuda
}  // namespace pyattr

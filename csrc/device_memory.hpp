// Arrays on the current CUDA device, owned; for what is compiled without nvcc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace pyattr {
namespace cuda {

// n_bytes on the device, zeros at first. A failed CUDA call throws std::runtime_error.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t n_bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* get() const;
  std::size_t size() const;
  void write(const void* host);          // all of it; returns when done
  void read(void* host) const;           // waits for what was launched before
  void take(const DeviceMemory& other);  // a copy of one of the same size

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::size_t free_memory();  // bytes that can be had

// counts (size,) += sign * other
void add_counts(std::int32_t* counts, const std::int32_t* other, int sign, std::size_t size);

// out (n,) = the diagonal of matrix (n, n)
void diagonal_of(const std::int32_t* matrix, std::size_t n, std::int32_t* out);
void diagonal_of(const float* matrix, std::size_t n, float* out);

// The Gram matrix of centred rows, from counts (n, n) and their diagonal `single` (n,) over m
// masks:
//   (n_ij - (n_i / m) n_j) / m
// in float64, rounded to float32, divided in float32: the bits of SufficientStatistics.centred_gram
// and moments.
void centred_gram(const std::int32_t* counts, const double* single, std::size_t n, double n_masks,
                  float* out);

// gram (n, n) += row rowᵀ, in float32
void add_outer(const float* row, std::size_t n, float* gram);

}  // namespace cuda
}  // namespace pyattr

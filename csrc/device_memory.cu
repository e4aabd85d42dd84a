// Owned device arrays and the elementwise work on them.
#include "cuda_check.cuh"
#include "device_memory.hpp"
#include "simd.hpp"

namespace pyattr {
namespace cuda {
namespace {

struct AddCountsElement {
  std::int32_t* counts;
  const std::int32_t* other;
  std::int32_t sign;

  PYATTR_HD void operator()(std::size_t index) const { counts[index] += sign * other[index]; }
};

template <typename T>
struct DiagonalElement {
  const T* matrix;
  std::size_t n;
  T* out;

  PYATTR_HD void operator()(std::size_t index) const { out[index] = matrix[index * n + index]; }
};

struct CentredGramElement {
  const std::int32_t* counts;
  const double* single;
  std::size_t n;
  double n_masks;
  float divisor;
  float* out;

  PYATTR_HD void operator()(std::size_t index) const {
    const double left = single[index / n], right = single[index % n];
    const double centred = static_cast<double>(counts[index]) - left / n_masks * right;
    out[index] = static_cast<float>(centred) / divisor;
  }
};

struct AddOuterElement {
  const float* row;
  std::size_t n;
  float* gram;

  PYATTR_HD void operator()(std::size_t index) const {
    gram[index] += row[index / n] * row[index % n];
  }
};

template <typename T>
void copy_diagonal(const T* matrix, std::size_t n, T* out) {
  const DeviceBuffer<T> diagonal(n);
  launch(n, DiagonalElement<T>{matrix, n, diagonal.get()});
  diagonal.copy(out);
}

}  // namespace

struct DeviceMemory::State {
  DeviceBuffer<std::uint8_t> bytes;
};

DeviceMemory::DeviceMemory(std::size_t n_bytes)
    : state_(new State{DeviceBuffer<std::uint8_t>(n_bytes)}) {}
DeviceMemory::~DeviceMemory() = default;
void* DeviceMemory::get() const { return state_->bytes.get(); }
std::size_t DeviceMemory::size() const { return state_->bytes.size(); }
void DeviceMemory::write(const void* host) { copy_to_device(get(), host, size()); }
void DeviceMemory::read(void* host) const { copy_to_host(host, get(), size()); }
void DeviceMemory::take(const DeviceMemory& other) { copy_on_device(get(), other.get(), size()); }

std::size_t free_memory() { return free_on_current_device(); }

void add_counts(std::int32_t* counts, const std::int32_t* other, int sign, std::size_t size) {
  launch(size, AddCountsElement{counts, other, sign});
}

void diagonal_of(const std::int32_t* matrix, std::size_t n, std::int32_t* out) {
  copy_diagonal(matrix, n, out);
}
void diagonal_of(const float* matrix, std::size_t n, float* out) { copy_diagonal(matrix, n, out); }

void centred_gram(const std::int32_t* counts, const double* single, std::size_t n, double n_masks,
                  float* out) {
  const DeviceBuffer<double> alone(n, single);
  launch(n * n,
         CentredGramElement{counts, alone.get(), n, n_masks, static_cast<float>(n_masks), out});
}

void add_outer(const float* row, std::size_t n, float* gram) {
  const DeviceBuffer<float> values(n, row);
  launch(n * n, AddOuterElement{values.get(), n, gram});
}

}  // namespace cuda
}  // namespace pyattr

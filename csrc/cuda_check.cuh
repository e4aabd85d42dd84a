// What every .cu file needs: status -> exception, an owning device buffer, one launch.
//
// Compiled as C++ (g++ -x c++) the buffer is host memory and a launch is a loop: the tests run the
// same elements (elements.hpp) that way where there is no GPU.
#pragma once

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <memory>
#endif

namespace pyattr {
namespace cuda {

#if defined(__CUDACC__)

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("cuda: expected success, got ") +
                             cudaGetErrorString(status) + " from " + what);
}

// n values of T on the current device: zeros, or a copy of the host's.
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t n, const T* host = nullptr) : n_(n) {
    if (n == 0) return;
    check(cudaMalloc(&data_, n * sizeof(T)), "cudaMalloc");
    const cudaError_t status = host ? cudaMemcpy(data_, host, n * sizeof(T), cudaMemcpyHostToDevice)
                                    : cudaMemset(data_, 0, n * sizeof(T));
    if (status != cudaSuccess) cudaFree(data_);
    check(status, "filling a buffer");
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* get() const { return static_cast<T*>(data_); }
  // Rows of `width` values, to rows of the host that are `stride` values apart.
  void copy_rows(T* host, std::size_t width, std::size_t stride) const {
    if (n_ == 0) return;
    check(cudaMemcpy2D(host, stride * sizeof(T), data_, width * sizeof(T), width * sizeof(T),
                       n_ / width, cudaMemcpyDeviceToHost),
          "cudaMemcpy2D");
  }

 private:
  void* data_ = nullptr;
  std::size_t n_;
};

template <typename Element>
__global__ void run(Element element, std::size_t n) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t k = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < n;
       k += step)
    element(k);
}

// element(0) .. element(n - 1), in any order; returns when all are done.
template <typename Element>
void launch(std::size_t n, Element element) {
  constexpr std::size_t kThreads = 256, kMaxBlocks = std::size_t{1} << 30;
  if (n == 0) return;
  const std::size_t blocks = (n + kThreads - 1) / kThreads;
  run<<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads>>>(element, n);
  check(cudaGetLastError(), "a launch");
  check(cudaDeviceSynchronize(), "a kernel");
}

inline int device_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

#else

template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t n, const T* host = nullptr) : n_(n), data_(new T[n]()) {
    if (host && n != 0) std::memcpy(data_.get(), host, n * sizeof(T));
  }
  T* get() const { return data_.get(); }
  void copy_rows(T* host, std::size_t width, std::size_t stride) const {
    for (std::size_t j = 0; n_ != 0 && j < n_ / width; ++j)
      std::memcpy(host + j * stride, data_.get() + j * width, width * sizeof(T));
  }

 private:
  std::size_t n_;
  std::unique_ptr<T[]> data_;
};

template <typename Element>
void launch(std::size_t n, Element element) {
  for (std::size_t k = 0; k < n; ++k) element(k);
}

inline int device_count() { return 0; }

#endif

}  // namespace cuda
}  // namespace pyattr

// What every .cu file needs: status -> exception, owning buffers, streams, one launch.
//
// Compiled as C++ (g++ -x c++) a device buffer is host memory, a stream does its work at once and a
// launch is a loop: the tests run the same elements (elements.hpp) that way where there is no GPU.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace pyattr {
namespace cuda {

#if defined(__CUDACC__)

typedef cudaStream_t Stream;

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("cuda: expected success, got ") +
                             cudaGetErrorString(status) + " from " + what);
}

// Copies are ordered as the launches of their stream; those to or from the host, without a stream,
// return when they are done.
inline void copy_to_device(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes) check(cudaMemcpy(to, from, n_bytes, cudaMemcpyHostToDevice), "a copy to the device");
}
inline void copy_to_host(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes) check(cudaMemcpy(to, from, n_bytes, cudaMemcpyDeviceToHost), "a copy to the host");
}
inline void copy_on_device(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes)
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice), "a copy on the device");
}
inline void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream) {
  if (n_bytes)
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, stream),
          "a copy to the device");
}
inline void copy_rows_to_host(void* to, std::size_t stride, const void* from, std::size_t width,
                              std::size_t n_rows) {
  if (width && n_rows)
    check(cudaMemcpy2D(to, stride, from, width, width, n_rows, cudaMemcpyDeviceToHost),
          "a copy to the host");
}
inline void zero_on_device(void* data, std::size_t n_bytes) {
  if (n_bytes) check(cudaMemset(data, 0, n_bytes), "filling a buffer");
}
inline void* allocate_on_device(std::size_t n_bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, n_bytes), "cudaMalloc");
  return data;
}
inline std::size_t free_on_current_device() {
  std::size_t n_free = 0, total = 0;
  check(cudaMemGetInfo(&n_free, &total), "cudaMemGetInfo");
  return n_free;
}
// Launches that use the memory may still run.
inline void free_on_device(void* data) noexcept {
  if (!data) return;
  cudaDeviceSynchronize();
  cudaFree(data);
}

// Host memory that the device reads by itself.
inline void* allocate_pinned(std::size_t n_bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, n_bytes), "cudaMallocHost");
  return data;
}
inline void free_pinned(void* data) noexcept { cudaFreeHost(data); }

inline Stream make_stream() {
  Stream stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return stream;
}
// What it was asked for may still run.
inline void free_stream(Stream stream) noexcept {
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
}
inline void wait_for(Stream stream) { check(cudaStreamSynchronize(stream), "a kernel"); }

template <typename Element>
__global__ void run(Element element, std::size_t n) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t k = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < n;
       k += step)
    element(k);
}

// element(0) .. element(n - 1), in any order. Returns before they are done: copies wait for them.
template <typename Element>
void launch(std::size_t n, Element element, Stream stream = {}) {
  constexpr std::size_t kThreads = 256, kMaxBlocks = std::size_t{1} << 30;
  if (n == 0) return;
  const std::size_t blocks = (n + kThreads - 1) / kThreads;
  run<<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads, 0, stream>>>(
      element, n);
  check(cudaGetLastError(), "a launch");
}

inline int device_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

#else

struct Stream {};

inline void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream = {}) {
  if (n_bytes) std::memcpy(to, from, n_bytes);
}
inline void copy_to_host(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes) std::memcpy(to, from, n_bytes);
}
inline void copy_on_device(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes) std::memcpy(to, from, n_bytes);
}
inline void copy_rows_to_host(void* to, std::size_t stride, const void* from, std::size_t width,
                              std::size_t n_rows) {
  for (std::size_t j = 0; j < n_rows; ++j)
    std::memcpy(static_cast<char*>(to) + j * stride, static_cast<const char*>(from) + j * width,
                width);
}
inline void zero_on_device(void* data, std::size_t n_bytes) {
  if (n_bytes) std::memset(data, 0, n_bytes);
}
inline std::size_t free_on_current_device() { return std::size_t{1} << 40; }
// Between two guards, which no kernel may have written to when the memory is freed.
constexpr std::size_t kGuard = 64;
inline void* allocate_on_device(std::size_t n_bytes) {
  char* const start =
      static_cast<char*>(::operator new(n_bytes + 2 * kGuard, std::align_val_t{64}));
  std::memset(start, 0x5A, n_bytes + 2 * kGuard);
  std::memcpy(start, &n_bytes, sizeof n_bytes);
  return start + kGuard;
}
inline void free_on_device(void* data) noexcept {
  if (!data) return;
  char* const start = static_cast<char*>(data) - kGuard;
  std::size_t n_bytes;
  std::memcpy(&n_bytes, start, sizeof n_bytes);
  for (std::size_t k = 0; k < 2 * kGuard; ++k)
    if (k >= sizeof n_bytes && start[k < kGuard ? k : n_bytes + k] != 0x5A) std::abort();
  ::operator delete(start, std::align_val_t{64});
}
inline void* allocate_pinned(std::size_t n_bytes) { return allocate_on_device(n_bytes); }
inline void free_pinned(void* data) noexcept { free_on_device(data); }
inline Stream make_stream() { return {}; }
inline void free_stream(Stream) noexcept {}
inline void wait_for(Stream) {}

template <typename Element>
void launch(std::size_t n, Element element, Stream = {}) {
  for (std::size_t k = 0; k < n; ++k) element(k);
}

inline int device_count() { return 0; }

#endif

// n values of T on the current device: zeros, or a copy of the host's.
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t n, const T* host = nullptr)
      : n_(n), data_(n ? static_cast<T*>(allocate_on_device(n * sizeof(T))) : nullptr) {
    if (host)
      copy_to_device(data_.get(), host, n * sizeof(T));
    else
      zero_on_device(data_.get(), n * sizeof(T));
  }

  T* get() const { return data_.get(); }
  std::size_t size() const { return n_; }
  void copy(T* host) const { copy_to_host(host, get(), n_ * sizeof(T)); }
  // Rows of `width` values, to rows of the host that are `stride` values apart.
  void copy_rows(T* host, std::size_t width, std::size_t stride) const {
    if (n_ != 0) copy_rows_to_host(host, stride * sizeof(T), get(), width * sizeof(T), n_ / width);
  }
  void swap(DeviceBuffer& other) {
    std::swap(n_, other.n_);
    data_.swap(other.data_);
  }

 private:
  struct Free {
    void operator()(T* data) const noexcept { free_on_device(data); }
  };
  std::size_t n_;
  std::unique_ptr<T, Free> data_;
};

// n values of T in pinned host memory.
template <typename T>
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t n)
      : data_(n ? static_cast<T*>(allocate_pinned(n * sizeof(T))) : nullptr) {}
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* data) const noexcept { free_pinned(data); }
  };
  std::unique_ptr<T, Free> data_;
};

// A queue of copies and launches; waits for them before it goes.
class OwnStream {
 public:
  OwnStream() : stream_(make_stream()) {}
  ~OwnStream() { free_stream(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  Stream get() const { return stream_; }
  void wait() const { wait_for(stream_); }

 private:
  Stream stream_;
};

}  // namespace cuda
}  // namespace pyattr

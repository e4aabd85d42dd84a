// A block of GPU threads that work together: one program for device and host.
//
// A block kernel is a struct with kThreads, kBlocksPerProcessor (how many should fit at a time), a
// type Shared and
//   void operator()(const ThreadBlock<kThreads>&, Shared&, std::size_t index) const
// which every thread runs: block.thread says which, block.sync() waits for all, block.multiply()
// does a tensor-core product with the other lanes of the warp, and copies to shared memory are
// awaited in groups. Compiled as C++ the threads are emulated (emulated_block.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_check.cuh"
#include "mma_fragments.hpp"

#if defined(__CUDACC__)
#define PYATTR_DEVICE __device__ __forceinline__
#else
#define PYATTR_DEVICE inline
#include "emulated_block.hpp"
#endif

namespace pyattr {
namespace cuda {

struct alignas(8) Words2 {
  std::uint32_t word[2];
};
struct alignas(16) Words4 {
  std::uint32_t word[4];
};

#if defined(__CUDACC__)

template <int n_threads>
class ThreadBlock {
 public:
  const int thread = static_cast<int>(threadIdx.x);

  PYATTR_DEVICE void sync() const { __syncthreads(); }

  PYATTR_DEVICE void multiply(MmaC& sums, const MmaA& a, const MmaB& b) const {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums.sum[0]), "+r"(sums.sum[1]), "+r"(sums.sum[2]), "+r"(sums.sum[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
          "r"(b.word[1]));
  }

  // Four words, both addresses multiples of 16 bytes; one word.
  PYATTR_DEVICE void copy4(void* shared, const void* global) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(shared)), "l"(global)
                 : "memory");
  }
  PYATTR_DEVICE void copy1(void* shared, const void* global) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address(shared)), "l"(global)
                 : "memory");
  }
  // End a group of copies; wait until at most n_left groups of this thread are on their way.
  PYATTR_DEVICE void end_group() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int n_left>
  PYATTR_DEVICE void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(n_left) : "memory");
  }

  // Whole numbers: exact in any order.
  PYATTR_DEVICE void add(std::int32_t* to, std::int32_t value) const { atomicAdd(to, value); }
  PYATTR_DEVICE void add(std::int64_t* to, std::int64_t value) const {
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
  }

 private:
  static PYATTR_DEVICE unsigned address(void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
  }
};

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocksPerProcessor)
    run_block(Kernel kernel, std::size_t first) {
  __shared__ typename Kernel::Shared shared;
  kernel(ThreadBlock<Kernel::kThreads>(), shared, first + blockIdx.x);
}

// kernel(block 0) .. kernel(block n - 1), in any order. Returns before they are done.
template <typename Kernel>
void launch_blocks(std::size_t n, const Kernel& kernel, Stream stream = {}) {
  constexpr std::size_t kMost = std::size_t{1} << 30;
  for (std::size_t first = 0; first < n; first += kMost) {
    const std::size_t size = n - first < kMost ? n - first : kMost;
    run_block<<<static_cast<unsigned>(size), Kernel::kThreads, 0, stream>>>(kernel, first);
    check(cudaGetLastError(), "a launch");
  }
}

#endif

}  // namespace cuda
}  // namespace pyattr

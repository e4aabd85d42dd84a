// A block of GPU threads that work together: one program for device and host.
//
// A block kernel is a struct with kThreads, a type Shared and
//   void operator()(const ThreadBlock<kThreads>&, Shared&, std::size_t index) const
// made of steps: block.each(f) calls f(thread) for every thread, block.sync() waits for all,
// block.multiply(pick) does one tensor-core product a warp, copies to shared memory are awaited in
// groups. What a thread keeps from step to step is a PerThread.
//
// With nvcc a thread runs its own part. Compiled as C++ a step is a loop over the threads, last to
// first; products are emulated from the maps of mma_fragments.hpp; a copy arrives when it is waited
// for and no earlier; memory that nobody has written holds 0xA5. So wrong indices, reads too early
// and a dependence on order within a step show on the CPU. A missing sync() does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda_check.cuh"
#include "mma_fragments.hpp"

#if !defined(__CUDACC__)
#include <memory>
#include <utility>
#include <vector>
#endif

#if defined(__CUDACC__)
#define PYATTR_DEVICE __device__ __forceinline__
#define PYATTR_UNROLL _Pragma("unroll")
#else
#define PYATTR_DEVICE inline
#define PYATTR_UNROLL
#endif

namespace pyattr {
namespace cuda {

// One product of a lane: sums += a @ b, with the other lanes of its warp.
struct Mma {
  MmaC& sums;
  const MmaA& a;
  const MmaB& b;
};

struct alignas(8) Words2 {
  std::uint32_t word[2];
};
struct alignas(16) Words4 {
  std::uint32_t word[4];
};

#if defined(__CUDACC__)

template <typename T>
class PerThread {
 public:
  PYATTR_DEVICE explicit PerThread(int) {}
  PYATTR_DEVICE T& operator[](int) { return value_; }

 private:
  T value_;
};

template <int n_threads>
class ThreadBlock {
 public:
  template <typename Step>
  PYATTR_DEVICE void each(Step&& step) const {
    step(static_cast<int>(threadIdx.x));
  }
  PYATTR_DEVICE void sync() const { __syncthreads(); }

  template <typename Pick>
  PYATTR_DEVICE void multiply(Pick&& pick) const {
    const Mma mma = pick(static_cast<int>(threadIdx.x));
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(mma.sums.sum[0]), "+r"(mma.sums.sum[1]), "+r"(mma.sums.sum[2]), "+r"(mma.sums.sum[3])
        : "r"(mma.a.word[0]), "r"(mma.a.word[1]), "r"(mma.a.word[2]), "r"(mma.a.word[3]),
          "r"(mma.b.word[0]), "r"(mma.b.word[1]));
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
  // End a group of copies; wait until at most n_left groups are on their way.
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

#else

template <typename T>
class PerThread {
 public:
  explicit PerThread(int n_threads) : values_(new T[n_threads]) {
    std::memset(static_cast<void*>(values_.get()), 0xA5, n_threads * sizeof(T));
  }
  T& operator[](int thread) { return values_[thread]; }

 private:
  std::unique_ptr<T[]> values_;
};

// C += A @ B from the fragments of 32 lanes.
inline void emulate_mma(const std::vector<Mma>& lanes) {
  std::int32_t a[kMmaRows][kMmaDepth], b[kMmaDepth][kMmaColumns];
  const auto byte = [](const std::uint32_t* words, int i) {
    return static_cast<std::int32_t>(static_cast<std::int8_t>(words[i / 4] >> (8 * (i % 4)) & 255));
  };
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int i = 0; i < 16; ++i) {
      const Entry at = entry_of_a(lane, i);
      a[at.row][at.column] = byte(lanes[lane].a.word, i);
    }
    for (int i = 0; i < 8; ++i) {
      const Entry at = entry_of_b(lane, i);
      b[at.row][at.column] = byte(lanes[lane].b.word, i);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Entry at = entry_of_c(lane, i);
      std::int32_t sum = 0;
      for (int k = 0; k < kMmaDepth; ++k) sum += a[at.row][k] * b[k][at.column];
      lanes[lane].sums.sum[i] += sum;
    }
}

template <int n_threads>
class ThreadBlock {
 public:
  template <typename Step>
  void each(Step&& step) const {
    for (thread_ = n_threads - 1; thread_ >= 0; --thread_) step(thread_);
  }
  void sync() const {}

  template <typename Pick>
  void multiply(Pick&& pick) const {
    std::vector<Mma> lanes;
    for (int first = 0; first < n_threads; first += kWarp) {
      lanes.clear();
      for (int lane = 0; lane < kWarp; ++lane) lanes.push_back(pick(first + lane));
      emulate_mma(lanes);
    }
  }

  void copy4(void* shared, const void* global) const { copy(shared, global, 16); }
  void copy1(void* shared, const void* global) const { copy(shared, global, 4); }
  void end_group() const {
    groups_[thread_].push_back(std::move(open_[thread_]));
    open_[thread_].clear();
  }
  template <int n_left>
  void wait() const {
    std::vector<Group>& groups = groups_[thread_];
    while (groups.size() > n_left) {
      for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.size);
      groups.erase(groups.begin());
    }
  }

  void add(std::int32_t* to, std::int32_t value) const { *to += value; }
  void add(std::int64_t* to, std::int64_t value) const { *to += value; }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t size;
  };
  typedef std::vector<Copy> Group;

  void copy(void* to, const void* from, std::size_t size) const {
    const auto at = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
    if (at % size != 0) throw std::logic_error("copy: expected aligned addresses, got others");
    open_[thread_].push_back({to, from, size});
  }

  mutable int thread_ = -1;
  mutable std::vector<Group> open_ = std::vector<Group>(n_threads);
  mutable std::vector<std::vector<Group>> groups_ = std::vector<std::vector<Group>>(n_threads);
};

template <typename Kernel>
void launch_blocks(std::size_t n, const Kernel& kernel, Stream = {}) {
  static_assert(sizeof(typename Kernel::Shared) <= 48 << 10, "fits a block's shared memory");
  const auto shared = std::make_unique<typename Kernel::Shared>();
  for (std::size_t index = 0; index < n; ++index) {
    std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof *shared);
    kernel(ThreadBlock<Kernel::kThreads>(), *shared, index);
  }
}

#endif

}  // namespace cuda
}  // namespace pyattr

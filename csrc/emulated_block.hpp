// A block of GPU threads on the host, for tests where there is no GPU (thread_block.cuh).
//
// Every thread of a block runs the kernel on a stack of its own, as on a device: until it waits for
// the others, and then the next thread runs. Warps run one after the other between two sync()s, the
// first of them first in even blocks and last in odd ones. Products are emulated from the maps of
// mma_fragments.hpp, a copy arrives when its thread waits for it and no earlier, and memory that
// nobody has written holds 0xA5. So a wrong index, a missing sync() or wait() and threads that
// disagree about either show as wrong results or an exception.
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cuda_check.cuh"
#include "mma_fragments.hpp"

namespace pyattr {
namespace cuda {

// C += A @ B from the fragments of 32 lanes.
inline void emulate_mma(const std::vector<Mma>& lanes) {
  std::int32_t a[kMmaRows][kMmaDepth], b[kMmaDepth][kMmaColumns];
  const auto byte = [](const std::uint32_t* words, int i) {
    return static_cast<std::int32_t>(static_cast<std::int8_t>(words[i / 4] >> (8 * (i % 4)) & 255));
  };
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int i = 0; i < 16; ++i) {
      const Entry at = entry_of_a(lane, i);
      a[at.row][at.column] = byte(lanes[lane].a->word, i);
    }
    for (int i = 0; i < 8; ++i) {
      const Entry at = entry_of_b(lane, i);
      b[at.row][at.column] = byte(lanes[lane].b->word, i);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Entry at = entry_of_c(lane, i);
      std::int32_t sum = 0;
      for (int k = 0; k < kMmaDepth; ++k) sum += a[at.row][k] * b[k][at.column];
      lanes[lane].sums->sum[i] += sum;
    }
}

// Threads of a block as contexts that hand over to each other.
class Fibers {
 public:
  enum class State { kRunning, kAtSync, kAtProduct, kDone };

  explicit Fibers(int n_threads) : fibers_(n_threads) {
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[kStackBytes]);
  }

  // body(thread) for every thread.
  template <typename Body>
  void run(const Body& body, bool backwards) {
    body_ = [](const void* context, int thread) { (*static_cast<const Body*>(context))(thread); };
    context_ = &body;
    for (Fiber& fiber : fibers_) fiber.state = State::kRunning, fiber.begun = false;
    const int n_warps = static_cast<int>(fibers_.size()) / kWarp;
    State state = State::kAtSync;
    while (state == State::kAtSync)
      for (int k = 0; k < n_warps; ++k) {
        const State reached = run_warp((backwards ? n_warps - 1 - k : k) * kWarp, backwards);
        if (k > 0 && reached != state) disagree();
        state = reached;
      }
  }

  int thread() const { return thread_; }
  void sync() { yield(State::kAtSync); }
  void multiply(const Mma& mma) {
    fibers_[thread_].mma = mma;
    yield(State::kAtProduct);
  }

 private:
  static constexpr std::size_t kStackBytes = 64 << 10;
  struct Fiber {
    std::unique_ptr<char[]> stack;
    ucontext_t start;
    std::jmp_buf at;
    State state;
    bool begun;
    Mma mma;
  };

  [[noreturn]] static void disagree() {
    throw std::logic_error("block: expected all threads at the same sync, got some elsewhere");
  }

  // All lanes of a warp up to the next sync() or the end.
  State run_warp(int first, bool backwards) {
    for (;;) {
      for (int k = 0; k < kWarp; ++k) resume(first + (backwards ? kWarp - 1 - k : k));
      const State state = fibers_[first].state;
      for (int lane = 0; lane < kWarp; ++lane)
        if (fibers_[first + lane].state != state) disagree();
      if (state != State::kAtProduct) return state;
      std::vector<Mma> lanes;
      for (int lane = 0; lane < kWarp; ++lane) lanes.push_back(fibers_[first + lane].mma);
      emulate_mma(lanes);
    }
  }

  void resume(int thread) {
    Fiber& fiber = fibers_[thread];
    thread_ = thread;
    if (_setjmp(scheduler_) == 0) {
      if (fiber.begun) _longjmp(fiber.at, 1);
      fiber.begun = true;
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = fiber.stack.get();
      fiber.start.uc_stack.ss_size = kStackBytes;
      fiber.start.uc_link = nullptr;
      const auto self = reinterpret_cast<std::uintptr_t>(this);
      makecontext(&fiber.start, reinterpret_cast<void (*)()>(&enter), 2,
                  static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
      setcontext(&fiber.start);
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  static void enter(unsigned low, unsigned high) {
    auto* const self = reinterpret_cast<Fibers*>(static_cast<std::uintptr_t>(high) << 32 | low);
    try {
      self->body_(self->context_, self->thread_);
    } catch (...) {
      self->failure_ = std::current_exception();
    }
    self->fibers_[self->thread_].state = State::kDone;
    _longjmp(self->scheduler_, 1);
  }

  void yield(State state) {
    Fiber& fiber = fibers_[thread_];
    fiber.state = state;
    if (_setjmp(fiber.at) == 0) _longjmp(scheduler_, 1);
  }

  std::vector<Fiber> fibers_;
  std::jmp_buf scheduler_;
  void (*body_)(const void*, int) = nullptr;
  const void* context_ = nullptr;
  std::exception_ptr failure_;
  int thread_ = 0;
};

// What a thread keeps; filled with 0xA5.
template <typename T>
class PerThread {
 public:
  PerThread() { std::memset(static_cast<void*>(&value), 0xA5, sizeof value); }
  T value;
};

template <int n_threads>
class ThreadBlock {
 public:
  explicit ThreadBlock(Fibers& fibers) : fibers_(fibers), thread(fibers.thread()) {}
  ThreadBlock(const ThreadBlock&) = delete;

  void sync() const { fibers_.sync(); }
  void multiply(MmaC& sums, const MmaA& a, const MmaB& b) const {
    fibers_.multiply(Mma{&sums, &a, &b});
  }

  void copy4(void* shared, const void* global) const { copy(shared, global, 16); }
  void copy1(void* shared, const void* global) const { copy(shared, global, 4); }
  void end_group() const {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int n_left>
  void wait() const {
    for (; groups_.size() > n_left; groups_.erase(groups_.begin()))
      for (const Copy& copy : groups_.front()) std::memcpy(copy.to, copy.from, copy.size);
  }

  void add(std::int32_t* to, std::int32_t value) const { *to += value; }
  void add(std::int64_t* to, std::int64_t value) const { *to += value; }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t size;
  };
  void copy(void* to, const void* from, std::size_t size) const {
    const auto at = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
    if (at % size != 0) throw std::logic_error("copy: expected aligned addresses, got others");
    open_.push_back({to, from, size});
  }

  Fibers& fibers_;
  mutable std::vector<Copy> open_;
  mutable std::vector<std::vector<Copy>> groups_;

 public:
  const int thread;
};

template <typename Kernel>
void launch_blocks(std::size_t n, const Kernel& kernel, Stream = {}) {
  static_assert(sizeof(typename Kernel::Shared) <= 48 << 10, "fits a block's shared memory");
  const auto shared = std::make_unique<typename Kernel::Shared>();
  Fibers fibers(Kernel::kThreads);
  for (std::size_t index = 0; index < n; ++index) {
    std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof *shared);
    fibers.run([&](int) { kernel(ThreadBlock<Kernel::kThreads>(fibers), *shared, index); },
               index % 2 != 0);
  }
}

}  // namespace cuda
}  // namespace pyattr

// Ranges of outputs, which callers split over threads, and scratch memory.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "simd.hpp"

namespace pyattr {

struct Range {
  std::size_t begin, end;
};

PYATTR_HD std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }

#if !defined(__CUDACC__)

// Cache-line aligned scratch of trivially constructible T.
template <typename T>
class Scratch {
 public:
  explicit Scratch(std::size_t n)
      : data_(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}))) {}
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
};

#endif  // !__CUDACC__

}  // namespace pyattr

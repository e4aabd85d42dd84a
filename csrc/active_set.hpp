// The coordinates that one target uses, and coordinate descent on them alone.
//
// Their part of G is gathered into a small dense matrix, `sub` (k, stride), which stays in cache.
// Gauss-Seidel sweeps go over blocks of four coordinates and keep g = b - sub w up to date. Rows
// are padded to a multiple of 16 with zeros; a padding coordinate has diagonal 0 and stays 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "lasso_problem.hpp"
#include "ranges.hpp"
#include "simd.hpp"

namespace pyattr {

constexpr int kMaxSweeps = 200;  // between two passes over the whole of G

// One sweep over k coordinates (k a multiple of 16).
PYATTR_INLINE void sweep_active(const float* sub, std::size_t stride, std::size_t k,
                                const float* diagonal, const float* inverse, float lambda, float* w,
                                float* g) {
  for (std::size_t c = 0; c < k; c += 4) {
    float step[4];
    bool moved = false;
    for (std::size_t a = 0; a < 4; ++a) {
      const float* row = sub + (c + a) * stride + c;
      float here = g[c + a];
      for (std::size_t e = 0; e < a; ++e) here -= row[e] * step[e];
      const float next = soft_threshold(here + diagonal[c + a] * w[c + a], lambda) * inverse[c + a];
      step[a] = next - w[c + a];
      w[c + a] = next;
      moved |= step[a] != 0.0f;
    }
    if (!moved) continue;
    const float *r0 = sub + c * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    const float s0 = step[0], s1 = step[1], s2 = step[2], s3 = step[3];
    for (std::size_t i = 0; i < k; ++i)
      g[i] -= (s0 * r0[i] + s1 * r1[i]) + (s2 * r2[i] + s3 * r3[i]);
  }
}

// In 16 lanes of float32, k a multiple of 16.
PYATTR_INLINE GapSums local_sums(const float* w, const float* b, const float* g, std::size_t k) {
  alignas(64) float wb[16] = {}, wg[16] = {}, l1[16] = {}, top[16] = {};
  for (std::size_t i = 0; i < k; i += 16)
    for (std::size_t c = 0; c < 16; ++c) {
      wb[c] += w[i + c] * b[i + c];
      wg[c] += w[i + c] * g[i + c];
      l1[c] += __builtin_fabsf(w[i + c]);
      const float size = __builtin_fabsf(g[i + c]);
      top[c] = size > top[c] ? size : top[c];
    }
  GapSums sums;
  for (std::size_t c = 0; c < 16; ++c) {
    sums.wb += wb[c];
    sums.wg += wg[c];
    sums.l1 += l1[c];
    sums.largest = top[c] > sums.largest ? top[c] : sums.largest;
  }
  return sums;
}

// Sweep until the gap of the problem on the active set is at most `goal`.
PYATTR_CLONES
static void solve_active(const float* sub, std::size_t stride, std::size_t k, const float* diagonal,
                         const float* inverse, const float* b, double square, double lambda,
                         double goal, float* w, float* g) {
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    sweep_active(sub, stride, k, diagonal, inverse, static_cast<float>(lambda), w, g);
    if (duality_gap(square, lambda, local_sums(w, b, g, k)) <= goal) return;
  }
}

// Room for one active set; kept from one batch of targets to the next, since fresh pages cost more
// than the sweeps on them.
struct ActiveSpace {
  std::size_t stride = 0;
  Scratch<float> sub{0};
  std::vector<float> w, g, b, diagonal, inverse;

  // Make room for k coordinates, of which the first `used` have values to keep.
  void grow(std::size_t k, std::size_t used) {
    if (k <= stride) return;
    const std::size_t larger = (std::max(k, stride + stride / 2) + 63) / 64 * 64;
    Scratch<float> next(larger * larger);
    for (std::size_t c = 0; c < used; ++c)
      std::copy_n(sub.get() + c * stride, used, next.get() + c * larger);
    sub = std::move(next);
    stride = larger;
    for (auto* vector : {&w, &g, &b, &diagonal, &inverse}) vector->resize(larger, 0.0f);
  }
};

class ActiveSet {
 public:
  ActiveSet(const float* gram, const float* cross, std::size_t n, ActiveSpace& space)
      : gram_(gram), cross_(cross), n_(n), space_(space), position_(n, kAbsent) {}

  std::size_t size() const { return active_.size(); }

  // How many coordinates outside have a |gradient| of at least `bound`.
  std::size_t count_above(const float* gradient, float bound) const {
    std::size_t count = 0;
    for (std::size_t j = 0; j < n_; ++j) count += is_new(gradient, bound, j);
    return count;
  }

  // Let them in.
  void add_above(const float* gradient, float bound) {
    const std::size_t before = size();
    for (std::size_t j = 0; j < n_; ++j)
      if (is_new(gradient, bound, j)) {
        position_[j] = static_cast<std::uint32_t>(size());
        active_.push_back(static_cast<std::uint32_t>(j));
      }
    space_.grow(size(), before);
    gather(before);
  }

  // From the gradient (n,) at the current weights.
  void solve(const float* gradient, double square, double lambda, double goal) {
    if (active_.empty()) return;
    for (std::size_t c = 0; c < size(); ++c) space_.g[c] = gradient[active_[c]];
    std::fill(space_.g.begin() + size(), space_.g.begin() + padded(), 0.0f);
    solve_active(space_.sub.get(), space_.stride, padded(), space_.diagonal.data(),
                 space_.inverse.data(), space_.b.data(), square, lambda, goal, space_.w.data(),
                 space_.g.data());
  }

  // The weights that are not 0, by rising index.
  void append_support(std::vector<std::uint32_t>& index, std::vector<float>& value) const {
    for (std::size_t c = 0; c < size(); ++c)
      if (space_.w[c] != 0.0f) index.push_back(active_[c]);
    std::sort(index.begin(), index.end());
    for (std::uint32_t j : index) value.push_back(space_.w[position_[j]]);
  }

  void scatter(float* weights) const {
    for (std::size_t c = 0; c < size(); ++c) weights[active_[c]] = space_.w[c];
  }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFFu;

  bool is_new(const float* gradient, float bound, std::size_t j) const {
    return __builtin_fabsf(gradient[j]) >= bound && position_[j] == kAbsent &&
           gram_[j * n_ + j] > 0.0f;
  }

  std::size_t padded() const { return (size() + 15) / 16 * 16; }

  // Gather what coordinates `before` .. k - 1 add. G is symmetric: only their own rows are read,
  // and what they add to the earlier rows is copied from there, 16 columns at a time.
  void gather(std::size_t before) {
    const std::size_t k = size(), stride = space_.stride;
    float* sub = space_.sub.get();
    for (std::size_t c = before; c < k; ++c) {
      const float* row = gram_ + active_[c] * n_;
      for (std::size_t e = 0; e < k; ++e) sub[c * stride + e] = row[active_[e]];
    }
    for (std::size_t first = before; first < k; first += 16)
      for (std::size_t c = 0; c < before; ++c)
        for (std::size_t e = first; e < std::min(first + 16, k); ++e)
          sub[c * stride + e] = sub[e * stride + c];
    for (std::size_t c = 0; c < padded(); ++c)
      std::fill(sub + c * stride + (c < k ? k : 0), sub + c * stride + padded(), 0.0f);
    for (std::size_t c = before; c < padded(); ++c) {
      const bool real = c < k;
      space_.w[c] = 0.0f;
      space_.diagonal[c] = real ? sub[c * stride + c] : 0.0f;
      space_.inverse[c] = real ? 1.0f / space_.diagonal[c] : 0.0f;
      space_.b[c] = real ? cross_[active_[c]] : 0.0f;
    }
  }

  const float* gram_;
  const float* cross_;
  std::size_t n_;
  ActiveSpace& space_;
  std::vector<std::uint32_t> position_, active_;
};

}  // namespace pyattr

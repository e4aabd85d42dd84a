// A Gram matrix as 16-bit integers, for steps of many targets at twice the rate of float32.
//
// Rows and columns are scaled to a unit diagonal first: C_ij = G_ij / (r_i r_j), r_i = sqrt(G_ii),
// so that rare examples keep their precision. Per panel of 64 columns p:
//   codes  (n_panels, n_padded, 64) int16    round(C_ij / unit), unit the largest of them / 32767
//   block  (n_panels, 64, 64)       float32  C of the panel's own rows, not rounded
// n_padded = 64 n_panels; what is past n, or has G_ii = 0, is 0. In codes the diagonal is 0 too.
//
//   subtract_steps   gradient (n_padded, 16 lanes) float32 -= C[:, panel] @ step (64, 16 lanes)
// for steps rounded to multiples of their lane's largest / 1023, the diagonal's part apart.
//
// Accumulator.  int32, exact: 64 * 32767 * 1023 < 2^31. Hence the same bits from every kernel, in
// whatever order it adds; then one rounding to float32, one product and one difference. What the
// codes lose is made good by the caller, who forms the gradient anew from G now and then.
//
// Kernels: AVX2 multiplies 16 pairs and adds them up two by two in one instruction (vpmaddwd);
// anything else runs the plain loop.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "elementary.hpp"
#include "ranges.hpp"
#include "simd.hpp"
#include "target_lanes.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(PYATTR_NO_CLONES)
#define PYATTR_MADD 1
#include <immintrin.h>
#endif

namespace pyattr {

constexpr std::size_t kCodePanel = 64;
constexpr std::size_t kHalfLanes = kLanes / 2;
constexpr int kCodeLimit = 32767, kStepLimit = 1023;

static_assert(kCodePanel * kCodeLimit * kStepLimit < std::size_t{1} << 31, "sums fit int32");

// Steps of one panel as integers: word (b, l) holds those of coordinates 2 b and 2 b + 1, the
// earlier in its low half; a step is its integer times scale[l].
struct CodedSteps {
  alignas(64) std::int32_t pairs[kCodePanel / 2][kLanes];
  alignas(64) float scale[kLanes];
};

// step (64, kLanes); returns whether any is not 0. Multiplied by `unit`, scale undoes both codings.
PYATTR_INLINE bool code_steps(const float (*step)[kLanes], float unit, CodedSteps& out) {
  alignas(64) float top[kLanes] = {}, inverse[kLanes];
  for (std::size_t b = 0; b < kCodePanel; ++b)
    for (int l = 0; l < kLanes; ++l) {
      const float size = __builtin_fabsf(step[b][l]);
      top[l] = size > top[l] ? size : top[l];
    }
  bool any = false;
  for (int l = 0; l < kLanes; ++l) {
    const bool real = top[l] > 1e-30f;  // the inverse of less would overflow
    inverse[l] = real ? float(kStepLimit) / top[l] : 0.0f;
    out.scale[l] = real ? top[l] / float(kStepLimit) * unit : 0.0f;
    any |= real;
  }
  // In [2^23, 2^24) floats are whole numbers: adding 1.5 * 2^23 rounds, half to even.
  constexpr float kRound = 12582912.0f;
  const auto whole = [](float x) {
    return bits_as<std::int32_t>(x + kRound) - bits_as<std::int32_t>(kRound);
  };
  for (std::size_t b = 0; b < kCodePanel; b += 2)
    for (int l = 0; l < kLanes; ++l) {
      const std::uint32_t low = whole(step[b][l] * inverse[l]);
      const std::uint32_t high = whole(step[b + 1][l] * inverse[l]);
      out.pairs[b / 2][l] = static_cast<std::int32_t>((low & 0xFFFFu) | high << 16);
    }
  return any;
}

// The first n_lanes lanes (8 or 16) alone. codes (n_rows, 64), n_rows a multiple of 4.
inline void subtract_steps_plain(const std::int16_t* codes, std::size_t n_rows,
                                 const CodedSteps& steps, int n_lanes, float* gradient) {
  for (std::size_t i = 0; i < n_rows; ++i) {
    std::int32_t sum[kLanes] = {};
    for (std::size_t b = 0; b < kCodePanel / 2; ++b) {
      const std::int32_t first = codes[i * kCodePanel + 2 * b];
      const std::int32_t second = codes[i * kCodePanel + 2 * b + 1];
      for (int l = 0; l < n_lanes; ++l) {
        const std::int32_t pair = steps.pairs[b][l];
        sum[l] += first * static_cast<std::int16_t>(pair) + second * (pair >> 16);
      }
    }
    for (int l = 0; l < n_lanes; ++l)
      gradient[i * kLanes + l] -= steps.scale[l] * static_cast<float>(sum[l]);
  }
}

#if defined(PYATTR_MADD)

// Four rows of codes stay in accumulators, one register for each row and eight lanes.
template <int kHalves>
__attribute__((target("avx2"))) inline void subtract_steps_avx2(const std::int16_t* codes,
                                                                std::size_t n_rows,
                                                                const CodedSteps& steps,
                                                                float* gradient) {
  constexpr std::size_t kPairs = kCodePanel / 2;
  for (std::size_t i = 0; i < n_rows; i += 4) {
    const std::int16_t* rows = codes + i * kCodePanel;
    __m256i sum[4][kHalves] = {};
#pragma GCC unroll 8
    for (std::size_t b = 0; b < kPairs; ++b)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < 4; ++r) {
        std::int32_t pair;
        std::memcpy(&pair, rows + 2 * (r * kPairs + b), sizeof pair);
#pragma GCC unroll 2
        for (std::size_t h = 0; h < kHalves; ++h) {
          const auto* step = reinterpret_cast<const __m256i*>(steps.pairs[b] + h * kHalfLanes);
          sum[r][h] = _mm256_add_epi32(
              sum[r][h], _mm256_madd_epi16(_mm256_set1_epi32(pair), _mm256_load_si256(step)));
        }
      }
#pragma GCC unroll 4
    for (std::size_t r = 0; r < 4; ++r)
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        float* out = gradient + (i + r) * kLanes + h * kHalfLanes;
        const __m256 change = _mm256_mul_ps(_mm256_load_ps(steps.scale + h * kHalfLanes),
                                            _mm256_cvtepi32_ps(sum[r][h]));
        _mm256_store_ps(out, _mm256_sub_ps(_mm256_load_ps(out), change));
      }
  }
}

#endif  // PYATTR_MADD

inline void subtract_steps(const std::int16_t* codes, std::size_t n_rows, const CodedSteps& steps,
                           int n_lanes, float* gradient) {
#if defined(PYATTR_MADD)
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2)
    return n_lanes > static_cast<int>(kHalfLanes)
               ? subtract_steps_avx2<2>(codes, n_rows, steps, gradient)
               : subtract_steps_avx2<1>(codes, n_rows, steps, gradient);
#endif
  subtract_steps_plain(codes, n_rows, steps, n_lanes, gradient);
}

// Largest |C_ij| of row i over j < i.
PYATTR_CLONES
static float largest_correlation(const float* row, const float* inverse_root, std::size_t i) {
  alignas(64) float top[16] = {};
  std::size_t j = 0;
  for (; j + 16 <= i; j += 16)
    for (std::size_t c = 0; c < 16; ++c) {
      const float size = __builtin_fabsf(row[j + c] * inverse_root[j + c]);
      top[c] = size > top[c] ? size : top[c];
    }
  float result = 0.0f;
  for (; j < i; ++j) result = std::fmax(result, __builtin_fabsf(row[j] * inverse_root[j]));
  for (float size : top) result = std::fmax(result, size);
  return result * inverse_root[i];
}

// The diagonal, which is above the limit, is cut down to it; the caller puts 0 there.
PYATTR_CLONES
static void code_row(const float* row, const float* inverse_root, std::size_t n, float scale,
                     std::int16_t* out) {
  constexpr float kMost = kCodeLimit;
  for (std::size_t j = 0; j < n; ++j) {
    const float value = row[j] * inverse_root[j] * scale;
    const float below = value < kMost ? value : kMost, code = below > -kMost ? below : -kMost;
    out[j] = static_cast<std::int16_t>(code + (code < 0.0f ? -0.5f : 0.5f));
  }
}

class GramCodes {
 public:
  GramCodes(const float* gram, std::size_t n) : gram_(gram), n_(n) {}

  // Threads share one object; the first that needs it fills it.
  const GramCodes& filled() {
    std::call_once(once_, [this] { fill(); });
    return *this;
  }

  const float* gram() const { return gram_; }
  std::size_t n() const { return n_; }
  std::size_t n_padded() const { return root_.size(); }
  std::size_t n_panels() const { return root_.size() / kCodePanel; }
  float unit() const { return unit_; }
  const float* root() const { return root_.data(); }                  // (n_padded,) sqrt(G_ii)
  const float* inverse_root() const { return inverse_root_.data(); }  // 0 where G_ii is
  const float* block(std::size_t panel) const {
    return blocks_.get() + panel * kCodePanel * kCodePanel;
  }
  const std::int16_t* codes(std::size_t panel) const {
    return codes_.get() + panel * n_padded() * kCodePanel;
  }

 private:
  void fill() {
    const std::size_t n_padded = (n_ + kCodePanel - 1) / kCodePanel * kCodePanel;
    root_.assign(n_padded, 0.0f);
    inverse_root_.assign(n_padded, 0.0f);
    for (std::size_t i = 0; i < n_; ++i) {
      root_[i] = std::sqrt(gram_[i * n_ + i]);
      if (root_[i] > 0.0f) inverse_root_[i] = 1.0f / root_[i];
    }
    float top = 0.0f;
    for (std::size_t i = 0; i < n_; ++i)
      top = std::fmax(top, largest_correlation(gram_ + i * n_, inverse_root_.data(), i));
    unit_ = top / kCodeLimit;
    codes_ = Scratch<std::int16_t>(n_padded * n_padded);
    blocks_ = Scratch<float>(n_padded * kCodePanel);
    std::vector<std::int16_t> line(n_padded, 0);
    for (std::size_t i = 0; i < n_padded; ++i) {
      if (i < n_)
        code_row(gram_ + i * n_, inverse_root_.data(), n_,
                 top > 1e-30f ? inverse_root_[i] / unit_ : 0.0f, line.data());
      else
        std::fill(line.begin(), line.end(), 0);
      line[i] = 0;
      for (std::size_t p = 0; p < n_padded / kCodePanel; ++p)
        std::memcpy(codes_.get() + (p * n_padded + i) * kCodePanel, line.data() + p * kCodePanel,
                    kCodePanel * sizeof line[0]);
      fill_block_row(i);
    }
  }

  void fill_block_row(std::size_t i) {
    const std::size_t first = i / kCodePanel * kCodePanel;
    float* out = blocks_.get() + i * kCodePanel;
    for (std::size_t c = 0; c < kCodePanel; ++c) {
      const std::size_t j = first + c;
      out[c] = i < n_ && j < n_ ? gram_[i * n_ + j] * inverse_root_[i] * inverse_root_[j] : 0.0f;
    }
  }

  const float* gram_;
  std::size_t n_;
  float unit_ = 0.0f;
  std::vector<float> root_, inverse_root_;
  Scratch<std::int16_t> codes_{0};
  Scratch<float> blocks_{0};
  std::once_flag once_;
};

}  // namespace pyattr

// Batch normalisation with a rectifier behind it, and its way back. Memory is what this costs: what
// can be done with a number is done when it is read.
//
// The definitions are pyattr.reference.take_moments and normalise_backward.
//
// Accumulator and order.  Sums over pixels are float32 over 64 pixels (2 to 32 partial sums, added
// as a tree), those are added in float64, first to last; what is small, a few numbers a channel, is
// float64. Moments are taken about the first pixel's values, so that nothing cancels where a mean
// is far larger than the deviation. A sum of terms t is within 35 * 2^-24 * sum |t|. One thread:
// models are what is split over threads.
#pragma once

#include <cmath>
#include <cstddef>

#include "ranges.hpp"
#include "rectify.hpp"
#include "simd.hpp"

namespace pyattr {

constexpr int kSumLanes = 32;  // partial sums side by side

// Adds to first[c] and second[c], c < Width, the sums of two terms over `rows` <= kPixelBlock
// pixels. term(row, lane, &a, &b) gives them.
template <int Width, typename Term>
PYATTR_INLINE void sum_block(std::size_t rows, Term&& term, double* first, double* second) {
  constexpr int kPhases = kSumLanes / Width;
  float a[kPhases][Width] = {}, b[kPhases][Width] = {};
  std::size_t row = 0;
  for (; row + kPhases <= rows; row += kPhases)
    for (int phase = 0; phase < kPhases; ++phase)
      for (int lane = 0; lane < Width; ++lane) {
        float u, v;
        term(row + static_cast<std::size_t>(phase), lane, u, v);
        a[phase][lane] += u;
        b[phase][lane] += v;
      }
  for (int phase = 0; row < rows; ++row, ++phase)
    for (int lane = 0; lane < Width; ++lane) {
      float u, v;
      term(row, lane, u, v);
      a[phase][lane] += u;
      b[phase][lane] += v;
    }
  for (int half = kPhases / 2; half > 0; half /= 2)
    for (int phase = 0; phase < half; ++phase)
      for (int lane = 0; lane < Width; ++lane) {
        a[phase][lane] += a[phase + half][lane];
        b[phase][lane] += b[phase + half][lane];
      }
  for (int lane = 0; lane < Width; ++lane) {
    first[lane] += static_cast<double>(a[0][lane]);
    second[lane] += static_cast<double>(b[0][lane]);
  }
}

// sum and square (channels): of x - origin and of its square, origin (channels) the first pixel.
PYATTR_CLONES
static void moment_sums(const float* x, std::size_t rows, std::size_t channels, double* sum,
                        double* square) {
  const float* origin = x;
  for (std::size_t c = 0; c < channels; ++c) sum[c] = square[c] = 0.0;
  for (std::size_t first = 0; first < rows; first += kPixelBlock) {
    const std::size_t used = least(kPixelBlock, rows - first);
    for_pieces(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
      constexpr int kWidth = decltype(lanes)::width;
      const float *at = x + first * channels + c, *from = origin + c;
      sum_block<kWidth>(
          used,
          [&](std::size_t row, int lane, float& a, float& b) PYATTR_LAMBDA {
            a = at[row * channels + static_cast<std::size_t>(lane)] - from[lane];
            b = a * a;
          },
          sum + c, square + c);
    });
  }
}

// mean and variance (channels), the variance that of all pixels (biased). rows >= 1; square is
// scratch.
static void channel_moments(const float* x, std::size_t rows, std::size_t channels, double* mean,
                            double* variance) {
  moment_sums(x, rows, channels, mean, variance);
  const double n = static_cast<double>(rows);
  for (std::size_t c = 0; c < channels; ++c) {
    const double shifted = mean[c] / n, spread = variance[c] / n - shifted * shifted;
    mean[c] = static_cast<double>(x[c]) + shifted;
    variance[c] = spread < 0.0 ? 0.0 : spread;
  }
}

// sum and moment (channels): of the masked gradient g, and of g (x - mean).
PYATTR_CLONES
static void gradient_sums(const float* x, std::size_t rows, std::size_t channels, Normalisation by,
                          const float* gradient, double* sum, double* moment) {
  for (std::size_t c = 0; c < channels; ++c) sum[c] = moment[c] = 0.0;
  for (std::size_t first = 0; first < rows; first += kPixelBlock) {
    const std::size_t used = least(kPixelBlock, rows - first);
    for_pieces(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
      constexpr int kWidth = decltype(lanes)::width;
      const float *at = x + first * channels + c, *came = gradient + first * channels + c;
      const float *mean = by.mean + c, *slope = by.slope + c, *shift = by.shift + c;
      sum_block<kWidth>(
          used,
          [&](std::size_t row, int lane, float& a, float& b) PYATTR_LAMBDA {
            const std::size_t k = row * channels + static_cast<std::size_t>(lane);
            const float centred = at[k] - mean[lane];
            a = masked(came[k], centred * slope[lane] + shift[lane]);
            b = a * centred;
          },
          sum + c, moment + c);
    });
  }
}

// What one layer keeps of its channels.
struct Channels {
  const float *scale, *shift;  // weights
  float *mean, *variance;      // remembered for evaluation
  float* by;                   // (3, channels): mean, slope and shift of this batch
  double* spread;              // its variance + epsilon
};

// The batch's own normalisation, and what is remembered of it: moved by `momentum` towards mean and
// unbiased variance. rows >= 2; scratch (channels).
static void take_moments(const float* x, std::size_t rows, std::size_t channels, double epsilon,
                         double momentum, double* scratch, Channels of) {
  channel_moments(x, rows, channels, scratch, of.spread);
  const double n = static_cast<double>(rows), unbiased = n / (n - 1.0);
  for (std::size_t c = 0; c < channels; ++c) {
    const double mean = scratch[c], variance = of.spread[c];
    of.mean[c] = static_cast<float>(of.mean[c] + momentum * (mean - of.mean[c]));
    of.variance[c] =
        static_cast<float>(of.variance[c] + momentum * (variance * unbiased - of.variance[c]));
    of.spread[c] = variance + epsilon;
    of.by[c] = static_cast<float>(mean);
    of.by[channels + c] = static_cast<float>(of.scale[c] / std::sqrt(of.spread[c]));
    of.by[2 * channels + c] = of.shift[c];
  }
}

// x becomes its gradient, `gradient` being that of y; those of scale and shift are written. With x'
// the normalised x: slope (g - mean of g - x' mean of g x'). scratch (2, channels) of either type.
static void normalise_backward(float* x, std::size_t rows, std::size_t channels, Normalisation by,
                               const double* spread, const float* gradient, double* sums,
                               float* scratch, float* scale_gradient, float* shift_gradient) {
  double *sum = sums, *moment = sums + channels;
  gradient_sums(x, rows, channels, by, gradient, sum, moment);
  float *tilt = scratch, *lift = scratch + channels;
  for (std::size_t c = 0; c < channels; ++c) {
    const double share = static_cast<double>(by.slope[c]) / static_cast<double>(rows);
    tilt[c] = static_cast<float>(-share * moment[c] / spread[c]);
    lift[c] = static_cast<float>(-share * sum[c]);
    scale_gradient[c] = static_cast<float>(moment[c] / std::sqrt(spread[c]));
    shift_gradient[c] = static_cast<float>(sum[c]);
  }
  gradient_through(x, rows, channels, by, gradient, tilt, lift, x);
}

}  // namespace pyattr

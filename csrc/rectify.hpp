// What a residual network does to each number between two convolutions, there and back: normalise,
// rectify, and add a bypass or take maxima of 2 x 2 pixels.
//
//   x   (n, height, width, channels) float32: what a convolution made
//   z   (x - mean[c]) slope[c] + shift[c], three roundings, the same wherever it stands: the way
//       back masks what the way there did
//   y   z, but 0 if z < 0 (NaN stays NaN)
//
// Every result is a fixed number of roundings of each number: exactly that of
// pyattr.reference.normalisation.
#pragma once

#include <cstddef>

#include "ranges.hpp"
#include "simd.hpp"

namespace pyattr {

// One place a channel: the affine map of a normalisation.
struct Normalisation {
  const float *mean, *slope, *shift;
};

struct Pixels {
  std::size_t n, height, width, channels;
  std::size_t rows() const { return n * height * width; }
  std::size_t size() const { return rows() * channels; }
};

constexpr std::size_t kPixelBlock = 64;  // pixels that stay in the nearest cache

// Channels in pieces of 16, 8 and 1: call(Lanes, first channel) for each.
template <int Width>
struct Lanes {
  static constexpr int width = Width;
};

template <int Widest = 16, typename Call>
PYATTR_INLINE void for_pieces(std::size_t channels, Call&& call) {
  std::size_t c = 0;
  for (; Widest == 16 && c + 16 <= channels; c += 16) call(Lanes<16>{}, c);
  for (; c + 8 <= channels; c += 8) call(Lanes<8>{}, c);
  for (; c < channels; ++c) call(Lanes<1>{}, c);
}

PYATTR_INLINE float normalised(float x, float mean, float slope, float shift) {
  return (x - mean) * slope + shift;
}

PYATTR_INLINE float rectified(float z) { return z < 0.0f ? 0.0f : z; }

// What passes the rectifier of a gradient that came to y.
PYATTR_INLINE float masked(float gradient, float z) { return z > 0.0f ? gradient : 0.0f; }

template <bool WithBypass>
PYATTR_INLINE void rectify_rows(const float* x, std::size_t rows, std::size_t channels,
                                Normalisation by, const float* bypass, float* out) {
  for (std::size_t first = 0; first < rows; first += kPixelBlock) {
    const std::size_t end = least(rows, first + kPixelBlock);
    for_pieces(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
      constexpr int kWidth = decltype(lanes)::width;
      float mean[kWidth], slope[kWidth], shift[kWidth];
      for (int k = 0; k < kWidth; ++k)
        mean[k] = by.mean[c + k], slope[k] = by.slope[c + k], shift[k] = by.shift[c + k];
      float y[kWidth];  // all is read before anything is written: out may be x
      for (std::size_t row = first; row < end; ++row) {
        const std::size_t at = row * channels + c;
        for (int k = 0; k < kWidth; ++k) {
          y[k] = rectified(normalised(x[at + k], mean[k], slope[k], shift[k]));
          if (WithBypass) y[k] += bypass[at + k];
        }
        for (int k = 0; k < kWidth; ++k) out[at + k] = y[k];
      }
    });
  }
}

// out = y, + bypass unless it is null. out may be x.
PYATTR_CLONES
static void rectify(const float* x, std::size_t rows, std::size_t channels, Normalisation by,
                    const float* bypass, float* out) {
  if (bypass == nullptr)
    rectify_rows<false>(x, rows, channels, by, bypass, out);
  else
    rectify_rows<true>(x, rows, channels, by, bypass, out);
}

// The four corners of window (y, x) of image i, the first channel of each.
struct Window {
  std::size_t corner[4];
};

PYATTR_INLINE Window window_of(const Pixels& of, std::size_t i, std::size_t y, std::size_t x) {
  const std::size_t row = of.width * of.channels;
  const std::size_t at = (i * of.height + 2 * y) * row + 2 * x * of.channels;
  return {{at, at + of.channels, at + row, at + row + of.channels}};
}

// out (n, height / 2, width / 2, channels) = maxima of y over 2 x 2 pixels; an odd last row or
// column is left out. NaN if one of the four is.
PYATTR_CLONES
static void rectify_halved(const float* x, Pixels shape, Normalisation by, float* out) {
  const std::size_t height = shape.height / 2, width = shape.width / 2, channels = shape.channels;
  for (std::size_t i = 0; i < shape.n; ++i)
    for (std::size_t row = 0; row < height; ++row)
      for (std::size_t column = 0; column < width; ++column) {
        const Window at = window_of(shape, i, row, column);
        for_pieces(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
          constexpr int kWidth = decltype(lanes)::width;
          const float *mean = by.mean + c, *slope = by.slope + c, *shift = by.shift + c;
          float most[kWidth] = {};
          for (int corner = 0; corner < 4; ++corner) {
            const float* from = x + at.corner[corner] + c;
            for (int k = 0; k < kWidth; ++k) {
              const float z = normalised(from[k], mean[k], slope[k], shift[k]);
              most[k] = ((z > most[k]) | (z != z)) ? z : most[k];
            }
          }
          for (int k = 0; k < kWidth; ++k) out[c + k] = most[k];
        });
        out += channels;
      }
}

// z of one corner, and the largest so far, NaN if one was.
template <int Width>
PYATTR_INLINE void take_corner(const float* x, Normalisation by, std::size_t c, float* z,
                               float* most) {
  const float *mean = by.mean + c, *slope = by.slope + c, *shift = by.shift + c;
  for (int k = 0; k < Width; ++k) {
    z[k] = normalised(x[k], mean[k], slope[k], shift[k]);
    most[k] = ((z[k] > most[k]) | (z[k] != z[k])) ? z[k] : most[k];
  }
}

// Gives a corner what is left of the gradient if it is the largest.
template <int Width>
PYATTR_INLINE void give_corner(const float* z, const float* most, float* left, float* out) {
  float passed[Width];
  for (int k = 0; k < Width; ++k) {
    passed[k] = z[k] == most[k] ? left[k] : 0.0f;
    left[k] = z[k] == most[k] ? 0.0f : left[k];
  }
  for (int k = 0; k < Width; ++k) out[k] = passed[k];
}

// The way back of rectify_halved's maxima: out (n, height, width, channels) is the gradient of its
// window at the first corner where z is largest and above 0, else 0 (and where one of the four is
// NaN).
PYATTR_CLONES
static void scatter_halved(const float* x, Pixels shape, Normalisation by, const float* gradient,
                           float* out) {
  const std::size_t height = shape.height / 2, width = shape.width / 2, channels = shape.channels;
  if (shape.height % 2 == 1 || shape.width % 2 == 1)
    for (std::size_t k = 0; k < shape.size(); ++k) out[k] = 0.0f;
  for (std::size_t i = 0; i < shape.n; ++i)
    for (std::size_t row = 0; row < height; ++row)
      for (std::size_t column = 0; column < width; ++column) {
        const Window at = window_of(shape, i, row, column);
        for_pieces<8>(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
          constexpr int kWidth = decltype(lanes)::width;
          float z0[kWidth], z1[kWidth], z2[kWidth], z3[kWidth], most[kWidth] = {}, left[kWidth];
          take_corner<kWidth>(x + at.corner[0] + c, by, c, z0, most);
          take_corner<kWidth>(x + at.corner[1] + c, by, c, z1, most);
          take_corner<kWidth>(x + at.corner[2] + c, by, c, z2, most);
          take_corner<kWidth>(x + at.corner[3] + c, by, c, z3, most);
          for (int k = 0; k < kWidth; ++k) left[k] = masked(gradient[c + k], most[k]);
          give_corner<kWidth>(z0, most, left, out + at.corner[0] + c);
          give_corner<kWidth>(z1, most, left, out + at.corner[1] + c);
          give_corner<kWidth>(z2, most, left, out + at.corner[2] + c);
          give_corner<kWidth>(z3, most, left, out + at.corner[3] + c);
        });
        gradient += channels;
      }
}

// out = g slope + (x - mean) tilt + lift, g the masked gradient. out may be x.
PYATTR_CLONES
static void gradient_through(const float* x, std::size_t rows, std::size_t channels,
                             Normalisation by, const float* gradient, const float* tilt,
                             const float* lift, float* out) {
  for (std::size_t first = 0; first < rows; first += kPixelBlock) {
    const std::size_t end = least(rows, first + kPixelBlock);
    for_pieces(channels, [&](auto lanes, std::size_t c) PYATTR_LAMBDA {
      constexpr int kWidth = decltype(lanes)::width;
      float mean[kWidth], slope[kWidth], shift[kWidth], turned[kWidth], lifted[kWidth];
      for (int k = 0; k < kWidth; ++k) {
        mean[k] = by.mean[c + k], slope[k] = by.slope[c + k], shift[k] = by.shift[c + k];
        turned[k] = tilt[c + k], lifted[k] = lift[c + k];
      }
      float passed[kWidth];
      for (std::size_t row = first; row < end; ++row) {
        const std::size_t at = row * channels + c;
        for (int k = 0; k < kWidth; ++k) {
          const float centred = x[at + k] - mean[k];
          const float came = masked(gradient[at + k], centred * slope[k] + shift[k]);
          passed[k] = (came * slope[k] + centred * turned[k]) + lifted[k];
        }
        for (int k = 0; k < kWidth; ++k) out[at + k] = passed[k];
      }
    });
  }
}

}  // namespace pyattr

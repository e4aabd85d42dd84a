// exp and log, and floats of 16 bits, by operations that round alike on every machine: no libm,
// whose exp and log differ between processors. Errors are stated at each.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.hpp"

namespace pyattr {

// The functions below act on one lane and have no branches, so that loops over lanes become SIMD.

template <typename To, typename From>
PYATTR_HD To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

// IEEE half and bfloat16 bits as float32, exact.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

PYATTR_HD float to_float(float value) { return value; }

PYATTR_HD float to_float(BFloat16 value) {
  return bits_as<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

PYATTR_HD float to_float(Float16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7FFFu) << 13;
  const std::uint32_t normal = magnitude + 0x38000000u;  // exponent bias 127 instead of 15
  // Below 2^-14 the mantissa counts units of 2^-24: put 2^-14 before it and take it away again.
  const std::uint32_t small =
      bits_as<std::uint32_t>(bits_as<float>(magnitude + 0x38800000u) - 6.103515625e-05f);
  const std::uint32_t large = magnitude | 0x7F800000u;  // infinity or NaN
  const std::uint32_t finite = magnitude < 0x00800000u ? small : normal;
  return bits_as<float>(sign | (magnitude < 0x0F800000u ? finite : large));
}

// exp(x) for x <= 0 (or -inf): x = n log 2 + r, minimax polynomial of degree 5 in r, times 2^n.
PYATTR_HD float exp_f32(float x) {
  constexpr float kToBits = 12582912.0f + 127.0f;  // the low mantissa bits hold n + 127
  const float shifted = x * 1.44269504f + kToBits;
  const float n = shifted - kToBits;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // n * 0.693359375 is exact
  float poly = r * 8.2902722e-3f + 4.1898161e-2f;
  poly = poly * r + 1.6667639e-1f;
  poly = poly * r + 4.9999148e-1f;
  poly = poly * r + 9.9999970e-1f;
  poly = poly * r + 1.0f;
  const float scale = bits_as<float>(bits_as<std::uint32_t>(shifted) << 23);
  return x < -87.0f ? 0.0f : poly * scale;
}

// exp(x) for x <= 0 (or -inf) to 1e-11 relative; 0 below exp(-700).
PYATTR_HD double exp_f64(double x) {
  const double shifted = x * 1.4426950408889634 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const double r = (x - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
  double poly = r * (1.0 / 362880) + 1.0 / 40320;
  poly = poly * r + 1.0 / 5040;
  poly = poly * r + 1.0 / 720;
  poly = poly * r + 1.0 / 120;
  poly = poly * r + 1.0 / 24;
  poly = poly * r + 1.0 / 6;
  poly = poly * r + 0.5;
  poly = (poly * (r * r) + r) + 1.0;
  const double scale =
      bits_as<double>((bits_as<std::uint64_t>(shifted) << 52) + 0x3FF0000000000000u);
  return x < -700.0 ? 0.0 : poly * scale;
}

// log(x) for normal x >= 1, to 1e-9: x = 2^n m, sqrt(1/2) <= m < sqrt(2), log m = 2 artanh(s),
// s = (m - 1) / (m + 1). Of NaN some finite number.
PYATTR_HD double log_f64(double x) {
  const std::uint64_t bits = bits_as<std::uint64_t>(x);
  const std::uint64_t n_bits = (bits - 0x3FE6A09E667F3BCDu) >> 52;  // sqrt(1/2) has n = 0
  const double n = bits_as<double>(n_bits | 0x4330000000000000u) - 4503599627370496.0;
  const double m = bits_as<double>(bits - (n_bits << 52));
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double poly = s2 * (1.0 / 9) + 1.0 / 7;
  poly = poly * s2 + 1.0 / 5;
  poly = poly * s2 + 1.0 / 3;
  return n * 0.6931471805599453 + 2.0 * (s + s * s2 * poly);
}

// log(1 + x) for 0 <= x <= 1 with small relative error (Kahan's correction of 1 + x).
PYATTR_HD double log1p_f64(double x) {
  const double u = 1.0 + x;
  return log_f64(u) - ((u - 1.0) - x) / u;
}

}  // namespace pyattr

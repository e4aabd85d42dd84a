// exp and log with fused multiply-add, for one float or a vector of them: the same bits for both,
// on every machine.
#pragma once

#include <cstdint>
#include <cstring>

#include "elementary.hpp"
#include "simd.hpp"

#if defined(__SSE2__) && !defined(__CUDACC__)
#include <emmintrin.h>
#endif

namespace pyattr {

// a * b + c, rounded once; on a processor without such an instruction libm does it in software.
PYATTR_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

// x, or 87 where it is more, for x >= 0; by its bits, as the units that compare floats have enough
// to do, and written so that gcc sees a minimum.
PYATTR_HD float at_most_87(float x) {
  const std::int32_t bits = bits_as<std::int32_t>(x), most = 0x42AE0000;
  return bits_as<float>(bits > most ? most : bits);
}

// x 2^n for the low bits of a float that hold n.
PYATTR_HD float scaled(float x, float low_bits) {
  return bits_as<float>(bits_as<std::uint32_t>(x) + (bits_as<std::uint32_t>(low_bits) << 23));
}

// x as 2^n m with sqrt(1/2) <= m < sqrt(2), for x > 0; of NaN and infinity some such numbers.
PYATTR_HD void split(float x, float* n, float* m) {
  const std::int32_t bits = bits_as<std::int32_t>(x);
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;  // sqrt(1/2) has n = 0
  *n = static_cast<float>(exponent);
  *m = bits_as<float>(bits - exponent * (1 << 23));
}

#if !defined(__CUDACC__)

typedef float Floats4 __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef double Doubles2 __attribute__((vector_size(16)));
typedef std::uint64_t Longs2 __attribute__((vector_size(16)));
typedef std::int32_t Ints4 __attribute__((vector_size(16)));
typedef std::int32_t Ints8 __attribute__((vector_size(32)));

#if defined(__SSE2__) && !defined(__FMA__)

// a * b + c for floats in doubles, as the baseline of x86-64 has no such instruction. The product
// is exact; the sum is rounded to odd (Boldo, Melquiond 2008: where it is inexact its last bit is
// made 1), so that it rounds to float as the exact one does. Sums are finite.
PYATTR_INLINE Doubles2 multiply_add_to_odd(Doubles2 a, Doubles2 b, Doubles2 c) {
  const Doubles2 product = a * b, sum = product + c, part = sum - product;
  const Doubles2 lost = (product - (sum - part)) + (c - part);  // exact
  const Longs2 bits = reinterpret_cast<Longs2>(sum), rest = reinterpret_cast<Longs2>(lost);
  const Longs2 size = rest << 1, inexact = ~bits & ((size | -size) >> 63);  // 0 or 1
  const Longs2 towards_zero = inexact & ((bits ^ rest) >> 63);
  return reinterpret_cast<Doubles2>(bits + inexact - (towards_zero << 1));
}
PYATTR_INLINE Floats4 multiply_add(Floats4 a, Floats4 b, Floats4 c) {
  const Doubles2 low = multiply_add_to_odd(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
  const Doubles2 high =
      multiply_add_to_odd(_mm_cvtps_pd(_mm_movehl_ps(a, a)), _mm_cvtps_pd(_mm_movehl_ps(b, b)),
                          _mm_cvtps_pd(_mm_movehl_ps(c, c)));
  return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

#endif

// The same of vectors: V is one of the above, and Ints what its comparisons give.

// A loop over lanes that gcc turns into one instruction; only clones for AVX2 run those of eight
// and more.
template <typename V>
PYATTR_INLINE V multiply_add(V a, V b, V c) {
  V result;
  for (std::size_t k = 0; k < sizeof(V) / sizeof(float); ++k)
    result[k] = __builtin_fmaf(a[k], b[k], c[k]);
  return result;
}
template <typename V>
PYATTR_INLINE V larger(V a, V b) {
  return a > b ? a : b;
}
template <typename V, typename Ints = decltype(V{} < V{})>
PYATTR_INLINE Ints unordered(V a, V b) {  // -1 where one is NaN
  Ints result;
  for (std::size_t k = 0; k < sizeof(V) / sizeof(float); ++k)
    result[k] = __builtin_isunordered(a[k], b[k]) ? -1 : 0;
  return result;
}
template <typename V, typename Ints = decltype(V{} < V{})>
PYATTR_INLINE V at_most_87(V x) {
  const Ints bits = reinterpret_cast<Ints>(x), most = Ints{} + 0x42AE0000;
  return reinterpret_cast<V>(bits > most ? most : bits);
}
template <typename V, typename Ints = decltype(V{} < V{})>
PYATTR_INLINE V scaled(V x, V low_bits) {
  return reinterpret_cast<V>(reinterpret_cast<Ints>(x) + (reinterpret_cast<Ints>(low_bits) << 23));
}
template <typename V, typename Ints = decltype(V{} < V{})>
PYATTR_INLINE void split(V x, V* n, V* m) {
  const Ints bits = reinterpret_cast<Ints>(x), exponent = (bits - 0x3F3504F3) >> 23;
  *n = __builtin_convertvector(exponent, V);
  *m = reinterpret_cast<V>(bits - (exponent << 23));
}
template <typename V>
PYATTR_INLINE V load(const float* from) {
  V values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
template <typename V>
PYATTR_INLINE void store(V values, float* to) {
  std::memcpy(to, &values, sizeof values);
}

#endif  // !__CUDACC__

// exp(-x) for x >= 0, of a float or a vector with the functions above. -x log2 e = n + f, n whole;
// the polynomial of degree 5 in f, minimax with 2^0 = 1 exact, is off by 1.6 u of the result, its
// rounding by 1.4 u and that of f by (0.2 + 0.23 x) u, where u = 2^-24. Above 87 it is exp(-87) =
// 1.6e-38; of NaN it is something.
template <typename T>
PYATTR_HD T exp_of_minus(T x) {
  constexpr float kToBits = 12582912.0f;  // the low mantissa bits hold n
  const T bounded = at_most_87(x), per_bit = T{} - 1.44269504f;
  const T shifted = multiply_add(bounded, per_bit, T{} + kToBits);
  const T f = multiply_add(bounded, per_bit, kToBits - shifted);
  T poly = multiply_add(f, T{} + 1.3264709e-3f, T{} + 9.6715120e-3f);
  poly = multiply_add(poly, f, T{} + 5.5507338e-2f);
  poly = multiply_add(poly, f, T{} + 2.4022242e-1f);
  poly = multiply_add(poly, f, T{} + 6.9314698e-1f);
  poly = multiply_add(poly, f, T{} + 1.0f);
  return scaled(poly, shifted);
}

// log(x) for 1 <= x, to (1.2 + 1.05 log x) u: n log 2 + log m, where m = 1 + f. The polynomial of
// degree 8 in f, minimax with log 1 = 0 exact, is off by 0.7 u and its rounding by 0.5 u; that of
// log 2 is 0.05 u log x, and the sum is rounded once. Of NaN and infinity it is some finite number.
template <typename T>
PYATTR_HD T log_from_one(T x) {
  T n, m;
  split(x, &n, &m);
  const T f = m - 1.0f;  // exact
  T poly = multiply_add(f, T{} - 1.0034620e-1f, T{} + 1.6335640e-1f);
  poly = multiply_add(poly, f, T{} - 1.7325993e-1f);
  poly = multiply_add(poly, f, T{} + 1.9888277e-1f);
  poly = multiply_add(poly, f, T{} - 2.4961466e-1f);
  poly = multiply_add(poly, f, T{} + 3.3335263e-1f);
  poly = multiply_add(poly, f, T{} - 5.0000584e-1f);
  return multiply_add(n, T{} + 6.9314718e-1f, multiply_add(poly, f * f, f));
}

}  // namespace pyattr

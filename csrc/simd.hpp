// Run-time dispatch and the one promise that goes with it.
//
// PYATTR_CLONES marks a hot function: gcc on x86-64 compiles it once per instruction-set level
// (AVX-512, AVX2, baseline) and the loader picks one; elsewhere it means nothing. All helpers
// called from a clone are PYATTR_INLINE, so that they are compiled at the clone's level too.
//
// Every level gives the same bits: integers are exact, and floating point runs in a fixed order of
// individually rounded operations on lanes that never mix. Hence -ffp-contract=off (no fused
// multiply-add), no -ffast-math, and no libm, whose exp and log differ between processors.
// (-fno-trapping-math, which lets gcc turn selects into blends, changes no value.)
// PYATTR_NO_CLONES compiles the baseline alone; tests/test_kernels.py compares its bits.
// PYATTR_AVX2 leaves AVX-512 out: bench/bench_kernels.py --avx2 measures that level on a processor
// that has more.
#pragma once

#if defined(__CUDACC__)
#define PYATTR_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define PYATTR_HD inline __attribute__((always_inline))
#else
#define PYATTR_HD inline
#endif

#if defined(__GNUC__) && !defined(__CUDACC__)
#define PYATTR_INLINE inline __attribute__((always_inline))
#else
#define PYATTR_INLINE inline
#endif

// A lambda in a clone: written between its parameters and its body.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define PYATTR_LAMBDA __attribute__((always_inline))
#else
#define PYATTR_LAMBDA
#endif

#if defined(PYATTR_NO_CLONES)
#define PYATTR_CLONES
#elif !defined(__x86_64__) || !defined(__GNUC__) || defined(__clang__) || defined(__CUDACC__)
#define PYATTR_CLONES
#elif defined(PYATTR_AVX2)
#define PYATTR_LEVELS 2
#define PYATTR_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define PYATTR_LEVELS 3
#define PYATTR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif

// A function for one level alone, which is only called where instruction_level() is as high: where
// the levels differ in more than how wide gcc makes a loop. Named by what it adds, as gcc inlines
// nothing that was compiled for more (-march=native) into a function for arch=...
#if defined(PYATTR_LEVELS)
#define PYATTR_LEVEL_3 __attribute__((target("avx2,bmi,bmi2,f16c,fma,lzcnt,movbe")))
#define PYATTR_LEVEL_4                                                                \
  __attribute__((                                                                     \
      target("avx2,bmi,bmi2,f16c,fma,lzcnt,movbe,avx512f,avx512bw,avx512cd,avx512dq," \
             "avx512vl")))
#else
#define PYATTR_LEVEL_3
#define PYATTR_LEVEL_4
#endif

#if !defined(__CUDACC__)

namespace pyattr {

// The level whose clones the loader picks here: 4 (AVX-512), 3 (AVX2) or 1 (baseline).
inline int instruction_level() {
#if defined(PYATTR_LEVELS) && PYATTR_LEVELS >= 3
  if (__builtin_cpu_supports("x86-64-v4")) return 4;
#endif
#if defined(PYATTR_LEVELS)
  if (__builtin_cpu_supports("x86-64-v3")) return 3;
#endif
  return 1;
}

// Numbers of 4 bytes in the widest register of that level.
inline int register_width() {
  const int level = instruction_level();
  return level == 4 ? 16 : level == 3 ? 8 : 4;
}

}  // namespace pyattr

#endif  // !__CUDACC__

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed masks are read as little-endian words"
#endif

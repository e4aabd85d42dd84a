// Which lane of a warp holds what of a tensor-core product, and how bits become its operands.
//
// mma.m16n8k32 (s8, s8 -> s32): C (16, 8) += A (16, 32) @ B (32, 8), by 32 lanes. Lane l is in
// group l / 4 with place l % 4. Byte i % 4 of its register i / 4 holds the entries below (PTX ISA,
// "Matrix fragments for mma.m16n8k32"). The device's instruction has these maps in hardware; on the
// host they are what a product is emulated from (emulated_block.hpp), so that a wrong use of them
// shows.
//
// A sum over k does not depend on the order of k. The 32 values of k are the 32 bits of one word of
// turned masks, in the order that costs two instructions for four bytes: byte i of slot s holds bit
// s + 8 i (bytes_of_slot), and k = 4 s + i. Both operands use the same order.
//
// Nor does it matter which 8 of a tile's 64 examples make a group of rows: example 32 (r / 4) + 4 g
// + r % 4 is entry g of row group r, so that a lane reads the words of four row groups at once.
#pragma once

#include <cstdint>

#include "simd.hpp"

namespace pyattr {
namespace cuda {

constexpr int kWarp = 32;
constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaDepth = 32;

struct MmaA {
  std::uint32_t word[4];
};
struct MmaB {
  std::uint32_t word[2];
};
struct MmaC {
  std::int32_t sum[4];
};

// One product of a lane, with the other lanes of its warp: sums += a @ b.
struct Mma {
  MmaC* sums;
  const MmaA* a;
  const MmaB* b;
};

struct Entry {
  int row, column;
};

// Entry of A that byte i (0 .. 15) of a lane is; its column is k.
PYATTR_HD Entry entry_of_a(int lane, int i) {
  return {lane / 4 + (i / 4 % 2) * 8, lane % 4 * 4 + i % 4 + i / 8 * 16};
}

// Entry of B that byte i (0 .. 7) of a lane is; its row is k.
PYATTR_HD Entry entry_of_b(int lane, int i) {
  return {lane % 4 * 4 + i % 4 + i / 4 * 16, lane / 4};
}

// Entry of C that sum i (0 .. 3) of a lane is.
PYATTR_HD Entry entry_of_c(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

// Bits s, s + 8, s + 16 and s + 24 of a word as four bytes of 0 or 1: slot s of 8.
PYATTR_HD std::uint32_t bytes_of_slot(std::uint32_t word, int slot) {
  return word >> slot & 0x01010101u;
}

// The row of 32 masks that byte i of slot s stands for.
PYATTR_HD int mask_of_slot(int slot, int i) { return slot + 8 * i; }

// The example, of a tile of 64, that is entry g (0 .. 7) of row group r (0 .. 7).
PYATTR_HD int example_of(int row_group, int g) {
  return row_group / 4 * 32 + g * 4 + row_group % 4;
}

// Two row groups of examples as A (16 examples, 32 masks): `low` has entries g, `high` entries g
// + 8.
PYATTR_HD MmaA operand_a(std::uint32_t low, std::uint32_t high, int lane) {
  const int place = lane % 4;
  return {{bytes_of_slot(low, place), bytes_of_slot(high, place), bytes_of_slot(low, place + 4),
           bytes_of_slot(high, place + 4)}};
}

// One row group of examples as B (32 masks, 8 examples).
PYATTR_HD MmaB operand_b(std::uint32_t word, int lane) {
  const int place = lane % 4;
  return {{bytes_of_slot(word, place), bytes_of_slot(word, place + 4)}};
}

// -- whole numbers below 2^23 in magnitude as three signed bytes: q = d0 + 256 d1 + 65536 d2

constexpr int kSlices = 3;

PYATTR_HD std::int32_t slice_of(std::int32_t value, int slice) {
  for (int s = 0; s < slice; ++s) value = (value - static_cast<std::int8_t>(value & 255)) >> 8;
  return static_cast<std::int8_t>(value & 255);
}

PYATTR_HD std::int64_t join_slices(std::int32_t s0, std::int32_t s1, std::int32_t s2) {
  return s0 + static_cast<std::int64_t>(s1) * 256 + static_cast<std::int64_t>(s2) * 65536;
}

}  // namespace cuda
}  // namespace pyattr

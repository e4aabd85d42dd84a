// The maps of mma_fragments.hpp: anchors from the PTX ISA, one owner for each entry, and operands
// made from bits whose emulated product is the count. Returns the number of the check that failed.
#include <cstdio>
#include <set>
#include <utility>

#include "fixed_point.hpp"
#include "thread_block.cuh"

using namespace pyattr::cuda;

namespace {

bool same(Entry entry, int row, int column) { return entry.row == row && entry.column == column; }

// "row = groupID for 0 <= i < 4 and 8 <= i < 12, else groupID + 8; col = threadID_in_group * 4 +
// (i & 3), + 16 for i >= 8", and so on for B and C, at lanes 6 (group 1, place 2) and 31 (7, 3).
bool anchors() {
  return same(entry_of_a(6, 0), 1, 8) && same(entry_of_a(6, 3), 1, 11) &&
         same(entry_of_a(6, 4), 9, 8) && same(entry_of_a(6, 9), 1, 25) &&
         same(entry_of_a(6, 14), 9, 26) && same(entry_of_a(31, 15), 15, 31) &&
         same(entry_of_b(6, 0), 8, 1) && same(entry_of_b(6, 3), 11, 1) &&
         same(entry_of_b(6, 4), 24, 1) && same(entry_of_b(31, 7), 31, 7) &&
         same(entry_of_c(6, 0), 1, 4) && same(entry_of_c(6, 1), 1, 5) &&
         same(entry_of_c(6, 2), 9, 4) && same(entry_of_c(31, 3), 15, 7);
}

template <typename Map>
bool one_owner_each(Map map, int n, int rows, int columns) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < kWarp; ++lane)
    for (int i = 0; i < n; ++i) {
      const Entry at = map(lane, i);
      if (at.row < 0 || at.row >= rows || at.column < 0 || at.column >= columns) return false;
      seen.insert({at.row, at.column});
    }
  return static_cast<int>(seen.size()) == rows * columns && n * kWarp == rows * columns;
}

bool slots_hold_every_bit_once() {
  std::set<int> bits, examples;
  for (int slot = 0; slot < 8; ++slot)
    for (int i = 0; i < 4; ++i) {
      const int bit = mask_of_slot(slot, i);
      bits.insert(bit);
      for (int b = 0; b < 32; ++b)
        if ((bytes_of_slot(1u << b, slot) >> (8 * i) & 255u) != (b == bit ? 1u : 0u)) return false;
    }
  for (int r = 0; r < 8; ++r)
    for (int g = 0; g < 8; ++g) examples.insert(example_of(r, g));
  return bits.size() == 32 && *bits.rbegin() == 31 && examples.size() == 64 &&
         *examples.rbegin() == 63;
}

// Words x of 16 examples and y of 8: the product must count the bits that both have.
bool products_count_bits() {
  std::uint32_t x[16], y[8], state = 1;
  for (auto* words : {x, x + 8, y})
    for (int k = 0; k < 8; ++k) words[k] = state = state * 1664525u + 1013904223u;
  MmaA a[kWarp];
  MmaB b[kWarp];
  MmaC c[kWarp];
  std::vector<Mma> lanes;
  for (int lane = 0; lane < kWarp; ++lane) {
    a[lane] = operand_a(x[lane / 4], x[8 + lane / 4], lane);
    b[lane] = operand_b(y[lane / 4], lane);
    c[lane] = MmaC{{5, 5, 5, 5}};
    lanes.push_back(Mma{&c[lane], &a[lane], &b[lane]});
  }
  emulate_mma(lanes);
  for (int lane = 0; lane < kWarp; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Entry at = entry_of_c(lane, i);
      if (c[lane].sum[i] != 5 + __builtin_popcount(x[at.row] & y[at.column])) return false;
    }
  return true;
}

bool slices_join_to_the_value() {
  constexpr std::int32_t limit = pyattr::kFixedPointLimit;
  for (std::int32_t value = -limit; value <= limit; value += value % 7 == 0 ? 1 : 97) {
    const std::int32_t s0 = slice_of(value, 0), s1 = slice_of(value, 1), s2 = slice_of(value, 2);
    for (std::int32_t s : {s0, s1, s2})
      if (s < -128 || s > 127) return false;
    if (join_slices(s0, s1, s2) != value) return false;
  }
  return join_slices(-128, 127, 33) == -128 + 127 * 256 + 33 * 65536;
}

}  // namespace

int main() {
  if (!anchors()) return 1;
  if (!one_owner_each(entry_of_a, 16, 16, 32)) return 2;
  if (!one_owner_each(entry_of_b, 8, 32, 8)) return 3;
  if (!one_owner_each(entry_of_c, 4, 16, 8)) return 4;
  if (!slots_hold_every_bit_once()) return 5;
  if (!products_count_bits()) return 6;
  if (!slices_join_to_the_value()) return 7;
  return 0;
}

// The emulated block of threads finds what it is for: a missing sync(), a missing wait() and
// threads that do not agree. Returns the number of the check that failed.
#include <algorithm>
#include <vector>

#include "thread_block.cuh"

using namespace pyattr::cuda;

namespace {

enum class Fault { kNone, kNoSync, kNoWait, kApart };

// out = in backwards, through shared memory.
struct ReverseBlock {
  static constexpr int kThreads = 64, kBlocksPerProcessor = 1;
  struct Shared {
    std::int32_t value[kThreads];
  };
  Fault fault;
  const std::int32_t* in;
  std::int32_t* out;

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t at = index * kThreads;
    block.copy1(&shared.value[block.thread], in + at + block.thread);
    block.end_group();
    if (fault != Fault::kNoWait) block.wait<0>();
    if (fault == Fault::kApart && block.thread >= 32) return;
    if (fault != Fault::kNoSync) block.sync();
    out[at + block.thread] = shared.value[kThreads - 1 - block.thread];
  }
};

bool reverses(Fault fault) {
  constexpr std::size_t kBlocks = 3, kSize = kBlocks * ReverseBlock::kThreads;
  std::vector<std::int32_t> in(kSize), out(kSize, -1);
  for (std::size_t k = 0; k < kSize; ++k) in[k] = static_cast<std::int32_t>(k);
  launch_blocks(kBlocks, ReverseBlock{fault, in.data(), out.data()});
  for (std::size_t b = 0; b < kBlocks; ++b)
    std::reverse(in.begin() + b * ReverseBlock::kThreads,
                 in.begin() + (b + 1) * ReverseBlock::kThreads);
  return in == out;
}

bool throws(Fault fault) {
  try {
    reverses(fault);
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

}  // namespace

int main() {
  if (!reverses(Fault::kNone)) return 1;
  if (reverses(Fault::kNoSync)) return 2;
  if (reverses(Fault::kNoWait)) return 3;
  if (!throws(Fault::kApart)) return 4;
  return 0;
}

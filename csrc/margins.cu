// Launches of margins.hpp.
#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "device_kernels.hpp"
#include "elements.hpp"
#include "thread_block.cuh"

namespace pyattr {
namespace cuda {
namespace {

// Margins of 128 rows: logits are read in the order of memory, each once, into shared memory.
template <typename Logit>
struct MarginBlock {
  static constexpr int kThreads = 128, kBlocksPerProcessor = 4;
  static constexpr std::size_t kBytes = 40 << 10;
  struct Shared {
    alignas(16) unsigned char logits[kBytes];
  };

  MarginElement<Logit> element;
  std::size_t n_rows;

  static bool fits(std::size_t n_classes) { return n_classes * kThreads * sizeof(Logit) <= kBytes; }

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared& shared,
                                std::size_t index) const {
    const std::size_t first = index * kThreads, n_classes = element.n_classes;
    const std::size_t size = least(kThreads, n_rows - first) * n_classes;
    Logit* const rows = reinterpret_cast<Logit*>(shared.logits);
    for (std::size_t k = block.thread; k < size; k += kThreads)
      rows[k] = element.logits[first * n_classes + k];
    block.sync();
    if (first + block.thread < n_rows)
      element.margin_of(rows + block.thread * n_classes, first + block.thread);
  }
};

template <typename Logit>
void launch_margins(const MarginElement<Logit>& element, std::size_t n_rows) {
  constexpr std::size_t kThreads = MarginBlock<Logit>::kThreads;
  if (MarginBlock<Logit>::fits(element.n_classes))
    launch_blocks((n_rows + kThreads - 1) / kThreads, MarginBlock<Logit>{element, n_rows});
  else
    launch(n_rows, element);
}

}  // namespace

template <typename Logit>
bool margins(const Logit* logits, std::size_t n_classes, const std::int64_t* labels,
             std::size_t n_targets, MarginKind kind, Range rows, float* out) {
  const std::size_t n_rows = rows.end - rows.begin, first = rows.begin % n_targets;
  const std::size_t end = first + n_rows,
                    n_wrapped = end > n_targets ? least(first, end - n_targets) : 0;
  if (!labels_within(labels + first, least(n_targets, end) - first, n_classes) ||
      !labels_within(labels, n_wrapped, n_classes))
    return false;
  const DeviceBuffer<Logit> z(n_rows * n_classes, logits + rows.begin * n_classes);
  const DeviceBuffer<std::int64_t> y(n_targets, labels);
  const DeviceBuffer<float> margin(n_rows);
  launch_margins(
      MarginElement<Logit>{z.get(), y.get(), n_classes, n_targets, rows.begin, kind, margin.get()},
      n_rows);
  margin.copy(out + rows.begin);
  return true;
}

template bool margins(const float*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);
template bool margins(const Float16*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);
template bool margins(const BFloat16*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);

void margins(const float* logits, const std::int64_t* labels, std::size_t n_rows,
             std::size_t n_classes, std::size_t n_targets, int kind, float* out) {
  launch_margins(MarginElement<float>{logits, labels, n_classes, n_targets, 0,
                                      static_cast<MarginKind>(kind), out},
                 n_rows);
}

}  // namespace cuda
}  // namespace pyattr

// Streamed exact sums: copies and launches of exact_sums.hpp.
#include <cstring>
#include <vector>

#include "cuda_check.cuh"
#include "elements.hpp"
#include "exact_product_blocks.cuh"
#include "exact_sums.hpp"
#include "gram_blocks.cuh"

namespace pyattr {
namespace cuda {
namespace {

// Sums of q and q^2 over rows; 32 targets and kRows rows a block. Numbers that are none count as 0.
struct StepSumsBlock {
  static constexpr int kThreads = 256, kBlocksPerProcessor = 1;
  static constexpr std::size_t kRows = 2048, kTargets = 32;
  struct Shared {};

  const std::int32_t* steps;  // (n_rows, n_targets)
  std::size_t n_rows, n_targets;
  std::int64_t *totals, *squares;
  std::int32_t* bad;

  std::size_t size() const {
    return (n_rows + kRows - 1) / kRows * ((n_targets + kTargets - 1) / kTargets);
  }

  PYATTR_DEVICE void operator()(const ThreadBlock<kThreads>& block, Shared&,
                                std::size_t index) const {
    const std::size_t n_tiles = (n_targets + kTargets - 1) / kTargets;
    const std::size_t target = index % n_tiles * kTargets + block.thread % kTargets;
    if (target >= n_targets) return;
    const std::size_t first = index / n_tiles * kRows;
    std::int64_t total = 0, square = 0;
    std::int32_t n_bad = 0;
    for (std::size_t row = first + block.thread / kTargets; row < least(first + kRows, n_rows);
         row += kThreads / kTargets) {
      const std::int32_t q = steps[row * n_targets + target];
      n_bad += q == kNotFixedPoint;
      const std::int64_t value = q == kNotFixedPoint ? 0 : q;
      total += value;
      square += value * value;
    }
    block.add(totals + target, total);
    block.add(squares + target, square);
    if (n_bad) block.add(bad + target, n_bad);
  }
};

// What one chunk of rows needs on its way; `outputs` holds float32 or float64.
struct Slot {
  Slot(std::size_t n_train, std::size_t n_targets, std::size_t rows)
      : host_bits(rows * row_bytes_of(n_train)),
        host_outputs(rows * n_targets),
        bits(rows * row_bytes_of(n_train)),
        outputs(rows * n_targets),
        steps(rows * n_targets),
        turned(gram_tiles(n_train) * gram_blocks(rows) * kGramTile),
        sliced(gram_blocks(rows) * slice_tiles(n_targets) * kSliceTargets * kSliceWords) {}

  PinnedBuffer<std::uint8_t> host_bits;
  PinnedBuffer<double> host_outputs;
  DeviceBuffer<std::uint8_t> bits;
  DeviceBuffer<double> outputs;
  DeviceBuffer<std::int32_t> steps;
  DeviceBuffer<std::uint32_t> turned, sliced;
  OwnStream stream;
};

}  // namespace

struct ExactSums::State {
  State(std::size_t n, std::size_t t, const double* middle, const double* per_step,
        std::size_t rows)
      : n_train(n),
        n_targets(t),
        chunk_rows(rows),
        counts(new DeviceMemory(n * n * sizeof(std::int32_t))),
        cross(new DeviceMemory(n * t * sizeof(std::int64_t))),
        totals(t),
        squares(t),
        centre(t, middle),
        steps(t, per_step),
        bad(t) {
    for (int k = 0; k < 2; ++k) slots.emplace_back(new Slot(n, t, rows));
    wait_for({});  // the buffers are zero before another stream adds to them
  }

  template <typename Float>
  void add(const std::uint8_t* packed, const Float* outputs, std::size_t n_rows) {
    const std::size_t row_bytes = row_bytes_of(n_train), n_blocks = gram_blocks(n_rows);
    Slot& slot = *slots[next];
    next = 1 - next;
    slot.stream.wait();
    const Stream stream = slot.stream.get();
    std::memcpy(slot.host_bits.get(), packed, n_rows * row_bytes);
    std::memcpy(slot.host_outputs.get(), outputs, n_rows * n_targets * sizeof(Float));
    copy_to_device(slot.bits.get(), slot.host_bits.get(), n_rows * row_bytes, stream);
    copy_to_device(slot.outputs.get(), slot.host_outputs.get(), n_rows * n_targets * sizeof(Float),
                   stream);
    launch(n_rows * n_targets,
           FixedPointElement<Float>{reinterpret_cast<const Float*>(slot.outputs.get()),
                                    centre.get(), steps.get(), n_targets, slot.steps.get()},
           stream);
    const StepSumsBlock sums{slot.steps.get(), n_rows,        n_targets,
                             totals.get(),     squares.get(), bad.get()};
    launch_blocks(sums.size(), sums, stream);
    launch(gram_tiles(n_train) * n_blocks * kGramTile,
           TurnElement{reinterpret_cast<const std::uint64_t*>(slot.bits.get()), n_rows,
                       row_bytes / 8, n_blocks, 0, slot.turned.get()},
           stream);
    launch(n_blocks * slice_tiles(n_targets) * kSliceTargets * 8,
           SliceElement{slot.steps.get(), n_rows, n_targets, 0, n_targets, slot.sliced.get()},
           stream);
    launch_gram(slot.turned.get(), n_blocks, n_train, {0, gram_tiles(n_train)},
                static_cast<std::int32_t*>(counts->get()), stream);
    launch_exact_product(slot.turned.get(), slot.sliced.get(), n_blocks, n_train, n_targets,
                         static_cast<std::int64_t*>(cross->get()), n_targets, stream);
  }

  std::size_t n_train, n_targets, chunk_rows, next = 0;
  std::shared_ptr<DeviceMemory> counts, cross;
  DeviceBuffer<std::int64_t> totals, squares;
  DeviceBuffer<double> centre, steps;
  DeviceBuffer<std::int32_t> bad;
  std::vector<std::unique_ptr<Slot>> slots;  // last: they wait for their streams and go first
};

ExactSums::ExactSums(std::size_t n_train, std::size_t n_targets, const double* centre,
                     const double* steps, std::size_t chunk_rows)
    : state_(new State(n_train, n_targets, centre, steps, chunk_rows)) {}
ExactSums::~ExactSums() = default;

template <typename Float>
void ExactSums::add(const std::uint8_t* packed, const Float* outputs, std::size_t n_rows) {
  State& state = *state_;
  for (std::size_t first = 0; first < n_rows; first += state.chunk_rows)
    state.add(packed + first * row_bytes_of(state.n_train), outputs + first * state.n_targets,
              least(state.chunk_rows, n_rows - first));
}

template void ExactSums::add(const std::uint8_t*, const float*, std::size_t);
template void ExactSums::add(const std::uint8_t*, const double*, std::size_t);

std::size_t ExactSums::finish(std::int64_t* totals, std::int64_t* squares) {
  State& state = *state_;
  for (const auto& slot : state.slots) slot->stream.wait();
  state.totals.copy(totals);
  state.squares.copy(squares);
  std::vector<std::int32_t> bad(state.n_targets);
  state.bad.copy(bad.data());
  for (std::size_t t = 0; t < state.n_targets; ++t)
    if (bad[t]) return t;
  return state.n_targets;
}

std::shared_ptr<DeviceMemory> ExactSums::counts() const { return state_->counts; }
std::shared_ptr<DeviceMemory> ExactSums::cross() const { return state_->cross; }

}  // namespace cuda
}  // namespace pyattr

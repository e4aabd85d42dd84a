// Launches of margins.hpp.
#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "elements.hpp"

namespace pyattr {
namespace cuda {

template <typename Logit>
void margins(const Logit* logits, std::size_t n_classes, const std::int64_t* labels,
             std::size_t n_targets, MarginKind kind, Range rows, float* out) {
  const std::size_t n_rows = rows.end - rows.begin;
  const DeviceBuffer<Logit> z(n_rows * n_classes, logits + rows.begin * n_classes);
  const DeviceBuffer<std::int64_t> y(n_targets, labels);
  const DeviceBuffer<float> margin(n_rows);
  launch(n_rows, MarginElement<Logit>{z.get(), y.get(), n_classes, n_targets, rows.begin, kind,
                                      margin.get()});
  margin.copy_rows(out + rows.begin, 1, 1);
}

template void margins(const float*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);
template void margins(const Float16*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);
template void margins(const BFloat16*, std::size_t, const std::int64_t*, std::size_t, MarginKind,
                      Range, float*);

}  // namespace cuda
}  // namespace pyattr

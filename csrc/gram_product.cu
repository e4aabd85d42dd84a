// Products of a few vectors with a Gram matrix on the device, for what asks for its spectrum.
#include <vector>

#include "lane_columns.cuh"

namespace pyattr {
namespace cuda {

void negative_product(const float* gram, const float* rows, std::size_t n, std::size_t n_rows,
                      float* out) {
  const Columns columns({gram, rows, nullptr, n, n_rows}, 0, n_rows);
  const DeviceBuffer<float> products(n * columns.width()), result(n_rows * n);
  columns.subtract_product(gram, columns.cross(), products.get());
  std::vector<std::int32_t> chosen(columns.width(), 0);
  for (std::size_t c = 0; c < n_rows; ++c) chosen[c] = 1;
  columns.store(products.get(), chosen, false, result.get(), n, 0);
  result.copy(out);
}

}  // namespace cuda
}  // namespace pyattr

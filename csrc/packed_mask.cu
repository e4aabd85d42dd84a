// Launches of packed_mask.hpp.
#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "elements.hpp"

namespace pyattr {
namespace cuda {

int device_count_of_runtime() { return device_count(); }

void draw_masks(const std::uint8_t* given, std::uint64_t seed, std::uint32_t stream,
                std::uint32_t first_row, std::size_t n_rows, std::size_t n_train, std::uint64_t one,
                std::uint64_t zero, std::uint8_t* out) {
  const std::size_t row_bytes = row_bytes_of(n_train), n_bytes = n_rows * row_bytes;
  const DeviceBuffer<std::uint8_t> mask(given ? n_bytes : 0, given), drawn(n_bytes);
  launch(n_rows * ((n_train + 127) / 128),
         DrawElement{given ? reinterpret_cast<const std::uint32_t*>(mask.get()) : nullptr, seed,
                     stream, first_row, n_train, Digits(one), Digits(zero),
                     reinterpret_cast<std::uint32_t*>(drawn.get())});
  drawn.copy(out);
}

}  // namespace cuda
}  // namespace pyattr

// Kernels between arrays on the current CUDA device: every pointer is device memory. Definitions
// and bits are those of gram.hpp, packed_matmul.hpp and margins.hpp. Launches return before they
// are done; copies to the host wait for them. A failed CUDA call throws std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyattr {
namespace cuda {

// counts (n_train, n_train) += masks transposed @ masks
void add_gram(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
              std::int32_t* counts);

// sums (n_train, n_targets) += masks transposed @ values, every |value| < 2^21
void add_exact_product(const std::uint8_t* packed, const std::int32_t* values, std::size_t n_masks,
                       std::size_t n_train, std::size_t n_targets, std::int64_t* sums);

// out (n_masks, n_targets) = masks @ weights
void multiply(const std::uint8_t* packed, const float* weights, std::size_t n_masks,
              std::size_t n_train, std::size_t n_targets, float* out);

// out (n_rows,) = margins of logits (n_rows, n_classes) for labels (n_targets,); kind as MarginKind
void margins(const float* logits, const std::int64_t* labels, std::size_t n_rows,
             std::size_t n_classes, std::size_t n_targets, int kind, float* out);

void synchronize();  // wait for all launches

}  // namespace cuda
}  // namespace pyattr

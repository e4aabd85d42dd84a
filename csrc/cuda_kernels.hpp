// The kernels on the current CUDA device, with the signatures of the CPU's: host memory in and out,
// copied there and back. Results have the bits of the CPU's. Compiled from the .cu files; a failed
// CUDA call throws std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gram.hpp"
#include "margins.hpp"
#include "packed_matmul.hpp"

namespace pyattr {
namespace cuda {

int device_count_of_runtime();  // 0 where there is no driver

void draw_masks(const std::uint8_t* given, std::uint64_t seed, std::uint32_t stream,
                std::uint32_t first_row, std::size_t n_rows, std::size_t n_train, std::uint64_t one,
                std::uint64_t zero, std::uint8_t* out);

void packed_matmul(const std::uint8_t* packed, std::size_t n_train, const float* weights,
                   std::size_t n_targets, Range rows, Range targets, float* out);

void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const float* residuals, std::size_t n_targets, Range features,
                              Range targets, float* out);
void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const float* residuals, std::size_t n_targets, Range features,
                              Range targets, double* out);
void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const std::int32_t* residuals, std::size_t n_targets, Range features,
                              Range targets, std::int64_t* out);

void turn_masks(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train, Range tiles,
                std::uint32_t* turned);

inline GramKernel fastest_gram_kernel() { return GramKernel::kHarleySeal; }  // has but one
void gram(const std::uint32_t* turned, std::size_t n_blocks, std::size_t n_train, Range tiles,
          GramKernel, std::int32_t* out);

std::size_t to_fixed_point_many(const float* outputs, const double* centre, const double* steps,
                                std::size_t n_targets, std::size_t begin, std::size_t end,
                                std::int32_t* out);
std::size_t to_fixed_point_many(const double* outputs, const double* centre, const double* steps,
                                std::size_t n_targets, std::size_t begin, std::size_t end,
                                std::int32_t* out);

// Logit: float, Float16 or BFloat16. False if a label of these rows is not in [0, n_classes).
template <typename Logit>
bool margins(const Logit* logits, std::size_t n_classes, const std::int64_t* labels,
             std::size_t n_targets, MarginKind kind, Range rows, float* out);

}  // namespace cuda
}  // namespace pyattr

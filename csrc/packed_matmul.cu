// Launches of packed_matmul.hpp.
#include <vector>

#include "cuda_check.cuh"
#include "cuda_kernels.hpp"
#include "device_kernels.hpp"
#include "elements.hpp"
#include "exact_product_blocks.cuh"
#include "gram_blocks.cuh"
#include "product_blocks.cuh"

namespace pyattr {
namespace cuda {
namespace {

// Host masks of the features in the range, turned: (n_tiles, n_blocks, 64).
DeviceBuffer<std::uint32_t> turned_features(const std::uint8_t* packed, std::size_t n_masks,
                                            std::size_t n_train, Range features) {
  const DeviceBuffer<std::uint8_t> bits(n_masks * row_bytes_of(n_train), packed);
  const std::size_t first = features.begin / kGramTile;
  return turned_masks(bits.get(), n_masks, n_train,
                      {first, first + gram_tiles(features.end - features.begin)});
}

DeviceBuffer<std::uint32_t> sliced_values(const std::int32_t* values, std::size_t n_masks,
                                          std::size_t n_targets, Range targets) {
  const std::size_t n_cols = targets.end - targets.begin;
  DeviceBuffer<std::uint32_t> sliced(gram_blocks(n_masks) * slice_tiles(n_cols) * kSliceTargets *
                                     kSliceWords);
  launch(sliced.size() / kSlices,
         SliceElement{values, n_masks, n_targets, targets.begin, n_cols, sliced.get()});
  return sliced;
}

// out (n_rows, n_cols) = masks @ weights for the targets in the range; device memory.
void launch_product(const std::uint8_t* packed, const float* weights, std::size_t n_rows,
                    std::size_t n_train, std::size_t n_targets, Range targets, float* out) {
  const ProductBlock<PackedWords, float> kernel{
      {reinterpret_cast<const std::uint64_t*>(packed), row_bytes_of(n_train) / 8},
      n_rows,
      weights,
      n_train,
      n_targets,
      targets.begin,
      targets.end - targets.begin,
      out};
  launch_blocks(kernel.size(), kernel);
}

template <typename Out>
void transposed_floats(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                       const float* residuals, std::size_t n_targets, Range features, Range targets,
                       Out* out) {
  const std::size_t n_cols = targets.end - targets.begin;
  const auto turned = turned_features(packed, n_masks, n_train, features);
  const DeviceBuffer<float> values(n_masks * n_targets, residuals);
  const DeviceBuffer<Out> product((features.end - features.begin) * n_cols);
  const ProductBlock<TurnedWords, Out> kernel{{turned.get(), gram_blocks(n_masks)},
                                              features.end - features.begin,
                                              values.get(),
                                              n_masks,
                                              n_targets,
                                              targets.begin,
                                              n_cols,
                                              product.get()};
  launch_blocks(kernel.size(), kernel);
  product.copy_rows(out + features.begin * n_targets + targets.begin, n_cols, n_targets);
}

}  // namespace

void launch_exact_product(const std::uint32_t* turned, const std::uint32_t* sliced,
                          std::size_t n_blocks, std::size_t n_features, std::size_t n_cols,
                          std::int64_t* out, std::size_t stride, Stream stream) {
  if (n_blocks == 0) return;
  ExactProductBlock kernel{turned, sliced, n_blocks, n_features, n_cols, 1, out, stride};
  kernel.n_parts = n_parts_of(n_blocks, ExactProductBlock::kStageBlocks, kernel.size());
  launch_blocks(kernel.size(), kernel, stream);
}

void packed_matmul(const std::uint8_t* packed, std::size_t n_train, const float* weights,
                   std::size_t n_targets, Range rows, Range targets, float* out) {
  const std::size_t row_bytes = row_bytes_of(n_train), n_rows = rows.end - rows.begin;
  const std::size_t n_cols = targets.end - targets.begin;
  const DeviceBuffer<std::uint8_t> bits(n_rows * row_bytes, packed + rows.begin * row_bytes);
  const DeviceBuffer<float> values(n_train * n_targets, weights), product(n_rows * n_cols);
  launch_product(bits.get(), values.get(), n_rows, n_train, n_targets, targets, product.get());
  product.copy_rows(out + rows.begin * n_targets + targets.begin, n_cols, n_targets);
}

void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const float* residuals, std::size_t n_targets, Range features,
                              Range targets, float* out) {
  transposed_floats(packed, n_masks, n_train, residuals, n_targets, features, targets, out);
}

void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const float* residuals, std::size_t n_targets, Range features,
                              Range targets, double* out) {
  transposed_floats(packed, n_masks, n_train, residuals, n_targets, features, targets, out);
}

void packed_matmul_transposed(const std::uint8_t* packed, std::size_t n_masks, std::size_t n_train,
                              const std::int32_t* residuals, std::size_t n_targets, Range features,
                              Range targets, std::int64_t* out) {
  const std::size_t n_cols = targets.end - targets.begin, n_blocks = gram_blocks(n_masks);
  const std::size_t n_features = features.end - features.begin;
  const auto turned = turned_features(packed, n_masks, n_train, features);
  const DeviceBuffer<std::int32_t> values(n_masks * n_targets, residuals);
  const auto sliced = sliced_values(values.get(), n_masks, n_targets, targets);
  const DeviceBuffer<std::int64_t> product(n_features * n_cols);
  launch_exact_product(turned.get(), sliced.get(), n_blocks, n_features, n_cols, product.get(),
                       n_cols);
  std::vector<std::int64_t> sums(n_features * n_cols);
  product.copy(sums.data());
  for (std::size_t i = 0; i < n_features; ++i)
    for (std::size_t t = 0; t < n_cols; ++t)
      out[(features.begin + i) * n_targets + targets.begin + t] += sums[i * n_cols + t];
}

void add_exact_product(const std::uint8_t* packed, const std::int32_t* values, std::size_t n_masks,
                       std::size_t n_train, std::size_t n_targets, std::int64_t* sums) {
  const auto turned = turned_masks(packed, n_masks, n_train, {0, gram_tiles(n_train)});
  const auto sliced = sliced_values(values, n_masks, n_targets, {0, n_targets});
  launch_exact_product(turned.get(), sliced.get(), gram_blocks(n_masks), n_train, n_targets, sums,
                       n_targets);
}

void multiply(const std::uint8_t* packed, const float* weights, std::size_t n_masks,
              std::size_t n_train, std::size_t n_targets, float* out) {
  launch_product(packed, weights, n_masks, n_train, n_targets, {0, n_targets}, out);
}

}  // namespace cuda
}  // namespace pyattr

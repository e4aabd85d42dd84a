// The kernels that pyattr._cpu and pyattr._cuda have in common: shape checks and registration. The
// including file says before whose kernels these are: namespace backend = pyattr or pyattr::cuda.
//
// Arrays are taken as in bind_arrays.hpp. Outputs are written in place into `out`, for the given
// ranges only. The GIL is released while a kernel runs.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bind_arrays.hpp"
#include "fixed_point.hpp"
#include "gram.hpp"
#include "margins.hpp"
#include "packed_mask.hpp"
#include "packed_matmul.hpp"

namespace {

using namespace pyattr::binding;

void check_rows(std::uint64_t first_row, std::size_t n_rows) {
  constexpr std::uint64_t limit = std::uint64_t{1} << 32;
  require(n_rows <= limit && first_row <= limit - n_rows,
          "first_row: expected first_row + n_rows <= 2^32, got more");
}

void check_threshold(std::uint64_t threshold) {
  require(threshold <= std::uint64_t{1} << 32, "threshold: expected at most 2^32, got more");
}

void bind_sample_masks(std::uint64_t seed, std::uint32_t stream, std::uint64_t first_row,
                       std::size_t n_train, std::uint64_t threshold, Array<std::uint8_t>& out,
                       std::size_t begin, std::size_t end) {
  require(out.ndim() == 2, "out: expected shape (n_rows, row_bytes), got another");
  const std::size_t row_bytes = pyattr::row_bytes_of(n_train);
  require_shape(out, "out", {size_of(out, 0), row_bytes});
  check_rows(first_row, size_of(out, 0));
  check_threshold(threshold);
  const auto rows = range_within(begin, end, size_of(out, 0));
  auto* o = out.mutable_data() + rows.begin * row_bytes;
  py::gil_scoped_release release;
  backend::draw_masks(nullptr, seed, stream, static_cast<std::uint32_t>(first_row + rows.begin),
                      rows.end - rows.begin, n_train, threshold, 0, o);
}

void bind_correlate_masks(const Array<std::uint8_t>& packed, std::uint64_t seed,
                          std::uint32_t stream, std::uint64_t first_row, std::size_t n_train,
                          std::uint64_t threshold_one, std::uint64_t threshold_zero,
                          Array<std::uint8_t>& out, std::size_t begin, std::size_t end) {
  require(packed.ndim() == 2, "packed: expected shape (n_masks, row_bytes), got another");
  const std::size_t n_rows = size_of(packed, 0), row_bytes = pyattr::row_bytes_of(n_train);
  require_shape(packed, "packed", {n_rows, row_bytes});
  require_shape(out, "out", {n_rows, row_bytes});
  require(out.data() != packed.data() || out.size() == 0,
          "out: expected another array than packed");
  check_rows(first_row, n_rows);
  check_threshold(threshold_one);
  check_threshold(threshold_zero);
  const auto rows = range_within(begin, end, n_rows);
  const auto* given = packed.data() + rows.begin * row_bytes;
  auto* o = out.mutable_data() + rows.begin * row_bytes;
  py::gil_scoped_release release;
  backend::draw_masks(given, seed, stream, static_cast<std::uint32_t>(first_row + rows.begin),
                      rows.end - rows.begin, n_train, threshold_one, threshold_zero, o);
}

template <typename Out>
void bind_packed_matmul(const Array<std::uint8_t>& packed, const Array<float>& weights,
                        Array<Out>& out, std::size_t row_begin, std::size_t row_end,
                        std::size_t target_begin, std::size_t target_end) {
  require(packed.ndim() == 2, "packed: expected shape (n_masks, row_bytes), got another");
  require(weights.ndim() == 2, "weights: expected shape (n_train, n_targets), got another");
  const std::size_t n_masks = size_of(packed, 0), n_train = size_of(weights, 0);
  const std::size_t n_targets = size_of(weights, 1);
  require_shape(packed, "packed", {n_masks, pyattr::row_bytes_of(n_train)});
  require_shape(out, "out", {n_masks, n_targets});
  const auto rows = range_within(row_begin, row_end, n_masks);
  const auto targets = range_within(target_begin, target_end, n_targets);
  const auto* bits = packed.data();
  const auto* w = weights.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  backend::packed_matmul(bits, n_train, w, n_targets, rows, targets, o);
}

template <typename In, typename Out>
void bind_packed_matmul_transposed(const Array<std::uint8_t>& packed, const Array<In>& residuals,
                                   Array<Out>& out, std::size_t feature_begin,
                                   std::size_t feature_end, std::size_t target_begin,
                                   std::size_t target_end) {
  require(packed.ndim() == 2, "packed: expected shape (n_masks, row_bytes), got another");
  require(residuals.ndim() == 2, "residuals: expected shape (n_masks, n_targets), got another");
  require(out.ndim() == 2, "out: expected shape (n_train, n_targets), got another");
  const std::size_t n_masks = size_of(packed, 0), n_train = size_of(out, 0);
  const std::size_t n_targets = size_of(residuals, 1);
  require_shape(packed, "packed", {n_masks, pyattr::row_bytes_of(n_train)});
  require_shape(residuals, "residuals", {n_masks, n_targets});
  require_shape(out, "out", {n_train, n_targets});
  const auto features = range_within(feature_begin, feature_end, n_train);
  const auto targets = range_within(target_begin, target_end, n_targets);
  require(features.begin % 64 == 0, "feature_begin: expected a multiple of 64, got another");
  const auto* bits = packed.data();
  const auto* r = residuals.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  backend::packed_matmul_transposed(bits, n_masks, n_train, r, n_targets, features, targets, o);
}

void bind_turn_masks(const Array<std::uint8_t>& packed, std::size_t n_train,
                     Array<std::uint32_t>& turned, std::size_t begin, std::size_t end) {
  require(packed.ndim() == 2, "packed: expected shape (n_masks, row_bytes), got another");
  const std::size_t n_masks = size_of(packed, 0);
  require_shape(packed, "packed", {n_masks, pyattr::row_bytes_of(n_train)});
  const std::size_t n_tiles = pyattr::gram_tiles(n_train);
  require(turned.ndim() == 3 && size_of(turned, 0) == n_tiles &&
              size_of(turned, 1) == pyattr::gram_blocks(n_masks) &&
              size_of(turned, 2) == pyattr::kGramTile,
          "turned: expected shape (n_tiles, n_blocks, 64), got another");
  const auto tiles = range_within(begin, end, n_tiles);
  const auto* bits = packed.data();
  auto* o = turned.mutable_data();
  py::gil_scoped_release release;
  backend::turn_masks(bits, n_masks, n_train, tiles, o);
}

using GramFunction = void(const std::uint32_t*, std::size_t, std::size_t, pyattr::Range,
                          pyattr::GramKernel, std::int32_t*);

template <GramFunction* function>
void bind_gram(const Array<std::uint32_t>& turned, int kernel, Array<std::int32_t>& out,
               std::size_t begin, std::size_t end) {
  require(turned.ndim() == 3 && size_of(turned, 2) == pyattr::kGramTile &&
              size_of(turned, 1) % pyattr::kBlockGroup == 0,
          "turned: expected shape (n_tiles, 8 k, 64), got another");
  require(out.ndim() == 2, "out: expected shape (n_train, n_train), got another");
  const std::size_t n_train = size_of(out, 0), n_blocks = size_of(turned, 1);
  require_shape(out, "out", {n_train, n_train});
  require(size_of(turned, 0) == pyattr::gram_tiles(n_train), "turned: expected other tiles");
  require(kernel >= 0 && kernel <= static_cast<int>(backend::fastest_gram_kernel()),
          "kernel: expected one that this processor has, got another");
  const auto tiles = range_within(begin, end, size_of(turned, 0));
  const auto* bits = turned.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  function(bits, n_blocks, n_train, tiles, static_cast<pyattr::GramKernel>(kernel), o);
}

template <typename Float>
std::size_t bind_to_fixed_point(const Array<Float>& outputs, const Array<double>& centre,
                                const Array<double>& steps, Array<std::int32_t>& out,
                                std::size_t begin, std::size_t end) {
  require(outputs.ndim() == 2, "outputs: expected shape (n_rows, n_targets), got another");
  const std::size_t n_targets = size_of(outputs, 1);
  require_shape(out, "out", {size_of(outputs, 0), n_targets});
  require(centre.ndim() == 1 && size_of(centre, 0) == n_targets,
          "centre: expected shape (n_targets,), got another");
  require(steps.ndim() == 1 && size_of(steps, 0) == n_targets,
          "steps: expected shape (n_targets,), got another");
  const auto rows = range_within(begin, end, size_of(outputs, 0));
  const auto* y = outputs.data();
  const auto *c = centre.data(), *s = steps.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  return backend::to_fixed_point_many(y, c, s, n_targets, rows.begin, rows.end, o);
}

template <typename Logit, typename Bits>
void bind_margins(const Array<Bits>& logits, const Array<std::int64_t>& labels, int kind,
                  Array<float>& out, std::size_t begin, std::size_t end) {
  require(logits.ndim() == 2, "logits: expected shape (n_rows, n_classes), got another");
  require(labels.ndim() == 1, "labels: expected shape (n_targets,), got another");
  require(out.ndim() == 1 && out.shape(0) == logits.shape(0),
          "out: expected shape (n_rows,), got another");
  const std::size_t n_classes = size_of(logits, 1), n_targets = size_of(labels, 0);
  require(n_classes >= 2, "logits: expected at least 2 classes, got fewer");
  require(n_classes < std::size_t{1} << 31, "logits: expected fewer than 2^31 classes, got more");
  require(kind >= 0 && kind <= static_cast<int>(pyattr::MarginKind::kCorrect),
          "kind: expected 0 to 4, got another");
  const auto rows = range_within(begin, end, size_of(logits, 0));
  require(n_targets > 0 || rows.begin == rows.end, "labels: expected at least one, got none");
  const auto* y = labels.data();
  const auto* z = reinterpret_cast<const Logit*>(logits.data());
  auto* o = out.mutable_data();
  bool within = true;
  {
    py::gil_scoped_release release;
    if (rows.begin < rows.end)
      within = backend::margins(z, n_classes, y, n_targets, static_cast<pyattr::MarginKind>(kind),
                                rows, o);
  }
  require(within, "labels: expected values in [0, n_classes), got another");
}

inline void bind_kernels(py::module_& m) {
  m.def("sample_masks", &bind_sample_masks, py::arg("seed"), py::arg("stream"),
        py::arg("first_row"), py::arg("n_train"), py::arg("threshold"), py::arg("out").noconvert(),
        py::arg("begin"), py::arg("end"));
  m.def("correlate_masks", &bind_correlate_masks, py::arg("packed").noconvert(), py::arg("seed"),
        py::arg("stream"), py::arg("first_row"), py::arg("n_train"), py::arg("threshold_one"),
        py::arg("threshold_zero"), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("packed_matmul", &bind_packed_matmul<float>, py::arg("packed").noconvert(),
        py::arg("weights").noconvert(), py::arg("out").noconvert(), py::arg("row_begin"),
        py::arg("row_end"), py::arg("target_begin"), py::arg("target_end"));
  m.def("packed_matmul_transposed", &bind_packed_matmul_transposed<float, float>,
        py::arg("packed").noconvert(), py::arg("residuals").noconvert(), py::arg("out").noconvert(),
        py::arg("feature_begin"), py::arg("feature_end"), py::arg("target_begin"),
        py::arg("target_end"));
  m.def("packed_matmul_transposed", &bind_packed_matmul_transposed<float, double>,
        py::arg("packed").noconvert(), py::arg("residuals").noconvert(), py::arg("out").noconvert(),
        py::arg("feature_begin"), py::arg("feature_end"), py::arg("target_begin"),
        py::arg("target_end"));
  m.def("packed_matmul_transposed", &bind_packed_matmul_transposed<std::int32_t, std::int64_t>,
        py::arg("packed").noconvert(), py::arg("residuals").noconvert(), py::arg("out").noconvert(),
        py::arg("feature_begin"), py::arg("feature_end"), py::arg("target_begin"),
        py::arg("target_end"));
  m.def("to_fixed_point", &bind_to_fixed_point<float>, py::arg("outputs").noconvert(),
        py::arg("centre").noconvert(), py::arg("steps").noconvert(), py::arg("out").noconvert(),
        py::arg("begin"), py::arg("end"));
  m.def("to_fixed_point", &bind_to_fixed_point<double>, py::arg("outputs").noconvert(),
        py::arg("centre").noconvert(), py::arg("steps").noconvert(), py::arg("out").noconvert(),
        py::arg("begin"), py::arg("end"));
  m.def("turn_masks", &bind_turn_masks, py::arg("packed").noconvert(), py::arg("n_train"),
        py::arg("turned").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("gram", &bind_gram<&backend::gram>, py::arg("turned").noconvert(), py::arg("kernel"),
        py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("fastest_gram_kernel", [] { return static_cast<int>(backend::fastest_gram_kernel()); });
  m.def("margins", &bind_margins<float, float>, py::arg("logits").noconvert(),
        py::arg("labels").noconvert(), py::arg("kind"), py::arg("out").noconvert(),
        py::arg("begin"), py::arg("end"));
  // The bits of 16-bit logits, as NumPy has no bfloat16.
  m.def("margins_float16", &bind_margins<pyattr::Float16, std::uint16_t>,
        py::arg("logits").noconvert(), py::arg("labels").noconvert(), py::arg("kind"),
        py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("margins_bfloat16", &bind_margins<pyattr::BFloat16, std::uint16_t>,
        py::arg("logits").noconvert(), py::arg("labels").noconvert(), py::arg("kind"),
        py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
}

}  // namespace

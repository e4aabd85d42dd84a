// pyattr._cpu: registers the CPU kernels. Shape checks here, mathematics in the headers.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

namespace pyattr {}
namespace backend = pyattr;

#include "augment.hpp"
#include "bind_kernels.hpp"
#include "mask_indices.hpp"
#include "philox.hpp"

namespace {

void bind_philox4x32(const Array<std::uint32_t>& counters, const Array<std::uint32_t>& keys,
                     Array<std::uint32_t>& out) {
  require(counters.ndim() == 2, "counters: expected shape (n, 4), got another");
  const std::size_t n = size_of(counters, 0);
  require_shape(counters, "counters", {n, 4});
  require_shape(keys, "keys", {n, 2});
  require_shape(out, "out", {n, 4});
  const auto *c = counters.data(), *k = keys.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::philox4x32_many(c, k, n, o);
}

void bind_random_words(const Array<std::uint64_t>& seeds, std::uint32_t stream, std::uint32_t plane,
                       Array<std::uint32_t>& out, std::size_t begin, std::size_t end) {
  require(seeds.ndim() == 1, "seeds: expected shape (n,), got another");
  require(out.ndim() == 2 && out.shape(0) == seeds.shape(0),
          "out: expected shape (n, n_words), got another");
  const std::size_t n_words = size_of(out, 1);
  require(n_words <= std::size_t{1} << 34, "n_words: expected at most 2^34, got more");
  const auto rows = range_within(begin, end, size_of(seeds, 0));
  const auto* s = seeds.data() + rows.begin;
  auto* o = out.mutable_data() + rows.begin * n_words;
  py::gil_scoped_release release;
  pyattr::random_words(s, rows.end - rows.begin, stream, plane, n_words, o);
}

void bind_sample_seeds(std::uint64_t seed, std::uint64_t first_row, Array<std::uint64_t>& out) {
  require(out.ndim() == 1, "out: expected shape (n,), got another");
  const std::size_t n = size_of(out, 0);
  check_rows(first_row, n);
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::sample_seeds(seed, static_cast<std::uint32_t>(first_row), n, o);
}

void bind_mask_indices(const Array<std::uint8_t>& packed, const Array<std::int64_t>& ends,
                       Array<std::int64_t>& out) {
  require(packed.ndim() == 2, "packed: expected shape (n_masks, row_bytes), got another");
  const std::size_t n_masks = size_of(packed, 0), row_bytes = size_of(packed, 1);
  require(ends.ndim() == 1 && size_of(ends, 0) == n_masks, "ends: expected one a mask");
  const auto* e = ends.data();
  for (std::size_t j = 0; j < n_masks; ++j)
    require(e[j] >= (j ? e[j - 1] : 0) && e[j] <= out.size(), "ends: expected rising, within out");
  const auto* bits = packed.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  for (std::size_t j = 0; j < n_masks; ++j) {
    const std::int64_t begin = j ? e[j - 1] : 0;
    pyattr::list_ones(bits + j * row_bytes, row_bytes, static_cast<std::size_t>(e[j] - begin),
                      o + begin);
  }
}

// Elements of any type, as bytes: pixels are only moved.
template <typename T>
void bind_augment_images(const Array<T>& images, const Array<std::int32_t>& rows,
                         const Array<std::int32_t>& draws, std::size_t square, const Array<T>& fill,
                         Array<T>& out, std::size_t begin, std::size_t end) {
  require(images.ndim() == 4, "images: expected shape (n, height, width, channels), got another");
  require(out.ndim() == 4 && rows.ndim() == 1 && size_of(out, 0) == size_of(rows, 0),
          "out: expected one image for each of rows, got another shape");
  for (int axis = 1; axis < 4; ++axis)
    require(size_of(out, axis) == size_of(images, axis), "out: expected the size of images");
  const std::size_t n_images = size_of(images, 0), height = size_of(images, 1);
  const std::size_t width = size_of(images, 2), channels = size_of(images, 3);
  require(height < std::size_t{1} << 31 && width < std::size_t{1} << 31,
          "images: expected fewer than 2^31 rows and columns, got more");
  require_shape(draws, "draws", {size_of(rows, 0), pyattr::kAugmentDraws});
  require(fill.ndim() == 2 && size_of(fill, 0) == width && size_of(fill, 1) == channels,
          "fill: expected shape (width, channels), got another");
  require(square <= height && square <= width, "square: expected one within the image");
  const auto range = range_within(begin, end, size_of(rows, 0));
  const auto *r = rows.data(), *d = draws.data();
  const auto h = static_cast<std::int64_t>(height), w = static_cast<std::int64_t>(width);
  const auto s = static_cast<std::int64_t>(square);
  for (std::size_t b = range.begin; b < range.end; ++b) {
    const std::int32_t* draw = d + b * pyattr::kAugmentDraws;
    require(r[b] >= 0 && static_cast<std::size_t>(r[b]) < n_images, "rows: expected images");
    require(-h < draw[1] && draw[1] < h && -w < draw[2] && draw[2] < w,
            "draws: expected shifts smaller than the image");
    require(draw[3] >= 0 && draw[3] <= h - s && draw[4] >= 0 && draw[4] <= w - s,
            "draws: expected a square within the image");
  }
  const pyattr::ImageShape shape{height, width, channels * sizeof(T)};
  const auto* from = reinterpret_cast<const std::uint8_t*>(images.data());
  const auto* filled = reinterpret_cast<const std::uint8_t*>(fill.data());
  auto* to = reinterpret_cast<std::uint8_t*>(out.mutable_data());
  py::gil_scoped_release release;
  pyattr::augment_images(from, r, d, square, filled, shape, range.begin, range.end, to);
}

template <typename T>
void def_augment_images(py::module_& m) {
  m.def("augment_images", &bind_augment_images<T>, py::arg("images").noconvert(),
        py::arg("rows").noconvert(), py::arg("draws").noconvert(), py::arg("square"),
        py::arg("fill").noconvert(), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
}

}  // namespace

void bind_normalise(py::module_& m);  // bind_normalise.cpp
void bind_solvers(py::module_& m);    // bind_solvers.cpp
void bind_trainers(py::module_& m);   // bind_trainers.cpp

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "CPU kernels of pyattr. Use pyattr.kernels; the definitions are in pyattr.reference.";
  bind_kernels(m);
  m.def("first_gram", &bind_gram<&pyattr::first_gram>, py::arg("turned").noconvert(),
        py::arg("kernel"), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("philox4x32", &bind_philox4x32, py::arg("counters").noconvert(),
        py::arg("keys").noconvert(), py::arg("out").noconvert());
  m.def("random_words", &bind_random_words, py::arg("seeds").noconvert(), py::arg("stream"),
        py::arg("plane"), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("sample_seeds", &bind_sample_seeds, py::arg("seed"), py::arg("first_row"),
        py::arg("out").noconvert());
  m.def("mask_indices", &bind_mask_indices, py::arg("packed").noconvert(),
        py::arg("ends").noconvert(), py::arg("out").noconvert());
  m.def("instruction_level", &pyattr::instruction_level);
  def_augment_images<std::uint8_t>(m);
  def_augment_images<float>(m);
  bind_normalise(m);
  bind_solvers(m);
  bind_trainers(m);
}

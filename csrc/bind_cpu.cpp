// pyattr._cpu: registers the CPU kernels. Shape checks here, mathematics in the headers.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

namespace pyattr {}
namespace backend = pyattr;

#include "bind_kernels.hpp"
#include "philox.hpp"

namespace {

void bind_philox4x32(const Array<std::uint32_t>& counters, const Array<std::uint32_t>& keys,
                     Array<std::uint32_t>& out) {
  require(counters.ndim() == 2, "counters: expected shape (n, 4), got another");
  const std::size_t n = size_of(counters, 0);
  require_shape(counters, n, 4, "counters");
  require_shape(keys, n, 2, "keys");
  require_shape(out, n, 4, "out");
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

}  // namespace

void bind_solvers(py::module_& m);  // bind_solvers.cpp

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
  bind_solvers(m);
}

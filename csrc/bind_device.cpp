// pyattr._cuda: arrays that stay on the device, and the kernels that take and leave them there.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>

#include "device_arrays.hpp"
#include "device_kernels.hpp"
#include "device_memory.hpp"
#include "exact_sums.hpp"

namespace {

using namespace pyattr::binding;

// -- sums

class Sums {
 public:
  Sums(std::size_t n_train, const Array<double>& centre, const Array<double>& steps,
       std::size_t chunk_rows)
      : n_train_(n_train), n_targets_(static_cast<std::size_t>(centre.size())) {
    if (n_train == 0 || chunk_rows == 0) refuse("n_train, chunk_rows", "at least 1", "0");
    require_shape(centre, "centre", {n_targets_});
    require_shape(steps, "steps", {n_targets_});
    const double *c = centre.data(), *s = steps.data();
    py::gil_scoped_release release;
    sums_.reset(new pyattr::cuda::ExactSums(n_train, n_targets_, c, s, chunk_rows));
  }

  template <typename Float>
  void add(const Array<std::uint8_t>& packed, const Array<Float>& outputs) {
    const auto n_rows = static_cast<std::size_t>(packed.ndim() == 2 ? packed.shape(0) : 0);
    require_shape(packed, "packed", {n_rows, (n_train_ + 63) / 64 * 8});
    require_shape(outputs, "outputs", {n_rows, n_targets_});
    const auto* bits = packed.data();
    const auto* values = outputs.data();
    py::gil_scoped_release release;
    sums_->add(bits, values, n_rows);
  }

  py::tuple finish() {
    Array<std::int64_t> totals(static_cast<py::ssize_t>(n_targets_));
    Array<std::int64_t> squares(static_cast<py::ssize_t>(n_targets_));
    auto *t = totals.mutable_data(), *s = squares.mutable_data();
    std::size_t bad = 0;
    {
      py::gil_scoped_release release;
      bad = sums_->finish(t, s);
    }
    return py::make_tuple(totals, squares, bad);
  }

  DeviceArray counts() const {
    return {sums_->counts(), {n_train_, n_train_}, py::dtype::of<std::int32_t>()};
  }
  DeviceArray cross() const {
    return {sums_->cross(), {n_train_, n_targets_}, py::dtype::of<std::int64_t>()};
  }

 private:
  std::size_t n_train_, n_targets_;
  std::unique_ptr<pyattr::cuda::ExactSums> sums_;
};

// -- matrices

void bind_add_counts(const DeviceArray& counts, const py::object& other, int sign) {
  if (sign != 1 && sign != -1) refuse("sign", "1 or -1", std::to_string(sign));
  auto* to = device_data<std::int32_t>(py::cast(counts), "counts", counts.shape);
  const auto* from = device_data<std::int32_t>(other, "other", counts.shape);
  py::gil_scoped_release release;
  pyattr::cuda::add_counts(to, from, sign, size_of(counts.shape));
}

template <typename T>
Array<T> diagonal_of_type(const py::object& matrix, std::size_t n) {
  const auto* data = device_data<T>(matrix, "matrix", {n, n});
  Array<T> out(static_cast<py::ssize_t>(n));
  {
    auto* host = out.mutable_data();
    py::gil_scoped_release release;
    pyattr::cuda::diagonal_of(data, n, host);
  }
  return out;
}

py::array bind_diagonal(const DeviceArray& matrix) {
  const py::object object = py::cast(matrix);
  const std::size_t n = matrix.shape.empty() ? 0 : matrix.shape[0];
  if (matrix.dtype.is(py::dtype::of<float>())) return diagonal_of_type<float>(object, n);
  return diagonal_of_type<std::int32_t>(object, n);
}

DeviceArray bind_centred_gram(const py::object& counts, const Array<double>& single,
                              double n_masks) {
  const auto n = static_cast<std::size_t>(single.size());
  require_shape(single, "single", {n});
  const auto* from = device_data<std::int32_t>(counts, "counts", {n, n});
  DeviceArray result = empty({n, n}, py::dtype::of<float>());
  {
    const double* alone = single.data();
    py::gil_scoped_release release;
    pyattr::cuda::centred_gram(from, alone, n, n_masks, result.data<float>());
  }
  return result;
}

void bind_add_outer(const py::object& gram, const Array<float>& row) {
  const auto n = static_cast<std::size_t>(row.size());
  require_shape(row, "row", {n});
  auto* to = device_data<float>(gram, "gram", {n, n});
  const float* values = row.data();
  py::gil_scoped_release release;
  pyattr::cuda::add_outer(values, n, to);
}

// -- kernels between device arrays

// packed (n_masks, row_bytes), read by words of 64 bits.
const std::uint8_t* device_masks(const py::object& packed, std::size_t n_masks,
                                 std::size_t n_train) {
  return device_data<std::uint8_t>(packed, "packed", {n_masks, (n_train + 63) / 64 * 8},
                                   alignof(std::uint64_t));
}

void bind_add_gram(const py::object& packed, std::size_t n_masks, std::size_t n_train,
                   const py::object& counts) {
  const auto* bits = device_masks(packed, n_masks, n_train);
  auto* out = device_data<std::int32_t>(counts, "counts", {n_train, n_train});
  py::gil_scoped_release release;
  pyattr::cuda::add_gram(bits, n_masks, n_train, out);
}

void bind_add_exact_product(const py::object& packed, const py::object& values, std::size_t n_masks,
                            std::size_t n_train, std::size_t n_targets, const py::object& sums) {
  const auto* bits = device_masks(packed, n_masks, n_train);
  const auto* steps = device_data<std::int32_t>(values, "values", {n_masks, n_targets});
  auto* out = device_data<std::int64_t>(sums, "out", {n_train, n_targets});
  py::gil_scoped_release release;
  pyattr::cuda::add_exact_product(bits, steps, n_masks, n_train, n_targets, out);
}

void bind_multiply(const py::object& packed, const py::object& weights, std::size_t n_masks,
                   std::size_t n_train, std::size_t n_targets, const py::object& out) {
  const auto* bits = device_masks(packed, n_masks, n_train);
  const auto* w = device_data<float>(weights, "weights", {n_train, n_targets});
  auto* o = device_data<float>(out, "out", {n_masks, n_targets});
  py::gil_scoped_release release;
  pyattr::cuda::multiply(bits, w, n_masks, n_train, n_targets, o);
}

// Labels come from the host, where they are checked.
void bind_margins(const py::object& logits, const Array<std::int64_t>& labels, std::size_t n_rows,
                  std::size_t n_classes, int kind, const py::object& out) {
  const auto* z = device_data<float>(logits, "logits", {n_rows, n_classes});
  auto* o = device_data<float>(out, "out", {n_rows});
  const auto n_targets = static_cast<std::size_t>(labels.size());
  if (n_targets == 0 || n_classes < 2 || kind < 0 || kind > 4)
    refuse("labels, logits, kind", "a label, 2 classes and a kind of 0 to 4", "others");
  for (std::size_t t = 0; t < n_targets; ++t)
    if (labels.data()[t] < 0 || labels.data()[t] >= static_cast<std::int64_t>(n_classes))
      refuse("labels", "values in [0, n_classes)", std::to_string(labels.data()[t]));
  const DeviceArray y = from_host(labels);
  py::gil_scoped_release release;
  pyattr::cuda::margins(z, y.data<std::int64_t>(), n_rows, n_classes, n_targets, kind, o);
  pyattr::cuda::synchronize();  // the labels' copy goes
}

}  // namespace

void bind_device(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", py::module_local())
      .def(py::init([](const py::array& values) { return from_host(values); }), py::arg("values"))
      .def_property_readonly("shape",
                             [](const DeviceArray& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("dtype", [](const DeviceArray& a) { return a.dtype; })
      .def_property_readonly("__cuda_array_interface__", &interface_of)
      .def("numpy", &to_host)
      .def("copy", &copy_of)
      .def("diagonal", &bind_diagonal);
  py::class_<Sums>(m, "ExactSums", py::module_local())
      .def(py::init<std::size_t, const Array<double>&, const Array<double>&, std::size_t>(),
           py::arg("n_train"), py::arg("centre").noconvert(), py::arg("steps").noconvert(),
           py::arg("chunk_rows"))
      .def("add", &Sums::add<float>, py::arg("packed").noconvert(), py::arg("outputs").noconvert())
      .def("add", &Sums::add<double>, py::arg("packed").noconvert(), py::arg("outputs").noconvert())
      .def("finish", &Sums::finish)
      .def("counts", &Sums::counts)
      .def("cross", &Sums::cross);
  m.def("add_gram", &bind_add_gram, py::arg("packed"), py::arg("n_masks"), py::arg("n_train"),
        py::arg("counts"));
  m.def("add_exact_product", &bind_add_exact_product, py::arg("packed"), py::arg("values"),
        py::arg("n_masks"), py::arg("n_train"), py::arg("n_targets"), py::arg("sums"));
  m.def("multiply", &bind_multiply, py::arg("packed"), py::arg("weights"), py::arg("n_masks"),
        py::arg("n_train"), py::arg("n_targets"), py::arg("out"));
  m.def("margins_on_device", &bind_margins, py::arg("logits"), py::arg("labels").noconvert(),
        py::arg("n_rows"), py::arg("n_classes"), py::arg("kind"), py::arg("out"));
  m.def("synchronize", &pyattr::cuda::synchronize, py::call_guard<py::gil_scoped_release>());
  m.def("free_memory", &pyattr::cuda::free_memory);
  m.def("add_counts", &bind_add_counts, py::arg("counts"), py::arg("other"), py::arg("sign"));
  m.def("centred_gram", &bind_centred_gram, py::arg("counts"), py::arg("single").noconvert(),
        py::arg("n_masks"));
  m.def("add_outer", &bind_add_outer, py::arg("gram"), py::arg("row").noconvert());
}

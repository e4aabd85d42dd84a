// pyattr._cuda: arrays that stay on the device, and the kernels that take and leave them there.
//
// Device arrays of others are taken by their __cuda_array_interface__; ours have one.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "device_kernels.hpp"
#include "device_memory.hpp"
#include "device_solvers.hpp"
#include "exact_sums.hpp"

namespace py = pybind11;

namespace {

using pyattr::cuda::DeviceMemory;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

typedef std::vector<std::size_t> Shape;

std::string text_of(const Shape& shape) {
  std::string text;
  for (std::size_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

// An array in C order on the current device.
struct DeviceArray {
  std::shared_ptr<DeviceMemory> memory;
  Shape shape;
  py::dtype dtype;

  template <typename T>
  T* data() const {
    return static_cast<T*>(memory->get());
  }
};

template <typename Integers>
Shape shape_of(const Integers& sizes) {
  Shape shape;
  for (const auto& size : sizes) shape.push_back(py::cast<std::size_t>(size));
  return shape;
}

std::size_t size_of(const Shape& shape) {
  std::size_t size = 1;
  for (std::size_t length : shape) size *= length;
  return size;
}

DeviceArray empty(const Shape& shape, const py::dtype& dtype) {
  const std::size_t n_bytes = size_of(shape) * static_cast<std::size_t>(dtype.itemsize());
  std::shared_ptr<DeviceMemory> memory;
  {
    py::gil_scoped_release release;
    memory = std::make_shared<DeviceMemory>(n_bytes);
  }
  return {memory, shape, dtype};
}

DeviceArray from_host(const py::array& values) {
  const py::array array = py::array::ensure(values, py::array::c_style);
  Shape shape(array.shape(), array.shape() + array.ndim());
  DeviceArray result = empty(shape, array.dtype());
  {
    const void* host = array.data();
    py::gil_scoped_release release;
    result.memory->write(host);
  }
  return result;
}

py::array to_host(const DeviceArray& array) {
  py::array result(array.dtype, std::vector<py::ssize_t>(array.shape.begin(), array.shape.end()));
  {
    void* host = result.mutable_data();
    py::gil_scoped_release release;
    array.memory->read(host);
  }
  return result;
}

py::dict interface_of(const DeviceArray& array) {
  py::dict result;
  result["shape"] = py::tuple(py::cast(array.shape));
  result["typestr"] = array.dtype.attr("str");
  result["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(array.memory->get()), false);
  result["strides"] = py::none();
  result["version"] = 3;
  return result;
}

[[noreturn]] void refuse(const char* name, const std::string& expected, const std::string& got) {
  throw py::value_error(std::string(name) + ": expected " + expected + ", got " + got);
}

// The address of a device array of this dtype and shape, in C order: ours or another library's.
template <typename T>
T* device_data(const py::object& object, const char* name, const Shape& shape) {
  if (!py::hasattr(object, "__cuda_array_interface__"))
    refuse(name, "an array on the device", std::string(py::str(py::type::of(object))));
  const auto interface = py::cast<py::dict>(object.attr("__cuda_array_interface__"));
  const Shape given = shape_of(py::cast<py::tuple>(interface["shape"]));
  const auto type = py::cast<std::string>(interface["typestr"]);
  const auto expected = py::cast<std::string>(py::dtype::of<T>().attr("str"));
  if (given != shape || type != expected)
    refuse(name, expected + " " + text_of(shape), type + " " + text_of(given));
  const py::object strides =
      interface.contains("strides") ? py::object(interface["strides"]) : py::object(py::none());
  if (!strides.is_none()) {
    const Shape steps = shape_of(py::cast<py::tuple>(strides));
    std::size_t step = sizeof(T);
    for (std::size_t axis = shape.size(); axis-- > 0; step *= shape[axis])
      if (shape[axis] > 1 && steps[axis] != step) refuse(name, "C order", "other strides");
  }
  const auto address = py::cast<std::uintptr_t>(py::cast<py::tuple>(interface["data"])[0]);
  return reinterpret_cast<T*>(address);
}

// A float32 matrix on the device: where it lies already, or a copy of the host's.
class Matrix {
 public:
  Matrix(const py::object& object, const char* name, const Shape& shape) {
    if (py::hasattr(object, "__cuda_array_interface__")) {
      data_ = device_data<float>(object, name, shape);
      return;
    }
    if (!py::isinstance<Array<float>>(object))
      throw py::type_error(std::string(name) + ": expected float32 in C order, got another array");
    const auto array = py::reinterpret_borrow<Array<float>>(object);
    const Shape given(array.shape(), array.shape() + array.ndim());
    if (given != shape) refuse(name, "shape " + text_of(shape), text_of(given));
    copy_ = from_host(array);
    data_ = copy_->data<float>();
  }
  const float* data() const { return data_; }

 private:
  std::optional<DeviceArray> copy_;
  const float* data_;
};

template <typename T>
void require_shape(const Array<T>& array, const char* name, const Shape& shape) {
  const Shape given(array.shape(), array.shape() + array.ndim());
  if (given != shape) refuse(name, "shape " + text_of(shape), text_of(given));
}

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

DeviceArray bind_centred_gram(const py::object& counts, const Array<double>& single, double n_masks,
                              const std::optional<double>& middle) {
  const auto n = static_cast<std::size_t>(single.size());
  require_shape(single, "single", {n});
  const auto* from = device_data<std::int32_t>(counts, "counts", {n, n});
  DeviceArray result = empty({n, n}, py::dtype::of<float>());
  {
    const double* alone = single.data();
    py::gil_scoped_release release;
    pyattr::cuda::centred_gram(from, alone, n, n_masks, !middle, middle.value_or(0.0),
                               result.data<float>());
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

std::size_t words_of(std::size_t n_train) { return (n_train + 63) / 64 * 8; }

void bind_add_gram(const py::object& packed, std::size_t n_masks, std::size_t n_train,
                   const py::object& counts) {
  const auto* bits = device_data<std::uint8_t>(packed, "packed", {n_masks, words_of(n_train)});
  auto* out = device_data<std::int32_t>(counts, "counts", {n_train, n_train});
  py::gil_scoped_release release;
  pyattr::cuda::add_gram(bits, n_masks, n_train, out);
}

void bind_add_exact_product(const py::object& packed, const py::object& values, std::size_t n_masks,
                            std::size_t n_train, std::size_t n_targets, const py::object& sums) {
  const auto* bits = device_data<std::uint8_t>(packed, "packed", {n_masks, words_of(n_train)});
  const auto* steps = device_data<std::int32_t>(values, "values", {n_masks, n_targets});
  auto* out = device_data<std::int64_t>(sums, "out", {n_train, n_targets});
  py::gil_scoped_release release;
  pyattr::cuda::add_exact_product(bits, steps, n_masks, n_train, n_targets, out);
}

void bind_multiply(const py::object& packed, const py::object& weights, std::size_t n_masks,
                   std::size_t n_train, std::size_t n_targets, const py::object& out) {
  const auto* bits = device_data<std::uint8_t>(packed, "packed", {n_masks, words_of(n_train)});
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

// -- solvers

using HeldOut = std::tuple<py::object, py::object, Array<double>, int, double>;

void bind_lasso_paths(const py::object& gram, const py::object& cross, const Array<double>& square,
                      const Array<double>& lambdas, const Array<std::int32_t>& n_steps,
                      double tolerance, const std::optional<HeldOut>& held_out,
                      Array<float>& weights, Array<double>& gaps, Array<double>& errors,
                      Array<std::int32_t>& n_done, std::size_t n) {
  const auto n_targets = static_cast<std::size_t>(square.size());
  const auto n_lambdas = static_cast<std::size_t>(lambdas.ndim() == 2 ? lambdas.shape(1) : 0);
  const bool whole = weights.ndim() == 3;
  require_shape(square, "square", {n_targets});
  require_shape(lambdas, "lambdas", {n_targets, n_lambdas});
  require_shape(n_steps, "n_steps", {n_targets});
  require_shape(gaps, "gaps", {n_targets, n_lambdas});
  require_shape(errors, "errors", {n_targets, n_lambdas});
  require_shape(n_done, "n_done", {n_targets});
  require_shape(weights, "weights", whole ? Shape{n_targets, n_lambdas, n} : Shape{n_targets, n});
  const Matrix g(gram, "gram", {n, n}), b(cross, "cross", {n_targets, n});
  std::optional<Matrix> held_gram, held_cross;
  pyattr::cuda::DeviceLassoPath path{lambdas.data(),
                                     n_steps.data(),
                                     n_lambdas,
                                     tolerance,
                                     {},
                                     weights.mutable_data(),
                                     whole,
                                     gaps.mutable_data(),
                                     errors.mutable_data(),
                                     n_done.mutable_data()};
  if (held_out) {
    const auto& [matrix, products, squares, patience, rise] = *held_out;
    held_gram.emplace(matrix, "held_out gram", Shape{n, n});
    held_cross.emplace(products, "held_out cross", Shape{n_targets, n});
    require_shape(squares, "held_out square", {n_targets});
    path.held_out = {held_gram->data(), held_cross->data(), squares.data(), patience, rise};
  }
  const pyattr::cuda::DeviceMoments moments{g.data(), b.data(), square.data(), n, n_targets};
  py::gil_scoped_release release;
  pyattr::cuda::lasso_paths(moments, path);
}

void bind_fit_mixtures(const py::object& gram, const py::object& cross, const Array<double>& square,
                       const Array<float>& variances, double n_rows, bool corrected, bool normal,
                       int max_sweeps, double tolerance, Array<float>& weights,
                       Array<float>& deviations, Array<float>& proportions, Array<double>& noise,
                       Array<double>& freedom, Array<double>& residual, Array<std::int32_t>& sweeps,
                       std::size_t n) {
  const auto n_targets = static_cast<std::size_t>(square.size());
  const auto n_components =
      static_cast<std::size_t>(variances.ndim() == 2 ? variances.shape(1) : 0);
  if (n_components < 2 || n_components > 16)
    refuse("variances", "2 to 16 components", std::to_string(n_components));
  require_shape(square, "square", {n_targets});
  require_shape(variances, "variances", {n_targets, n_components});
  require_shape(weights, "weights", {n_targets, n});
  require_shape(deviations, "deviations", {n_targets, n});
  require_shape(proportions, "proportions", {n_targets, n_components});
  require_shape(noise, "noise", {n_targets});
  require_shape(freedom, "freedom", {n_targets});
  require_shape(residual, "residual", {n_targets});
  require_shape(sweeps, "sweeps", {n_targets});
  const Matrix g(gram, "gram", {n, n}), b(cross, "cross", {n_targets, n});
  const pyattr::cuda::DeviceMoments moments{g.data(), b.data(), square.data(), n, n_targets};
  const pyattr::cuda::DeviceMixture fit{variances.data(),
                                        n_components,
                                        n_rows,
                                        corrected,
                                        normal,
                                        max_sweeps,
                                        tolerance,
                                        weights.mutable_data(),
                                        deviations.mutable_data(),
                                        proportions.mutable_data(),
                                        noise.mutable_data(),
                                        freedom.mutable_data(),
                                        residual.mutable_data(),
                                        sweeps.mutable_data()};
  py::gil_scoped_release release;
  pyattr::cuda::fit_mixtures(moments, fit);
}

}  // namespace

void bind_device(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray")
      .def(py::init([](const py::array& values) { return from_host(values); }), py::arg("values"))
      .def_property_readonly("shape",
                             [](const DeviceArray& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("dtype", [](const DeviceArray& a) { return a.dtype; })
      .def_property_readonly("__cuda_array_interface__", &interface_of)
      .def("numpy", &to_host)
      .def("diagonal", &bind_diagonal);
  py::class_<Sums>(m, "ExactSums")
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
  m.def("add_counts", &bind_add_counts, py::arg("counts"), py::arg("other"), py::arg("sign"));
  m.def("centred_gram", &bind_centred_gram, py::arg("counts"), py::arg("single").noconvert(),
        py::arg("n_masks"), py::arg("middle"));
  m.def("add_outer", &bind_add_outer, py::arg("gram"), py::arg("row").noconvert());
  m.def("lasso_paths", &bind_lasso_paths, py::arg("gram"), py::arg("cross"),
        py::arg("square").noconvert(), py::arg("lambdas").noconvert(),
        py::arg("n_steps").noconvert(), py::arg("tolerance"), py::arg("held_out"),
        py::arg("weights").noconvert(), py::arg("gaps").noconvert(), py::arg("errors").noconvert(),
        py::arg("n_done").noconvert(), py::arg("n_train"));
  m.def("fit_mixtures", &bind_fit_mixtures, py::arg("gram"), py::arg("cross"),
        py::arg("square").noconvert(), py::arg("variances").noconvert(), py::arg("n_rows"),
        py::arg("corrected"), py::arg("normal"), py::arg("max_sweeps"), py::arg("tolerance"),
        py::arg("weights").noconvert(), py::arg("deviations").noconvert(),
        py::arg("proportions").noconvert(), py::arg("noise").noconvert(),
        py::arg("freedom").noconvert(), py::arg("residual").noconvert(),
        py::arg("sweeps").noconvert(), py::arg("n_train"));
}

// pyattr._cuda: the solvers, on matrices of the host or of the device.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "device_arrays.hpp"
#include "device_solvers.hpp"

namespace {

using namespace pyattr::binding;

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
                       const Array<float>& variances, double n_rows, const Array<double>& kept,
                       double extra_rows, bool normal, int max_sweeps, double tolerance,
                       Array<float>& weights, Array<float>& deviations, Array<float>& proportions,
                       Array<double>& noise, Array<double>& freedom, Array<double>& residual,
                       Array<std::int32_t>& sweeps, std::size_t n) {
  const auto n_targets = static_cast<std::size_t>(square.size());
  const auto n_components =
      static_cast<std::size_t>(variances.ndim() == 2 ? variances.shape(1) : 0);
  if (n_components < 2 || n_components > 16)
    refuse("variances", "2 to 16 components", std::to_string(n_components));
  if (kept.size() < 2) refuse("kept", "at least 2 numbers", std::to_string(kept.size()));
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
                                        kept.data(),
                                        static_cast<std::size_t>(kept.size()),
                                        extra_rows,
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

Array<float> bind_negative_product(const py::object& gram, const Array<float>& rows) {
  if (rows.ndim() != 2) refuse("rows", "2 dimensions", std::to_string(rows.ndim()));
  const auto n_rows = static_cast<std::size_t>(rows.shape(0));
  const auto n = static_cast<std::size_t>(rows.shape(1));
  const auto* matrix = device_data<float>(gram, "gram", {n, n});
  const DeviceArray vectors = from_host(rows);
  Array<float> out({rows.shape(0), rows.shape(1)});
  {
    float* host = out.mutable_data();
    py::gil_scoped_release release;
    pyattr::cuda::negative_product(matrix, vectors.data<float>(), n, n_rows, host);
  }
  return out;
}

}  // namespace

void bind_device_solvers(py::module_& m) {
  m.def("lasso_paths", &bind_lasso_paths, py::arg("gram"), py::arg("cross"),
        py::arg("square").noconvert(), py::arg("lambdas").noconvert(),
        py::arg("n_steps").noconvert(), py::arg("tolerance"), py::arg("held_out"),
        py::arg("weights").noconvert(), py::arg("gaps").noconvert(), py::arg("errors").noconvert(),
        py::arg("n_done").noconvert(), py::arg("n_train"));
  m.def("fit_mixtures", &bind_fit_mixtures, py::arg("gram"), py::arg("cross"),
        py::arg("square").noconvert(), py::arg("variances").noconvert(), py::arg("n_rows"),
        py::arg("kept").noconvert(), py::arg("extra_rows"), py::arg("normal"),
        py::arg("max_sweeps"), py::arg("tolerance"), py::arg("weights").noconvert(),
        py::arg("deviations").noconvert(), py::arg("proportions").noconvert(),
        py::arg("noise").noconvert(), py::arg("freedom").noconvert(),
        py::arg("residual").noconvert(), py::arg("sweeps").noconvert(), py::arg("n_train"));
  m.def("negative_product", &bind_negative_product, py::arg("gram"), py::arg("rows").noconvert());
}

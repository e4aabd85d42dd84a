// Registers the solvers of regressions on masks in pyattr._cpu. Shape checks here, mathematics in
// the headers. Arrays are taken as they are or refused, as in bind_arrays.hpp.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

// The kernels that these headers share with bind_cpu.cpp are not all used here.
#pragma GCC diagnostic ignored "-Wunused-function"

#include "bind_arrays.hpp"
#include "coordinate_descent.hpp"
#include "scale_mixture.hpp"

namespace {

using namespace pyattr::binding;

using HeldOutArrays = std::tuple<Array<float>, Array<float>, Array<double>, int, double>;

std::unique_ptr<pyattr::GramCodes> make_gram_codes(const Array<float>& gram) {
  const auto n = static_cast<std::size_t>(gram.ndim() == 2 ? gram.shape(0) : 0);
  require_shape(gram, "gram", {n, n});
  return std::make_unique<pyattr::GramCodes>(gram.data(), n);
}

void bind_lasso_paths(pyattr::GramCodes& codes, const Array<float>& cross,
                      const Array<double>& square, const Array<double>& lambdas,
                      const Array<std::int32_t>& n_steps, double tolerance,
                      const std::optional<HeldOutArrays>& held_out, Array<float>& weights,
                      Array<double>& gaps, Array<double>& errors, Array<std::int32_t>& n_done,
                      std::size_t begin, std::size_t end) {
  const std::size_t n = codes.n();
  const auto n_targets = static_cast<std::size_t>(square.size());
  const auto n_lambdas = static_cast<std::size_t>(lambdas.ndim() == 2 ? lambdas.shape(1) : 0);
  require_shape(cross, "cross", {n_targets, n});
  require_shape(square, "square", {n_targets});
  require_shape(lambdas, "lambdas", {n_targets, n_lambdas});
  require_shape(n_steps, "n_steps", {n_targets});
  require_shape(gaps, "gaps", {n_targets, n_lambdas});
  require_shape(errors, "errors", {n_targets, n_lambdas});
  require_shape(n_done, "n_done", {n_targets});
  const bool whole = weights.ndim() == 3;
  if (whole)
    require_shape(weights, "weights", {n_targets, n_lambdas, n});
  else
    require_shape(weights, "weights", {n_targets, n});
  pyattr::LassoProblem problem{codes.gram(),   cross.data(),   square.data(),
                               lambdas.data(), n_steps.data(), n,
                               n_lambdas,      tolerance,      {}};
  if (held_out) {
    const auto& [held_gram, held_cross, held_square, patience, rise] = *held_out;
    require_shape(held_gram, "held_out gram", {n, n});
    require_shape(held_cross, "held_out cross", {n_targets, n});
    require_shape(held_square, "held_out square", {n_targets});
    problem.held_out = {held_gram.data(), held_cross.data(), held_square.data(), patience, rise};
  }
  const pyattr::LassoPath out{weights.mutable_data(), whole, gaps.mutable_data(),
                              errors.mutable_data(), n_done.mutable_data()};
  const auto targets = range_within(begin, end, n_targets);
  py::gil_scoped_release release;
  pyattr::lasso_paths(problem, codes, targets, out);
}

void bind_fit_mixtures(const Array<float>& gram, const Array<float>& cross,
                       const Array<double>& square, const Array<float>& variances, double n_rows,
                       const Array<double>& kept, double extra_rows, bool normal, int max_sweeps,
                       double tolerance, Array<float>& weights, Array<float>& deviations,
                       Array<float>& proportions, Array<double>& noise, Array<double>& freedom,
                       Array<double>& residual, Array<std::int32_t>& sweeps, std::size_t begin,
                       std::size_t end) {
  const auto n = static_cast<std::size_t>(gram.ndim() == 2 ? gram.shape(0) : 0);
  const auto n_targets = static_cast<std::size_t>(square.size());
  const auto n_components =
      static_cast<std::size_t>(variances.ndim() == 2 ? variances.shape(1) : 0);
  if (n_components < 2 || n_components > pyattr::kMaxComponents)
    throw py::value_error("variances: expected 2 to 16 components, got another number");
  if (begin % pyattr::kLanes)
    throw py::value_error("begin: expected a multiple of 16, got another");
  if (kept.size() < 2) throw py::value_error("kept: expected at least 2 numbers, got fewer");
  require_shape(gram, "gram", {n, n});
  require_shape(cross, "cross", {n_targets, n});
  require_shape(square, "square", {n_targets});
  require_shape(variances, "variances", {n_targets, n_components});
  require_shape(weights, "weights", {n_targets, n});
  require_shape(deviations, "deviations", {n_targets, n});
  require_shape(proportions, "proportions", {n_targets, n_components});
  require_shape(noise, "noise", {n_targets});
  require_shape(freedom, "freedom", {n_targets});
  require_shape(residual, "residual", {n_targets});
  require_shape(sweeps, "sweeps", {n_targets});
  const pyattr::MixtureProblem problem{gram.data(),
                                       cross.data(),
                                       square.data(),
                                       variances.data(),
                                       n,
                                       n_components,
                                       n_rows,
                                       kept.data(),
                                       static_cast<std::size_t>(kept.size()),
                                       extra_rows,
                                       normal,
                                       max_sweeps,
                                       tolerance};
  const pyattr::MixtureFit out{weights.mutable_data(),     deviations.mutable_data(),
                               proportions.mutable_data(), noise.mutable_data(),
                               freedom.mutable_data(),     residual.mutable_data(),
                               sweeps.mutable_data()};
  const auto targets = range_within(begin, end, n_targets);
  py::gil_scoped_release release;
  pyattr::fit_mixtures(problem, targets, out);
}

}  // namespace

void bind_solvers(py::module_& m) {
  py::class_<pyattr::GramCodes>(m, "GramCodes", py::module_local())
      .def(py::init(&make_gram_codes), py::arg("gram").noconvert(), py::keep_alive<1, 2>());
  m.def("lasso_paths", &bind_lasso_paths, py::arg("gram"), py::arg("cross").noconvert(),
        py::arg("square").noconvert(), py::arg("lambdas").noconvert(),
        py::arg("n_steps").noconvert(), py::arg("tolerance"), py::arg("held_out"),
        py::arg("weights").noconvert(), py::arg("gaps").noconvert(), py::arg("errors").noconvert(),
        py::arg("n_done").noconvert(), py::arg("begin"), py::arg("end"));
  m.def("fit_mixtures", &bind_fit_mixtures, py::arg("gram").noconvert(),
        py::arg("cross").noconvert(), py::arg("square").noconvert(),
        py::arg("variances").noconvert(), py::arg("n_rows"), py::arg("kept").noconvert(),
        py::arg("extra_rows"), py::arg("normal"), py::arg("max_sweeps"), py::arg("tolerance"),
        py::arg("weights").noconvert(), py::arg("deviations").noconvert(),
        py::arg("proportions").noconvert(), py::arg("noise").noconvert(),
        py::arg("freedom").noconvert(), py::arg("residual").noconvert(),
        py::arg("sweeps").noconvert(), py::arg("begin"), py::arg("end"));
}

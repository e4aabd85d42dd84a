// Registers the trainers of small models in pyattr._cpu. Shape checks here, mathematics in the
// headers. Arrays are taken as they are or refused, as in bind_arrays.hpp.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bind_arrays.hpp"
#include "network_sgd.hpp"
#include "softmax_regression.hpp"

namespace {

using namespace pyattr::binding;

void require_below(const Array<std::int32_t>& array, const char* name, std::size_t bound) {
  const auto* values = array.data();
  for (py::ssize_t i = 0; i < array.size(); ++i)
    if (values[i] < 0 || static_cast<std::size_t>(values[i]) >= bound)
      throw py::value_error(std::string(name) + ": expected integers in [0, " +
                            std::to_string(bound) + "), got another");
}

template <typename T>
std::size_t first_size(const Array<T>& array, const char* name) {
  if (array.ndim() > 0 && array.shape(0) > 0) return static_cast<std::size_t>(array.shape(0));
  throw py::value_error(std::string(name) + ": expected at least one row, got none");
}

// So that no number of weights or of scratch overflows.
void require_size(std::size_t size, const char* name) {
  if (size < std::size_t{1} << 31) return;
  throw py::value_error(std::string(name) + ": expected less than 2^31, got more");
}

pyattr::LinearShape linear_shape(std::size_t n_features, std::size_t n_classes) {
  require_size(n_features, "n_features");
  require_size(n_classes, "n_classes");
  return {n_features, n_classes};
}

// rows (n, n_inputs).
pyattr::NetworkShape network_shape(const Array<float>& rows, std::size_t n_hidden,
                                   std::size_t n_classes) {
  require_size(n_hidden, "n_hidden");
  require_size(n_classes, "n_classes");
  const std::size_t n_rows = first_size(rows, "rows");
  const auto n_inputs = static_cast<std::size_t>(rows.ndim() == 2 ? rows.shape(1) : 0);
  require_shape(rows, "rows", {n_rows, n_inputs});
  require_size(n_inputs, "rows");
  return {n_inputs, n_hidden, n_classes};
}

void bind_fit_softmax_regressions(const Array<float>& rows, const Array<std::int32_t>& labels,
                                  std::size_t n_features, std::size_t n_classes,
                                  const Array<std::uint8_t>& bits, const Array<float>& spectrum,
                                  const Array<float>& l2, float floor, float start, float safety,
                                  float decay, std::size_t n_steps, Array<float>& weights) {
  const auto shape = linear_shape(n_features, n_classes);
  const std::size_t n_examples = first_size(rows, "rows"), n_models = first_size(bits, "bits");
  require_shape(rows, "rows", {n_examples, shape.width()});
  require_shape(labels, "labels", {n_examples});
  require_below(labels, "labels", n_classes);
  require_shape(bits, "bits", {n_models, n_examples});
  require_shape(spectrum, "spectrum", {shape.n_weights()});
  require_shape(l2, "l2", {shape.n_weights()});
  require_shape(weights, "weights", {n_models, shape.n_weights()});
  if (!(floor > 0.0f)) throw py::value_error("floor: expected a number above 0, got another");
  const pyattr::SoftmaxProblem problem{shape,           rows.data(), labels.data(), n_examples,
                                       spectrum.data(), l2.data(),   floor,         start,
                                       safety,          decay,       n_steps};
  const auto* chosen = bits.data();
  auto* out = weights.mutable_data();
  py::gil_scoped_release release;
  pyattr::fit_softmax_regressions(problem, n_models, chosen, out);
}

void bind_linear_logits(const Array<float>& turned, std::size_t n_targets, std::size_t n_classes,
                        const Array<float>& weights, Array<float>& out) {
  const auto shape = linear_shape(first_size(turned, "turned"), n_classes);
  const std::size_t n_models = first_size(weights, "weights");
  require_shape(turned, "turned", {shape.n_features, pyattr::whole_lanes(n_targets)});
  require_shape(weights, "weights", {n_models, shape.n_weights()});
  require_shape(out, "out", {n_models, n_targets, n_classes});
  const float *columns = turned.data(), *w = weights.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::linear_logits(shape, columns, n_targets, n_models, w, o);
}

void bind_train_networks(const Array<float>& rows, const Array<std::int32_t>& labels,
                         std::size_t n_hidden, std::size_t n_classes, const Array<float>& rates,
                         float momentum, float decay, const Array<std::int32_t>& examples,
                         Array<float>& weights) {
  const std::size_t n_examples = first_size(rows, "rows"), n_steps = first_size(rates, "rates");
  const std::size_t n_models = first_size(examples, "examples");
  const auto shape = network_shape(rows, n_hidden, n_classes);
  const auto batch_size = static_cast<std::size_t>(examples.ndim() == 3 ? examples.shape(2) : 0);
  if (batch_size == 0)
    throw py::value_error(
        "examples: expected shape (n_models, n_steps, batch_size), none of them 0, got another");
  require_shape(labels, "labels", {n_examples});
  require_below(labels, "labels", n_classes);
  require_shape(rates, "rates", {n_steps});
  require_shape(examples, "examples", {n_models, n_steps, batch_size});
  require_below(examples, "examples", n_examples);
  require_shape(weights, "weights", {n_models, shape.n_weights()});
  const pyattr::NetworkProblem problem{shape,   rows.data(), labels.data(), rates.data(),
                                       n_steps, batch_size,  momentum,      decay};
  const auto* streams = examples.data();
  auto* out = weights.mutable_data();
  py::gil_scoped_release release;
  pyattr::train_networks(problem, n_models, streams, out);
}

void bind_network_logits(const Array<float>& rows, std::size_t n_hidden, std::size_t n_classes,
                         const Array<float>& weights, Array<float>& out) {
  const std::size_t n_targets = first_size(rows, "rows");
  const std::size_t n_models = first_size(weights, "weights");
  const auto shape = network_shape(rows, n_hidden, n_classes);
  require_shape(weights, "weights", {n_models, shape.n_weights()});
  require_shape(out, "out", {n_models, n_targets, n_classes});
  const float *x = rows.data(), *w = weights.data();
  auto* o = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::network_logits(shape, x, n_targets, n_models, w, o);
}

}  // namespace

void bind_trainers(py::module_& m) {
  m.def("fit_softmax_regressions", &bind_fit_softmax_regressions, py::arg("rows").noconvert(),
        py::arg("labels").noconvert(), py::arg("n_features"), py::arg("n_classes"),
        py::arg("bits").noconvert(), py::arg("spectrum").noconvert(), py::arg("l2").noconvert(),
        py::arg("floor"), py::arg("start"), py::arg("safety"), py::arg("decay"), py::arg("n_steps"),
        py::arg("weights").noconvert());
  m.def("linear_logits", &bind_linear_logits, py::arg("turned").noconvert(), py::arg("n_targets"),
        py::arg("n_classes"), py::arg("weights").noconvert(), py::arg("out").noconvert());
  m.def("train_networks", &bind_train_networks, py::arg("rows").noconvert(),
        py::arg("labels").noconvert(), py::arg("n_hidden"), py::arg("n_classes"),
        py::arg("rates").noconvert(), py::arg("momentum"), py::arg("decay"),
        py::arg("examples").noconvert(), py::arg("weights").noconvert());
  m.def("network_logits", &bind_network_logits, py::arg("rows").noconvert(), py::arg("n_hidden"),
        py::arg("n_classes"), py::arg("weights").noconvert(), py::arg("out").noconvert());
}

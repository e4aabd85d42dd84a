// Registers the normalisation between convolutions in pyattr._cpu. Shape checks here, mathematics
// in normalise.hpp. Arrays are taken as they are or refused, as in bind_arrays.hpp.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bind_arrays.hpp"
#include "normalise.hpp"

namespace {

using namespace pyattr::binding;
using Floats = Array<float>;
using Doubles = Array<double>;

pyattr::Pixels pixels_of(const Floats& x) {
  require(x.ndim() == 4, "x: expected shape (n, height, width, channels), got another");
  const pyattr::Pixels pixels{size_of(x, 0), size_of(x, 1), size_of(x, 2), size_of(x, 3)};
  require(pixels.rows() > 0, "x: expected at least one pixel, got none");
  return pixels;
}

Shape sizes_of(pyattr::Pixels of) { return {of.n, of.height, of.width, of.channels}; }

void require_channels(const py::array& array, const char* name, std::size_t channels) {
  const Shape given = shape_of(array);
  if (given != Shape{channels}) refuse(name, "one number a channel", text_of(given));
}

// Rows of (3, channels): mean, slope, shift.
pyattr::Normalisation normalisation_of(const Floats& by, std::size_t channels) {
  require(by.ndim() == 2 && by.shape(0) == 3 && size_of(by, 1) == channels,
          "by: expected shape (3, channels), got another");
  const float* first = by.data();
  return {first, first + channels, first + 2 * channels};
}

pyattr::Pixels halved(pyattr::Pixels shape) {
  return {shape.n, shape.height / 2, shape.width / 2, shape.channels};
}

void bind_rectify(const Floats& x, const Floats& by, const std::optional<Floats>& bypass,
                  Floats& out) {
  const auto shape = pixels_of(x);
  require_shape(out, "out", sizes_of(shape));
  if (bypass) require_shape(*bypass, "bypass", sizes_of(shape));
  const auto given = normalisation_of(by, shape.channels);
  const float *from = x.data(), *beside = bypass ? bypass->data() : nullptr;
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::rectify(from, shape.rows(), shape.channels, given, beside, to);
}

void bind_rectify_halved(const Floats& x, const Floats& by, Floats& out) {
  const auto shape = pixels_of(x);
  require_shape(out, "out", sizes_of(halved(shape)));
  const auto given = normalisation_of(by, shape.channels);
  const float* from = x.data();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::rectify_halved(from, shape, given, to);
}

void bind_scatter_halved(const Floats& x, const Floats& by, const Floats& gradient, Floats& out) {
  const auto shape = pixels_of(x);
  require_shape(gradient, "gradient", sizes_of(halved(shape)));
  require_shape(out, "out", sizes_of(shape));
  const auto given = normalisation_of(by, shape.channels);
  const float *from = x.data(), *came = gradient.data();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  pyattr::scatter_halved(from, shape, given, came, to);
}

void bind_take_moments(const Floats& x, const Floats& scale, const Floats& shift, double epsilon,
                       double momentum, Floats& mean, Floats& variance, Floats& by,
                       Doubles& spread) {
  const auto shape = pixels_of(x);
  const std::size_t channels = shape.channels;
  require(shape.rows() >= 2, "x: expected at least two pixels, got one");
  require_channels(scale, "scale", channels);
  require_channels(shift, "shift", channels);
  require_channels(mean, "mean", channels);
  require_channels(variance, "variance", channels);
  require_channels(spread, "spread", channels);
  normalisation_of(by, channels);
  const float* from = x.data();
  const pyattr::Channels of{scale.data(),        shift.data(),
                            mean.mutable_data(), variance.mutable_data(),
                            by.mutable_data(),   spread.mutable_data()};
  py::gil_scoped_release release;
  const pyattr::Scratch<double> scratch(channels);
  pyattr::take_moments(from, shape.rows(), channels, epsilon, momentum, scratch.get(), of);
}

void bind_normalise_backward(Floats& x, const Floats& by, const Doubles& spread,
                             const Floats& gradient, Floats& scale_gradient,
                             Floats& shift_gradient) {
  const auto shape = pixels_of(x);
  const std::size_t channels = shape.channels;
  require_shape(gradient, "gradient", sizes_of(shape));
  require_channels(spread, "spread", channels);
  require_channels(scale_gradient, "scale_gradient", channels);
  require_channels(shift_gradient, "shift_gradient", channels);
  const auto given = normalisation_of(by, channels);
  float *to = x.mutable_data(), *scale = scale_gradient.mutable_data();
  float* shift = shift_gradient.mutable_data();
  const float* came = gradient.data();
  const double* s = spread.data();
  py::gil_scoped_release release;
  const pyattr::Scratch<double> sums(2 * channels);
  const pyattr::Scratch<float> scratch(2 * channels);
  pyattr::normalise_backward(to, shape.rows(), channels, given, s, came, sums.get(), scratch.get(),
                             scale, shift);
}

}  // namespace

void bind_normalise(py::module_& m) {
  m.def("rectify", &bind_rectify, py::arg("x").noconvert(), py::arg("by").noconvert(),
        py::arg("bypass").noconvert(), py::arg("out").noconvert());
  m.def("rectify_halved", &bind_rectify_halved, py::arg("x").noconvert(), py::arg("by").noconvert(),
        py::arg("out").noconvert());
  m.def("scatter_halved", &bind_scatter_halved, py::arg("x").noconvert(), py::arg("by").noconvert(),
        py::arg("gradient").noconvert(), py::arg("out").noconvert());
  m.def("take_moments", &bind_take_moments, py::arg("x").noconvert(), py::arg("scale").noconvert(),
        py::arg("shift").noconvert(), py::arg("epsilon"), py::arg("momentum"),
        py::arg("mean").noconvert(), py::arg("variance").noconvert(), py::arg("by").noconvert(),
        py::arg("spread").noconvert());
  m.def("normalise_backward", &bind_normalise_backward, py::arg("x").noconvert(),
        py::arg("by").noconvert(), py::arg("spread").noconvert(), py::arg("gradient").noconvert(),
        py::arg("scale_gradient").noconvert(), py::arg("shift_gradient").noconvert());
}

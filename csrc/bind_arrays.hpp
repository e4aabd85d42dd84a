// What all bindings say of arrays: taken as they are (C order, exact dtype) or refused, never
// converted.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>
#include <vector>

#include "ranges.hpp"

namespace py = pybind11;

namespace pyattr {
namespace binding {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

typedef std::vector<std::size_t> Shape;

inline std::string text_of(const Shape& shape) {
  std::string text;
  for (std::size_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

inline Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

[[noreturn]] inline void refuse(const char* name, const std::string& expected,
                                const std::string& got) {
  throw py::value_error(std::string(name) + ": expected " + expected + ", got " + got);
}

inline void require(bool holds, const char* message) {
  if (!holds) throw py::value_error(message);
}

inline void require_shape(const py::array& array, const char* name, const Shape& shape) {
  const Shape given = shape_of(array);
  if (given != shape) refuse(name, "shape " + text_of(shape), text_of(given));
}

inline std::size_t size_of(const py::array& array, int axis) {
  return static_cast<std::size_t>(array.shape(axis));
}

inline Range range_within(std::size_t begin, std::size_t end, std::size_t size) {
  require(begin <= end && end <= size, "range: expected 0 <= begin <= end <= size, got another");
  return {begin, end};
}

}  // namespace binding
}  // namespace pyattr

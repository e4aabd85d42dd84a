// Device arrays of Python: ours, and those of others by their __cuda_array_interface__.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bind_arrays.hpp"
#include "device_memory.hpp"

namespace pyattr {
namespace binding {

using cuda::DeviceMemory;

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

inline Shape shape_of(const py::tuple& sizes) {
  Shape shape;
  for (const auto& size : sizes) shape.push_back(py::cast<std::size_t>(size));
  return shape;
}

inline std::size_t size_of(const Shape& shape) {
  std::size_t size = 1;
  for (std::size_t length : shape) size *= length;
  return size;
}

inline DeviceArray empty(const Shape& shape, const py::dtype& dtype) {
  const std::size_t n_bytes = size_of(shape) * static_cast<std::size_t>(dtype.itemsize());
  std::shared_ptr<DeviceMemory> memory;
  {
    py::gil_scoped_release release;
    memory = std::make_shared<DeviceMemory>(n_bytes);
  }
  return {memory, shape, dtype};
}

inline DeviceArray from_host(const py::array& values) {
  const py::array array = py::array::ensure(values, py::array::c_style);
  DeviceArray result = empty(shape_of(array), array.dtype());
  {
    const void* host = array.data();
    py::gil_scoped_release release;
    result.memory->write(host);
  }
  return result;
}

inline py::array to_host(const DeviceArray& array) {
  py::array result(array.dtype, std::vector<py::ssize_t>(array.shape.begin(), array.shape.end()));
  {
    void* host = result.mutable_data();
    py::gil_scoped_release release;
    array.memory->read(host);
  }
  return result;
}

inline DeviceArray copy_of(const DeviceArray& array) {
  DeviceArray result = empty(array.shape, array.dtype);
  {
    py::gil_scoped_release release;
    result.memory->take(*array.memory);
  }
  return result;
}

inline py::dict interface_of(const DeviceArray& array) {
  py::dict result;
  result["shape"] = py::tuple(py::cast(array.shape));
  result["typestr"] = array.dtype.attr("str");
  result["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(array.memory->get()), false);
  result["strides"] = py::none();
  result["version"] = 3;
  result["stream"] = 1;  // the default stream, on which the last launch may still run
  return result;
}

// The address of a device array of this dtype and shape, in C order: ours or another library's.
// Kernels that read wider words than T need an address that is a multiple of those.
template <typename T>
T* device_data(const py::object& object, const char* name, const Shape& shape,
               std::size_t alignment = alignof(T)) {
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
  if (address % alignment != 0)
    refuse(name, "an address that is a multiple of " + std::to_string(alignment) + " bytes",
           "another");
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
    const Shape given = shape_of(array);
    if (given != shape) refuse(name, "shape " + text_of(shape), text_of(given));
    copy_ = from_host(array);
    data_ = copy_->data<float>();
  }
  const float* data() const { return data_; }

 private:
  std::optional<DeviceArray> copy_;
  const float* data_;
};

}  // namespace binding
}  // namespace pyattr

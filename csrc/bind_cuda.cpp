// pyattr._cuda: registers the CUDA kernels, with the signatures of pyattr._cpu, and in
// bind_device.cpp and bind_device_solvers.cpp what keeps its arrays on the device.
// The CPU kernels that these headers hold too are not used here.
#pragma GCC diagnostic ignored "-Wunused-function"

#include "cuda_kernels.hpp"

namespace backend = pyattr::cuda;

#include "bind_kernels.hpp"

void bind_device(py::module_& m);          // bind_device.cpp
void bind_device_solvers(py::module_& m);  // bind_device_solvers.cpp

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of pyattr. Use pyattr.kernels; the definitions are in pyattr.reference.";
  bind_kernels(m);
  m.def("device_count", &pyattr::cuda::device_count_of_runtime);
  bind_device(m);
  bind_device_solvers(m);
}

// pyattr._cuda: registers the CUDA kernels, with the signatures of pyattr._cpu.
// The CPU kernels that these headers hold too are not used here.
#pragma GCC diagnostic ignored "-Wunused-function"

#include "cuda_kernels.hpp"

namespace backend = pyattr::cuda;

#include "bind_kernels.hpp"

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of pyattr. Use pyattr.kernels; the definitions are in pyattr.reference.";
  bind_kernels(m);
  m.def("device_count", &pyattr::cuda::device_count_of_runtime);
}

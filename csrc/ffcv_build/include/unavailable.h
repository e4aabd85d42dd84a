// FFCV's compiled part resizes images with OpenCV and decodes JPEG with libjpeg-turbo. pyattr reads
// raw images of one size, which reach neither, so FFCV is built without the two libraries: these
// headers declare the names that its source uses, and every call ends the process with a message.
#pragma once

#include <stdio.h>
#include <stdlib.h>

[[noreturn]] static inline void ffcv_built_without(const char* library) {
  fprintf(
      stderr,
      "FFCV was built without %s, for raw images only. To use it with JPEG or resizing, install "
      "OpenCV and libjpeg-turbo and build FFCV without PKG_CONFIG_PATH.\n",
      library);
  abort();
}

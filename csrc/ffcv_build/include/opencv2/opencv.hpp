// Stands in for OpenCV while FFCV is built: the names that FFCV's source uses, no images.
#pragma once

#include <stdint.h>

#include "../unavailable.h"

#define CV_8UC3 16

namespace cv {

enum { INTER_AREA = 3 };

struct Size {};

struct Mat {
  Mat(int64_t, int64_t, int, void*) {}
  Mat colRange(int64_t, int64_t) const { return *this; }
  Mat rowRange(int64_t, int64_t) const { return *this; }
  Size size() const { return Size(); }
};

static inline void resize(const Mat&, const Mat&, Size, double, double, int) {
  ffcv_built_without("OpenCV");
}

}  // namespace cv

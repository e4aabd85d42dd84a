// Stands in for libjpeg-turbo while FFCV is built: the names that FFCV's source uses, no JPEG.
#pragma once

#include "unavailable.h"

typedef void* tjhandle;

struct tjregion {
  int x, y, w, h;
};

struct tjtransform {
  tjregion r;
  int op;
  int options;
};

struct tjscalingfactor {
  int num, denom;
};

enum { TJXOP_HFLIP = 1, TJXOPT_CROP = 4, TJPF_RGB = 0 };
enum { TJFLAG_NOREALLOC = 1024, TJFLAG_FASTDCT = 2048 };

#define TJSCALED(dimension, factor) \
  (((dimension) * (factor).num + (factor).denom - 1) / (factor).denom)

static inline tjhandle tjInitTransform() { ffcv_built_without("libjpeg-turbo"); }

static inline tjhandle tjInitDecompress() { ffcv_built_without("libjpeg-turbo"); }

static inline int tjTransform(tjhandle, const unsigned char*, unsigned long, int, unsigned char**,
                              unsigned long*, tjtransform*, int) {
  ffcv_built_without("libjpeg-turbo");
}

static inline int tjDecompress2(tjhandle, const unsigned char*, unsigned long, unsigned char*, int,
                                int, int, int, int) {
  ffcv_built_without("libjpeg-turbo");
}

static inline void tjFree(unsigned char*) { ffcv_built_without("libjpeg-turbo"); }

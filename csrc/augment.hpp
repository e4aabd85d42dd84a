// Augmentation of a batch of images: flip, then shift, then cut a square out.
//
//   images (n_images, height, width, pixel)   pixel = channels * bytes of an element
//   rows   (n_batch,)                         which image each output is made of
//   draws  (n_batch, 5)                       flip (0 or 1), dy, dx, top, left
//   fill   (pixel,)                           what stands where there is no image
//   out    (n_batch, height, width, pixel)
//
//   out[b, y, x] = fill                       where top <= y < top + square, left <= x < left +
//   square
//                = flipped[y + dy, x + dx]    else, fill beyond the image's edge
//   flipped[y, x] = images[rows[b], y, width - 1 - x] if flip, else images[rows[b], y, x]
//
// Pixels are moved, never computed with: exact for every element type. The definition is
// pyattr.reference.augment_images. |dy| < height and |dx| < width; the caller checks all numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pyattr {

struct ImageShape {
  std::size_t height, width, pixel;  // pixel in bytes
  std::size_t row() const { return width * pixel; }
  std::size_t size() const { return height * row(); }
};

constexpr std::size_t kAugmentDraws = 5;

// Copies n pixels of Pixel bytes, the last of `from` first.
template <std::size_t Pixel>
static void copy_reversed(const std::uint8_t* from, std::size_t n, std::uint8_t* to) {
  for (std::size_t x = 0; x < n; ++x)
    std::memcpy(to + x * Pixel, from + (n - 1 - x) * Pixel, Pixel);
}

static void copy_reversed(const std::uint8_t* from, std::size_t n, std::size_t pixel,
                          std::uint8_t* to) {
  switch (pixel) {  // grey and colour of 1 and 4 bytes an element: sizes known when compiled
    case 1:
      return copy_reversed<1>(from, n, to);
    case 3:
      return copy_reversed<3>(from, n, to);
    case 4:
      return copy_reversed<4>(from, n, to);
    case 12:
      return copy_reversed<12>(from, n, to);
    default:
      for (std::size_t x = 0; x < n; ++x)
        std::memcpy(to + x * pixel, from + (n - 1 - x) * pixel, pixel);
  }
}

// One image. `filled` is a row of width fill pixels.
static void augment_image(const std::uint8_t* image, const std::int32_t* draw, std::size_t square,
                          const std::uint8_t* filled, ImageShape shape, std::uint8_t* out) {
  const auto height = static_cast<std::ptrdiff_t>(shape.height);
  const auto width = static_cast<std::ptrdiff_t>(shape.width);
  const bool flip = draw[0] != 0;
  const std::ptrdiff_t dy = draw[1], dx = draw[2];
  // Columns begin <= x < end come from the image, n of them from source column `first` on.
  const std::ptrdiff_t begin = dx < 0 ? -dx : 0, end = dx > 0 ? width - dx : width;
  const std::ptrdiff_t n = end - begin, first = flip ? width - end - dx : begin + dx;
  const std::size_t pixel = shape.pixel, row = shape.row();
  for (std::ptrdiff_t y = 0; y < height; ++y) {
    std::uint8_t* o = out + static_cast<std::size_t>(y) * row;
    if (y + dy < 0 || y + dy >= height) {
      std::memcpy(o, filled, row);
      continue;
    }
    const std::uint8_t* from =
        image + static_cast<std::size_t>(y + dy) * row + static_cast<std::size_t>(first) * pixel;
    std::uint8_t* to = o + static_cast<std::size_t>(begin) * pixel;
    if (flip)
      copy_reversed(from, static_cast<std::size_t>(n), pixel, to);
    else
      std::memcpy(to, from, static_cast<std::size_t>(n) * pixel);
    std::memcpy(o, filled, static_cast<std::size_t>(begin) * pixel);
    std::memcpy(o + static_cast<std::size_t>(end) * pixel, filled,
                static_cast<std::size_t>(width - end) * pixel);
  }
  const auto top = static_cast<std::size_t>(draw[3]), left = static_cast<std::size_t>(draw[4]);
  for (std::size_t y = top; y < top + square; ++y)
    std::memcpy(out + y * row + left * pixel, filled, square * pixel);
}

static void augment_images(const std::uint8_t* images, const std::int32_t* rows,
                           const std::int32_t* draws, std::size_t square,
                           const std::uint8_t* filled, ImageShape shape, std::size_t begin,
                           std::size_t end, std::uint8_t* out) {
  for (std::size_t b = begin; b < end; ++b)
    augment_image(images + static_cast<std::size_t>(rows[b]) * shape.size(),
                  draws + b * kAugmentDraws, square, filled, shape, out + b * shape.size());
}

}  // namespace pyattr

"""Augmentation of images that stay on a device: the bytes of `pyattr.augmentation.augment_images`."""

from __future__ import annotations

import torch

__all__ = ["augment_tensor"]


def augment_tensor(
    images: torch.Tensor,
    rows: torch.Tensor,
    draws: torch.Tensor,
    square: int,
    fill: torch.Tensor,
) -> torch.Tensor:
    """Gather images and flip, shift and cut a square out of each, by operations that a graph can hold.

    Parameters
    ----------
    images : (n_images, height, width, channels) uint8 or float32
    rows : (n_batch,) int64
    draws : (n_batch, 5) int
        As `pyattr.augmentation.augment_images` takes them.
    square : int
    fill : (channels,), of the dtype of `images`

    Returns
    -------
    (n_batch, height, width, channels), of the dtype of `images`
        Exact. No value is read back from the device.
    """
    _, height, width, channels = images.shape
    flip, dy, dx, top, left = draws.to(torch.int64).unbind(1)
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    from_y, from_x = y + dy[:, None], x + dx[:, None]  # (n_batch, height), (n_batch, width)
    outside_y, outside_x = (from_y < 0) | (from_y >= height), (from_x < 0) | (from_x >= width)
    from_x = torch.where(flip[:, None] != 0, width - 1 - from_x, from_x).clamp(0, width - 1)
    from_y = from_y.clamp(0, height - 1)
    pixel = (rows[:, None] * height + from_y)[:, :, None] * width + from_x[:, None, :]
    gathered = images.view(-1, channels).index_select(0, pixel.view(-1))
    cut_y = (y >= top[:, None]) & (y < top[:, None] + square)
    cut_x = (x >= left[:, None]) & (x < left[:, None] + square)
    filled = outside_y[:, :, None] | outside_x[:, None, :] | (cut_y[:, :, None] & cut_x[:, None, :])
    shape = (len(rows), height, width, channels)
    return torch.where(filled[..., None], fill, gathered.view(shape))

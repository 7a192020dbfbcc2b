"""Kernels of pixel pairs: the (P, Q, P, Q) tensor of a network without readout, as a matrix."""

from workers.kernels.pixels.kernel import PixelKernel
from workers.kernels.pixels.plan import PixelPlan, check_pixel_kernel, pixel_plan

__all__ = ["PixelKernel", "PixelPlan", "check_pixel_kernel", "pixel_plan"]

"""Fast cores of convolutional kernels: the recursion on planes of equal pixel offset."""

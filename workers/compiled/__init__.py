"""How loops are compiled (numba), for kernels and for solves alike."""

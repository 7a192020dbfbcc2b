"""Convolutional kernels: networks whose samples are images or sequences.

`layers.py`, `structure.py`, `geometry.py`, `representation.py` and `cost.py` describe and do not
import JAX; the others compute.
"""

"""Chains of dense layers as polynomials of the correlation, for float32 results on CPUs.

`fit.py` interpolates the pair map of an activation for rows of given deviations; `network.py` does
so for the layers of a network and the rows of two panels; `stack.py` lays the numbers out for the
compiled loops of `core.py`.
"""

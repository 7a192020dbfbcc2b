"""Predictions for new inputs: K(X*, X) times dual coefficients, tile by tile, K never stored."""

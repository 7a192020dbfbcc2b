"""Analyses of Gram matrices and of kernels on spheres: one file each, see README.md."""

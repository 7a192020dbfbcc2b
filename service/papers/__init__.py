"""The experiments of the papers, on real data, next to the published numbers: see README.md."""

"""The task types: one file each, listed in `service/jobs/registry.py`."""

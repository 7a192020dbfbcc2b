"""Flags in the store that tell the work of one run of a job to stop.

A run is one time that a service took the job up. Its own service writes the flag when the run has
to stop; a service that takes the job over from one that went silent writes it for what that one may
still have in the workers. Whoever can write tiles can see the flag, also a worker that the
scheduler has lost.
"""

from __future__ import annotations

from storage.blobs import BlobStore

STOPS_FOLDER = "stops"


def run_name(job_id: str, attempts: int) -> str:
    """The run that began when the job was taken up for the `attempts`-th time."""
    return f"{job_id}/{attempts}"


def stop_key(run: str) -> str:
    return f"{STOPS_FOLDER}/{run}"


def stop_earlier_run(blobs: BlobStore, job_id: str, attempts: int) -> None:
    """Tell the run before this one to stop, wherever it still runs."""
    if attempts > 1:
        blobs.put(stop_key(run_name(job_id, attempts - 1)), b"stop")


def forget_runs(blobs: BlobStore, job_id: str) -> None:
    """Remove the flags of a job whose result is sealed: no run can change it any more."""
    blobs.delete_prefix(f"{STOPS_FOLDER}/{job_id}")

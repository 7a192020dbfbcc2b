"""The result of an experiment as `gramian paper` leaves it, without running one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.papers.figure import Curve, Panel
from service.papers.report import Comparison, Report, Table, write
from service.papers.results import FOLDER

EXPERIMENT = "unit-circle"


def leave_result(data_dir: Path, title: str = "NTK on the unit circle") -> Report:
    """Write a small result into the data folder of a service."""
    x = np.linspace(-3.0, 3.0, 7)
    report = Report(
        name=EXPERIMENT,
        title=title,
        source="Jacot et al. 2018, figures 1 and 2",
        comparisons=(Comparison("spread of the widest networks", "small", "0.031"),),
        table=Table(("angle", "limit", "note"), ((-3.0, 0.25, None), (1e-9, 1.5, "<b>top</b>"))),
        differences=("Fewer networks than in the paper.",),
        panels=(Panel("kernel", "angle", "value", (Curve("limit", x, np.cos(x)),)),),
        settings={"points": 7, "seed": 0},
    )
    write(report, data_dir / FOLDER)
    return report

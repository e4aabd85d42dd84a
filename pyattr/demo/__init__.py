"""The demo: a prover, honest and with eight lies, against three verifiers, on real data.

`run` trains everything and returns plain JSON values; `save` writes them and the report.
"""

from __future__ import annotations

from pyattr.demo.config import DemoConfig
from pyattr.demo.experiment import SCHEMA, Progress, dataset_of, run
from pyattr.demo.files import check_out, save
from pyattr.demo.table import table

__all__ = ["SCHEMA", "DemoConfig", "Progress", "check_out", "dataset_of", "run", "save", "table"]

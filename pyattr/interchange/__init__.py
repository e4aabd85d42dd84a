"""Files and arguments of other tools: what they recorded comes in, scores and models go out.

In: the stores and weights of MadryLab's datamodels, TRAK's scores, Feldman and Zhang's influence and
runs. Out: npz, stores, and what dattri, quanda and pyDVL are called with. Pandas and xarray:
`Attribution.to_dataframe`, `Attribution.to_xarray`. Safetensors: `Attribution.save`.
"""

from __future__ import annotations

from pyattr.interchange.bank_rows import store_in_bank
from pyattr.interchange.datamodels import (
    read_datamodels_arrays,
    read_datamodels_store,
    read_datamodels_weights,
    write_datamodels_store,
)
from pyattr.interchange.dattri import dattri_lds_arguments, dattri_scores
from pyattr.interchange.feldman_zhang import Influence, read_influence, read_memorization
from pyattr.interchange.heldout_runs import read_heldout_runs, read_stacked_runs
from pyattr.interchange.npz import read_npz, write_npz
from pyattr.interchange.pydvl import pydvl_arguments
from pyattr.interchange.quanda import quanda_explanations, quanda_subsets
from pyattr.interchange.recorded_models import RecordedModels
from pyattr.interchange.trak import read_trak_scores

__all__ = [
    "Influence",
    "RecordedModels",
    "dattri_lds_arguments",
    "dattri_scores",
    "pydvl_arguments",
    "quanda_explanations",
    "quanda_subsets",
    "read_datamodels_arrays",
    "read_datamodels_store",
    "read_datamodels_weights",
    "read_heldout_runs",
    "read_influence",
    "read_memorization",
    "read_npz",
    "read_stacked_runs",
    "read_trak_scores",
    "store_in_bank",
    "write_datamodels_store",
    "write_npz",
]

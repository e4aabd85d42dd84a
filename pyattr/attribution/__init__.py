"""Attribution: what each training example does to each output of a model.

All estimators return an `Attribution`; `quality` measures how good one is.
"""

from __future__ import annotations

from pyattr.attribution.datamodel import fit_datamodel
from pyattr.attribution.estimators import fit_statistics
from pyattr.attribution.fixed_point import FixedPointScale
from pyattr.attribution.influence import Memorization, empirical_influence, memorization
from pyattr.attribution.leave_one_out import leave_one_out
from pyattr.attribution.quality import held_out_r2, lds, lds_ceiling, mislabel_auc
from pyattr.attribution.result import Attribution, load_attribution
from pyattr.attribution.statistics import SufficientStatistics

__all__ = [
    "Attribution",
    "FixedPointScale",
    "Memorization",
    "SufficientStatistics",
    "empirical_influence",
    "fit_datamodel",
    "fit_statistics",
    "held_out_r2",
    "lds",
    "lds_ceiling",
    "leave_one_out",
    "load_attribution",
    "memorization",
    "mislabel_auc",
]

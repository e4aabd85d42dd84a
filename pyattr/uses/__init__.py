"""What verified scores are for: paying sellers and choosing data.

`price` and `select` take scores together with the verdict that accepted them, and refuse others unless
told otherwise. `Certificate` keeps that verdict in a file, bound to the scores.
"""

from pyattr.uses.certificate import Certificate, load_certificate
from pyattr.uses.lies import LieCosts, lie_costs
from pyattr.uses.pricing import Payments, price
from pyattr.uses.retrained import Measured, measure_selection
from pyattr.uses.selection import Selection, select
from pyattr.uses.session_record import certificate_of_session
from pyattr.uses.values import SummedRetrain, summed

__all__ = [
    "Certificate",
    "LieCosts",
    "Measured",
    "Payments",
    "Selection",
    "SummedRetrain",
    "certificate_of_session",
    "lie_costs",
    "load_certificate",
    "measure_selection",
    "price",
    "select",
    "summed",
]

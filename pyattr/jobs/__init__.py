"""Jobs: a file that says what to train and to fit, and what runs it."""

from pyattr.jobs.check import Check
from pyattr.jobs.job import Job
from pyattr.jobs.job_file import load_job
from pyattr.jobs.results import attribute
from pyattr.jobs.source import Source, training_of
from pyattr.jobs.training import train

__all__ = ["Check", "Job", "Source", "attribute", "load_job", "train", "training_of"]

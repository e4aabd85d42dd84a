"""Commands of `pyattr` for sessions between two parties."""

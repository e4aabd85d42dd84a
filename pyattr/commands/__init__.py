"""The subcommands of `pyattr`, a module a subject; `pyattr.cli` puts them together."""

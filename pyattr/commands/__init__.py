"""The subcommands of `pyattr`, a module each; `pyattr.cli` puts them together."""

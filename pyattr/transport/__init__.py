"""Sessions kept in files: the directory of a session, the δ ledger, and what is trained."""

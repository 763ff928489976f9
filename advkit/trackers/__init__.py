"""Where the results of a sweep are told while it runs: one file per service."""

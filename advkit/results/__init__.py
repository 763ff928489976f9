"""Facts per example, and what is derived from them: statistics, tables, files, figures."""

"""The peers are imported here once, with their own deprecation warnings silenced."""

import contextlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import foolbox  # noqa: F401

    with contextlib.suppress(ImportError):
        import torchattacks  # noqa: F401

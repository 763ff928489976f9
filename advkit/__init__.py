"""advkit: adversarial robustness research toolkit."""

from pathlib import Path

# attacks/ and defenses/ lie beside this folder in a checkout and inside it once installed. Python started in the root of a
# checkout finds this folder first, whatever is installed, and must find the other two through it.
if (_checkout := Path(__file__).parent.parent).joinpath("attacks", "pgd.py").is_file():
    __path__.append(str(_checkout))

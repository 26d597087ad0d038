"""What the tests of the package have already: servers, and ports that are free."""

import importlib.util
from pathlib import Path

_PLACE = Path(__file__).parents[2] / "bindings" / "python" / "tests" / "mongod.py"


def _load():
    spec = importlib.util.spec_from_file_location("compat_mongod", _PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mongod = _load()

"""The same package as `unified_scheduler_engine`, under the name that is typed more often.

A program that has a `unified_scheduler.py` of its own gets that one; it imports from the other name.
"""

from unified_scheduler_engine import *  # noqa: F403
from unified_scheduler_engine import __all__ as __all__
from unified_scheduler_engine import __version__ as __version__

"""The table of defects in the README names tests that there are, and every defect within these levels."""

import re

from running import HERE

#: Those of the HTTP routes, which stay the backend's own.
ELSEWHERE = {18, 19, 20}

FOLDERS = (HERE, HERE.parents[1] / "bindings" / "python" / "tests" / "compat")


def test_the_table_of_defects_is_complete_and_true():
    rows = re.findall(r"^\| D(\d+) \| (.*) \|$", (HERE / "README.md").read_text(), re.M)
    table = {int(number): re.findall(r"`(test_\w+)`", tests) for number, tests in rows}
    assert table.keys() == set(range(1, 30)) - ELSEWHERE
    sources = [path.read_text() for folder in FOLDERS for path in folder.glob("test_*.py")]
    defined = set(re.findall(r"def (test_\w+)\(", "\n".join(sources)))
    for number, tests in table.items():
        assert set(tests) <= defined, f"D{number}"
    named = {name for name in defined if re.match(r"test_d\d\d_", name)}
    assert named <= {name for tests in table.values() for name in tests}

"""Some seconds of `make soak`: everything that people can do, all at once, and nothing is left of it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "soak"))

from soak import soak  # noqa: E402


def test_what_people_use_is_given_back():
    counts, failures, grown, table = soak(8, share=0, warm=6)
    assert not failures, failures[:10]
    assert not [line for line in grown if " memory:" not in line], (grown, table)
    assert all(counts.get(name) for name in ("Writer", "Tab", "Vanisher", "Reader", "Analyst", "Importer",
                                             "Visitor", "Insider")), counts

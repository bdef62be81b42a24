"""Tests of one `xdist_group` share a machine's only node, ports or images: one process runs them all."""

import pytest


@pytest.mark.xdist_group("held")
def test_tests_of_a_group_are_kept_in_one_process(request: pytest.FixtureRequest) -> None:
    if not hasattr(request.config, "workerinput"):
        pytest.skip("these tests run in one process")
    assert request.node.nodeid.endswith("@held")

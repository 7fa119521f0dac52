"""What all tests share: where Room-to-Room's data is, and that its tests are not skipped where it is at hand."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / 'shared' / 'data'


def pytest_configure(config):
    "The data folder beside the checkout is used unless NL_IRL_DATA names another."
    if BESIDE.is_dir(): os.environ.setdefault('NL_IRL_DATA', str(BESIDE))


def pytest_collection_modifyitems(items):
    "Without a data folder tests marked `r2r` are skipped; with one they run, and fail where it lacks something."
    from nl_irl.data import VARIABLE, data_folder

    if os.environ.get(VARIABLE) or data_folder().is_dir(): return
    for item in items:
        if item.get_closest_marker('r2r'):
            item.add_marker(pytest.mark.skip(reason=f'no data folder: set {VARIABLE} or fill {data_folder()}; `nl-irl data` says how'))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "A skipped Room-to-Room test is a failure where the data lies beside the checkout."
    outcome = yield
    report = outcome.get_result()
    if BESIDE.is_dir() and item.get_closest_marker('r2r') and report.skipped:
        report.outcome, report.longrepr = 'failed', f'{item.nodeid} was skipped, although {BESIDE} is there'

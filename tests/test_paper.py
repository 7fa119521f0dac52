"""What the repository keeps of runs: every record is a row of a plan, tables are what the records give, and a figure has the same bytes at a second build."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nl_irl.experiment import find_experiment, notebook_parameters
from nl_irl.records import changed_parameters, of_cells, read_records
from nl_irl.sweeps import read_sweep

ROOT = Path(__file__).parents[1]
PLANS = sorted((ROOT/'figures'/'plans').glob('*.yaml'))


def cells_of_all(): return [cell for plan in PLANS for cell in read_sweep(plan)]


def test_plans_lead_to_their_scales():
    assert {plan.name.split('-')[0] for plan in PLANS} == {'smoke', 'houses', 'r2r'}
    folders = [cell.folder for cell in cells_of_all()]
    assert len(set(folders)) == len(folders), 'two cells write to one folder'


def test_every_record_is_a_row_of_a_plan():
    records = read_records(ROOT/'figures'/'data')
    found = [r.file for _, r in of_cells(records, cells_of_all()) if r]
    assert sorted(found) == sorted(r.file for r in records)
    for record in records:
        known = notebook_parameters(find_experiment(record.facts['experiment']))
        assert set(record.facts['parameters']) <= set(known), f'{record}: a parameter that the experiment has no more'
        assert record.facts['data'] and record.facts['git']['commit'] and {s.split('_')[0] for s in record.results.split} == {'val'}, record


def test_worlds_of_records_have_their_episodes():
    for record in read_records(ROOT/'figures'/'data'):
        (world,) = record.facts['data']
        known = pd.read_parquet(ROOT/'figures'/'data'/'worlds'/f'{world}.parquet')
        asked = record.results[['split', 'id']].drop_duplicates().astype(str)
        assert len(asked.merge(known, on=['split', 'id'])) == len(asked), record


def test_tables_are_what_the_records_give():
    done = subprocess.run([sys.executable, '.ci/paper.py', '--check'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_second_build_has_the_same_bytes(tmp_path):
    import papermill
    for name in ('one', 'two'):
        papermill.execute_notebook(ROOT/'nbs/experiments/paper/phrasing.ipynb', tmp_path/f'{name}.ipynb', {'out': str(tmp_path/name)},
                                   kernel_name='python3', language='python', progress_bar=False)
    made = sorted(p.name for p in (tmp_path/'one').iterdir())
    assert made == ['phrasing.md', 'phrasing.pdf', 'phrasing.png']
    assert all((tmp_path/'one'/name).read_bytes() == (tmp_path/'two'/name).read_bytes() for name in made)


@pytest.mark.parametrize('free', ['device', 'threads', 'data', 'brief', 'control'])
def test_where_a_run_ran_is_no_part_of_its_name(free):
    assert changed_parameters('method', {'seed': 3, free: 'other'}) == {'seed': 3}

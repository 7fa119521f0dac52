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
    "A skipped Room-to-Room test is a failure where the data lies beside the checkout, unless it is habitat-sim that is missing."
    outcome = yield
    report = outcome.get_result()
    if BESIDE.is_dir() and item.get_closest_marker('r2r') and report.skipped and 'habitat-sim is missing' not in str(report.longrepr):
        report.outcome, report.longrepr = 'failed', f'{item.nodeid} was skipped, although {BESIDE} is there'


@pytest.fixture
def one_thread():
    "torch in one thread, as it was before afterwards."
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def untrained(tmp_path_factory):
    "The folder of a finished run on tiny houses whose networks have learned nothing, with the walks of two agents."
    import dataclasses

    import pandas as pd
    import torch

    from nl_irl.benchmarks import load_benchmark, settings
    from nl_irl.environment import Environment
    from nl_irl.learned import keep
    from nl_irl.models.generator import GeneratorConfig, GoalGenerator
    from nl_irl.models.policy import Policy, PolicyConfig
    from nl_irl.models.reward import RouteReward
    from nl_irl.rollout import run_episodes, trajectory_table
    from nl_irl.runs import Recording, finish
    from nl_irl.text import build_vocabulary

    torch.manual_seed(0)
    bench, chosen = load_benchmark('houses', preset='tiny'), settings('houses', 'tiny')
    vocabulary = build_vocabulary(e.task.text for e in bench.splits['train'])
    sizes = dict(words=len(vocabulary), labels=len(bench.world.labels))
    goals = GoalGenerator(GeneratorConfig(**sizes, **chosen.generator))
    goals.know(bench.world.labels, vocabulary)
    policy = Policy(PolicyConfig(**sizes, **chosen.policy))
    tasks, env = [e.task for e in bench.splits['val_unseen'][:12]], Environment(bench.world)
    walk = lambda generator: run_episodes(policy, env, tasks, vocabulary, horizon=8, generator=generator)
    tables = [trajectory_table(env, tasks, walk(g)).assign(agent=agent, split='val_unseen')
              for agent, g in (('greedy', None), ('sampled', torch.Generator().manual_seed(0)))]
    run = Recording.create(tmp_path_factory.mktemp('runs')/'untrained', {'world': 'houses', 'preset': 'tiny'}, settings=dataclasses.asdict(chosen))
    for step in (10, 20): run.log(step, loss=1 / step, **{'dev/SR': step / 100})
    keep(run, vocabulary, policy=policy, reward=RouteReward(PolicyConfig(**sizes, **chosen.reward)), generator=goals)
    run.write_table('trajectories', pd.concat(tables, ignore_index=True))
    return finish(run).folder

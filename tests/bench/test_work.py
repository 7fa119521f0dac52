"""What daily work takes, beside doing it one by one: loading data, scoring, relabelling; adapting to a house, and a figure."""
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest

from nl_irl.adaptation import AdaptationConfig, adapt
from nl_irl.batches import batch_of, some
from nl_irl.benchmarks import load_benchmark
from nl_irl.data import VARIABLE, data_folder
from nl_irl.learned import open_run
from nl_irl.metrics import METRICS, SUCCESS
from nl_irl.plots.curves import learning_curve, save_figure
from nl_irl.relabel import relabel
from nl_irl.runs import Run
from nl_irl.scoring import score_paths

AGENT = Path(__file__).parents[2]/'nbs'/'tutorials'/'agent'
SCORED, WALKS = 2349, 256                      # as many as Room-to-Room's val_unseen has


@pytest.fixture(scope='module')
def agent(): return open_run(Run.open(AGENT))


@pytest.mark.parametrize('state', ['cold', 'warm'])
@pytest.mark.parametrize('world', ['houses', 'r2r'])
def test_loading(measure, monkeypatch, tmp_path, world, state):
    if world == 'r2r' and not data_folder().is_dir(): pytest.skip(f'no data of Room-to-Room: set {VARIABLE}')
    folders = iter(range(100))
    def load():
        if state == 'cold': monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path/str(next(folders))))
        load_benchmark(world, preset='full' if world == 'r2r' else 'demo')
    if state == 'warm': load()
    measure(load, f'loading {world}, {state}', rounds=2 if state == 'cold' else 5)


def warped(distances, path, asked):
    "DTW by its recurrence, as in the code beside the paper of Ilharco et al. (2019)."
    cost = np.full((len(path) + 1, len(asked) + 1), np.inf)
    cost[0, 0] = 0
    for i, a in enumerate(path):
        for j, b in enumerate(asked): cost[i + 1, j + 1] = distances[a][b] + min(cost[i, j + 1], cost[i + 1, j], cost[i, j])
    return cost[-1, -1]


def one_by_one(distances, lengths, episodes, paths):
    "All metrics as the field's scripts have them: a loop over episodes and their paths, with all distances in dictionaries."
    found, walk = [], lambda path: sum(lengths[a, b] for a, b in zip(path, path[1:]))
    for episode, path in zip(episodes, paths):
        asked, walked = episode.path, walk(path)
        far, least = distances[path[-1]][episode.goal], distances[path[0]][episode.goal]
        success, ndtw = far < SUCCESS, np.exp(-warped(distances, path, asked) / (SUCCESS * len(asked)))
        coverage = np.mean([np.exp(-min(distances[a][b] for a in path) / SUCCESS) for b in asked])
        expected = coverage * walk(asked)
        cls = coverage * expected / (expected + abs(expected - walked)) if expected + walked else coverage
        found.append((walked, far, success, min(distances[a][episode.goal] for a in path) < SUCCESS, success * least / max(walked, least) if least else success,
                      ndtw, success * ndtw, cls))
    return found


@pytest.mark.parametrize('who', ['nl_irl', 'one by one'])
def test_scoring(measure, agent, who):
    world = agent.bench.world
    episodes = agent.answered('train')[:SCORED]
    paths = [e.path for e in episodes]
    edges = {(world.ids[a], world.ids[b]): float(world.edge[a, k, 2]) for a in range(len(world.ids)) for k, b in enumerate(world.neighbor[a]) if b >= 0}
    graph = nx.Graph()
    graph.add_weighted_edges_from((a, b, metres) for (a, b), metres in edges.items())
    if who == 'nl_irl': run = lambda: score_paths(world, episodes, paths)
    else:
        distances = dict(nx.all_pairs_dijkstra_path_length(graph))
        run = lambda: one_by_one(distances, edges, episodes, paths)
        assert np.allclose(run(), score_paths(world, episodes, paths)[list(METRICS)], atol=1e-6)
    measure(run, 'scoring', who, amount=len(episodes), unit='trajectories', size=len(episodes))


@pytest.mark.parametrize('who', ['nl_irl', 'one by one'])
def test_relabelling(measure, agent, who):
    goals, env, shown = agent.network('generator'), agent.env, agent.answered('train')[:WALKS]
    walks = batch_of(env.world, shown, agent.vocabulary)
    parts = [walks] if who == 'nl_irl' else [some(walks, slice(k, k + 1)) for k in range(32)]
    measure(lambda: [relabel(goals, env, part) for part in parts], 'relabelling', who, amount=sum(len(p.target) for p in parts), unit='walks',
            size=WALKS, rounds=4)


def test_adapting(measure, agent):
    home = sorted({e.task.scan for e in agent.answered('val_unseen')})[:1]
    config = AdaptationConfig(explorer_updates=50, updates=40, reward_updates=15)
    measure(lambda: adapt(agent, home, config), 'adapting to one house, a tenth of the updates', rounds=3)


def test_figure(measure, agent, tmp_path):
    metrics = agent.run.metrics()
    scalar = next(c for c in metrics if c != 'step' and metrics[c].notna().sum() > 1)

    def draw():
        figure, ax = plt.subplots()
        learning_curve(metrics.dropna(subset=[scalar]), ax, [scalar])
        save_figure(figure, tmp_path, 'curve')
        plt.close(figure)
    measure(draw, 'a figure as PNG and PDF', rounds=4)

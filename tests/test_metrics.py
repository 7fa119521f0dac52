"""Metrics against a plain reading of their definitions, one episode at a time, on random graphs."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from nl_irl.metrics import METRICS, dtw, ndtw, pad, scores, without_repeats
from nl_irl.scoring import interval, score_paths, score_rows, summary
from nl_irl.types import Episode, Task
from nl_irl.worlds.tables import Scan, assemble

THRESHOLD = 3.0


def warp(prediction, reference, distance):
    "Dynamic time warping by its recurrence."
    cost = {(-1, -1): 0.0}
    for i, p in enumerate(prediction):
        for j, r in enumerate(reference):
            before = min(cost.get(c, math.inf) for c in ((i - 1, j), (i, j - 1), (i - 1, j - 1)))
            cost[i, j] = distance[p][r] + before
    return cost[len(prediction) - 1, len(reference) - 1]


def plain_scores(graph, distance, path, reference):
    "Every metric of one path, as the official scorer and the papers put it."
    path = [p for k, p in enumerate(path) if k == 0 or p != path[k - 1]]
    goal, length = reference[-1], lambda nodes: sum(graph.edges[e]['weight'] for e in zip(nodes, nodes[1:]))
    error, travelled, shortest = distance[path[-1]][goal], length(path), distance[path[0]][goal]
    success = error < THRESHOLD
    spl = (shortest / max(travelled, shortest) if shortest > 0 else float(travelled == 0)) if success else 0.0
    warped = math.exp(-warp(path, reference, distance) / (THRESHOLD * len(reference)))
    coverage = sum(math.exp(-min(distance[p][r] for p in path) / THRESHOLD) for r in reference) / len(reference)
    expected = coverage * length(reference)
    total = expected + abs(expected - travelled)
    return dict(TL=travelled, NE=error, SR=float(success), OSR=float(min(distance[p][goal] for p in path) < THRESHOLD), SPL=spl, nDTW=warped,
                SDTW=success * warped, CLS=coverage * (expected / total if total > 0 else 1.0))


def random_house(seed):
    "A connected random geometric graph with Euclidean weights, its distances, and the world of it."
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    position = rng.uniform(0, 8, (n, 3)) * [1, 1, 0.3]
    tree = [(i, int(rng.integers(i))) for i in range(1, n)]
    extra = [tuple(sorted(rng.choice(n, 2, replace=False).tolist())) for _ in range(n // 2)]
    graph = nx.Graph()
    for a, b in {tuple(sorted(e)) for e in tree + extra}: graph.add_edge(a, b, weight=float(np.linalg.norm(position[a] - position[b])))
    pairs = np.array([(x, y) for a, b in graph.edges for x, y in ((a, b), (b, a))])
    nothing = np.zeros((n, 36, 1), np.int16), np.zeros((n, 36, 1), np.float16)
    world = assemble('random', [Scan('h', [str(i) for i in range(n)], position, np.zeros(n), pairs)], [''], nothing)
    return rng, graph, dict(nx.all_pairs_dijkstra_path_length(graph)), world


def random_walk(rng, graph, start, most):
    "A walk from `start` of up to `most` moves, some of which stay."
    path = [start]
    for _ in range(int(rng.integers(0, most + 1))):
        path.append(path[-1] if rng.random() < 0.2 else int(rng.choice(list(graph[path[-1]]))))
    return path


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_scores_agree_with_the_definitions(seed):
    rng, graph, distance, world = random_house(seed)
    starts = rng.integers(len(graph), size=5).tolist()
    references = [[p for k, p in enumerate(w) if k == 0 or p != w[k - 1]] for w in (random_walk(rng, graph, s, 6) for s in starts)]
    paths = [random_walk(rng, graph, s, 12) for s in starts]
    episodes = [Episode(Task(f'{k}_0', 'h', str(r[0]), 0.0, 'Go.'), tuple(map(str, r))) for k, r in enumerate(references)]
    table = score_paths(world, episodes, [list(map(str, p)) for p in paths])
    for k, (path, reference) in enumerate(zip(paths, references)):
        expected = plain_scores(graph, distance, path, reference)
        for name in METRICS: assert table[name][k] == pytest.approx(expected[name], abs=1e-9), (name, path, reference)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_padding_never_counts(seed):
    "A batch scores as its episodes do alone."
    rng, graph, _, world = random_house(seed)
    starts = rng.integers(len(graph), size=4).tolist()
    paths = [list(map(str, random_walk(rng, graph, s, 15))) for s in starts]
    episodes = [Episode(Task(f'{k}_0', 'h', str(s), 0.0, 'Go.'), tuple(map(str, nx.shortest_path(graph, s, 0)))) for k, s in enumerate(starts)]
    together = score_paths(world, episodes, paths)[list(METRICS)].to_numpy()
    alone = np.concatenate([score_paths(world, [e], [p])[list(METRICS)].to_numpy() for e, p in zip(episodes, paths)])
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_a_reference_that_is_followed_is_perfect(seed):
    rng, graph, distance, world = random_house(seed)
    a, b = rng.integers(len(graph), size=2).tolist()
    path = tuple(map(str, nx.dijkstra_path(graph, a, b)))
    table = score_paths(world, [Episode(Task('1_0', 'h', str(a), 0.0, 'Go.'), path)], [path])
    assert table.loc[0, ['SR', 'OSR', 'nDTW', 'SDTW']].tolist() == [1, 1, 1, 1] and table.NE[0] == 0
    assert table.SPL[0] == pytest.approx(1) and table.CLS[0] == pytest.approx(1) and table.TL[0] == pytest.approx(distance[a][b])


def test_success_is_strictly_under_three_metres():
    "A goal exactly 3 m away is missed."
    nothing = np.zeros((2, 36, 1), np.int16), np.zeros((2, 36, 1), np.float16)
    for metres, success in ((3.0, 0), (2.999, 1)):
        world = assemble('pair', [Scan('h', ['a', 'b'], np.array([[0, 0, 0], [0, metres, 0]]), np.zeros(2), np.array([[0, 1], [1, 0]]))], [''], nothing)
        table = score_paths(world, [Episode(Task('1_0', 'h', 'a', 0.0, 'Go.'), ('a', 'b'))], [['a']])
        assert table.SR[0] == table.OSR[0] == success


def test_start_is_goal():
    "Standing still is perfect; a walk that returns has success but no efficiency."
    rng, graph, _, world = random_house(1)
    start, other = '0', str(next(iter(graph[0])))
    episode = Episode(Task('1_0', 'h', start, 0.0, 'Stay.'), (start,))
    table = score_paths(world, [episode] * 2, [[start], [start, other, start]])
    assert table.SR.tolist() == [1, 1] and table.SPL.tolist() == [1, 0] and table.CLS.tolist() == [1, 0] and table.nDTW[0] == 1 > table.nDTW[1]


def test_an_empty_batch_has_no_scores():
    _, _, _, world = random_house(2)
    rows, length = pad([])
    assert len(scores(np.zeros((0, 1, 1)), np.zeros((0, 0)), length, np.zeros((0, 0)), length)['SR']) == 0
    assert without_repeats(rows, length)[0].shape == (0, 1) and len(score_rows(world, [], rows, length)) == 0
    with pytest.raises(ValueError, match='no episodes'): summary(score_rows(world, [], rows, length))


def test_dtw_is_symmetric():
    "The route warped onto the reference costs what the reference warped onto the route does."
    rng = np.random.default_rng(3)
    distance, length, reference_length = rng.uniform(0, 9, (20, 7, 5)), rng.integers(1, 8, 20), rng.integers(1, 6, 20)
    np.testing.assert_allclose(dtw(distance, length, reference_length), dtw(distance.transpose(0, 2, 1), reference_length, length))
    assert ((ndtw(distance, length, reference_length) > 0) & (ndtw(distance, length, reference_length) <= 1)).all()


def test_the_interval_covers_its_mean():
    "Of 200 samples of clustered coins, about 95 % of the intervals hold the true mean."
    import pandas as pd

    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(dict(path_id=np.repeat(np.arange(60), 3), SR=np.repeat(rng.random(60) < 0.4, 3).astype(float)))
        low, high = interval(frame, 'SR', rng=rng, draws=400)
        held += low <= 0.4 <= high
    assert 180 <= held <= 199


def test_the_interval_covers_the_mean_of_other_seeds():
    "Ten seeds whose chances differ: about 95 % of the intervals hold the mean over all seeds; drawing paths alone, hardly any."
    import pandas as pd

    held = dict(crossed=0, paths=0)
    for trial in range(100):
        rng = np.random.default_rng(trial)
        chance = np.clip(rng.normal(.5, .1, 10), 0, 1)
        frame = pd.concat([pd.DataFrame(dict(seed=s, path_id=np.arange(200), SR=(rng.random(200) < p).astype(float))) for s, p in enumerate(chance)])
        for name, part in dict(crossed=frame, paths=frame.drop(columns='seed')).items():
            low, high = interval(part, 'SR', rng=rng, draws=300)
            held[name] += low <= .5 <= high
    assert held['crossed'] >= 85 and held['paths'] < .6 * held['crossed'], held

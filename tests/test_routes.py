"""Trees of routes and planning on generated houses: routes are shortest, what is not known is not used, and a search's walk adds up."""

import numpy as np
import pytest
import torch

from nl_irl.benchmarks import load_benchmark
from nl_irl.environment import Environment
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.models.reward import RouteReward
from nl_irl.planning import by_policy, by_reward, choose, search
from nl_irl.rollout import questions
from nl_irl.routes import shortest_routes, walks
from nl_irl.text import build_vocabulary
from nl_irl.worlds.mirror import mirror_episodes, with_mirror
from nl_irl.worlds.tables import distance_between, headings_along


@pytest.fixture(scope='module')
def bench(): return load_benchmark('houses', preset='tiny')


@pytest.fixture(scope='module')
def asked(bench):
    env = Environment(bench.world)
    vocabulary = build_vocabulary(e.task.text for e in bench.splits['train'])
    return env, vocabulary, questions(env, [e.task for e in bench.splits['val_unseen']], vocabulary)


def small(kind, vocabulary, world, seed=0):
    torch.manual_seed(seed)
    return kind(PolicyConfig(words=len(vocabulary), labels=len(world.labels), width=24, word_width=16, label_width=12, landmark_width=8))


def metres_of(world, path): return sum(float(distance_between(world, a, b)) for a, b in zip(path, path[1:]))


def test_routes_are_shortest_and_headings_those_of_the_walk(bench, asked):
    world, (_, _, q) = bench.world, asked
    routes = shortest_routes(world, q.start, q.heading, moves=9)
    for node in np.random.default_rng(0).choice(len(routes.depth), 200):
        path, k = routes.path(int(node)), routes.question[node]
        assert path[0] == q.start[k] and len(path) == routes.depth[node] + 1 <= 10
        assert np.isclose(metres_of(world, path), distance_between(world, path[0], path[-1]))
        assert np.isclose(headings_along(world, np.array(path), float(q.heading[k]))[-1], routes.heading[node], atol=1e-6)


def test_only_known_places_are_used(bench, asked):
    world, (_, _, q) = bench.world, asked
    full = shortest_routes(world, q.start, q.heading, moves=4)
    known = np.stack([np.resize(np.unique(full.viewpoint[full.question == k]), 60) for k in range(len(q.start))])
    again = shortest_routes(world, q.start, q.heading, moves=9, known=known)
    for k in range(len(q.start)):
        places = again.viewpoint[again.question == k]
        assert set(places) == set(known[k]) and len(set(places)) == len(places)


def test_a_demonstration_is_judged_alike_by_itself_and_among_others(bench, asked):
    world, (env, vocabulary, q) = bench.world, asked
    reward = small(RouteReward, vocabulary, world).eval()
    paths = [world.rows(e.path) for e in bench.splits['val_unseen']]
    length = np.array([len(p) for p in paths])
    block = np.stack([np.pad(p, (0, length.max() - len(p)), mode='edge') for p in paths])
    together = walks(world, block, length, q.heading, np.arange(len(paths)))
    with torch.no_grad():
        among = reward(reward.listen(q.tokens), env, together).numpy()
        for k in (0, 5, 11):
            alone = reward(reward.listen(q.tokens[k:k + 1]), env, walks(world, block[k:k + 1], length[k:k + 1], q.heading[k:k + 1], np.zeros(1, int)))
            assert np.allclose(among[together.tag == k], alone.numpy(), atol=1e-4)


def test_a_mirrored_house_offers_the_mirrored_routes(bench):
    world, episodes = with_mirror(bench.world), bench.splits['val_seen'][:8]
    here, there = episodes, mirror_episodes(episodes)
    starts = [(world.rows(e.task.start for e in some), np.array([e.task.heading for e in some])) for some in (here, there)]
    one, other = (shortest_routes(world, start, heading, moves=6) for start, heading in starts)
    assert np.array_equal(one.depth, other.depth) and np.array_equal(one.question, other.question)


@pytest.mark.parametrize('metres', [10., 60.])
def test_a_search_walks_along_edges_and_stops_at_its_best_route(bench, asked, metres):
    world, (env, vocabulary, q) = bench.world, asked
    policy, reward = small(Policy, vocabulary, world), small(RouteReward, vocabulary, world)
    found = search(policy, by_reward(reward, env), env, q, sure=float('inf'), metres=metres)
    for k, (path, route) in enumerate(zip(found.path, found.route)):
        assert all((world.neighbor[a] == b).any() for a, b in zip(path, path[1:])) and path[0] == route[0] == q.start[k]
        assert path[-1] == route[-1] and set(path) <= set(found.known[k])
        assert np.isclose(metres_of(world, path), found.metres[k], rtol=1e-4)
    at_once = search(policy, by_reward(reward, env), env, q, sure=-float('inf'), metres=metres)
    assert all(len(p) == 1 for p in at_once.path)


def test_a_choice_on_the_whole_map_is_a_choice_of_known_routes(bench, asked):
    world, (env, vocabulary, q) = bench.world, asked
    scorer = by_policy(small(Policy, vocabulary, world), env)
    every = np.stack([np.resize(np.flatnonzero(world.scan == world.scan[s]), 80) for s in q.start])
    assert all(np.array_equal(a, b) for a, b in zip(choose(scorer, world, q, moves=6), choose(scorer, world, q, moves=6, known=every, batch=7)))

"""The goal generator: saved and loaded, resumed, mirrored, fed with nothing and with nonsense; and whether z carries what was meant."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from nl_irl.batches import Batch, batch_of
from nl_irl.benchmarks import load_benchmark, settings
from nl_irl.environment import Environment
from nl_irl.models.generator import GeneratorConfig, GoalGenerator, marked
from nl_irl.relabel import Manner, relabel, rephrase, sample_goals
from nl_irl.routes import shortest_routes
from nl_irl.speaking import Speaking, SpeakingConfig, by_speaker, levels_of, tell
from nl_irl.text import UNKNOWN, build_vocabulary
from nl_irl.worlds.mirror import mirror_episodes, with_mirror

CHOSEN = settings('houses', 'tiny')


@pytest.fixture(scope='module')
def world():
    "Environment, batch, levels, vocabulary of the training routes of the tiny houses, their mirror images behind them."
    bench = load_benchmark('houses', preset='tiny')
    some, mirrored = bench.splits['train'], with_mirror(bench.world)
    vocabulary = build_vocabulary(e.task.text for e in some)
    episodes = (*some, *mirror_episodes(some))
    return Environment(mirrored), batch_of(mirrored, episodes, vocabulary), levels_of(episodes), vocabulary


def learner(world, seed: int = 0, **changes) -> Speaking:
    env, batch, level, vocabulary = world
    torch.manual_seed(seed)
    goals = GoalGenerator(GeneratorConfig(words=len(vocabulary), labels=len(env.world.labels), **CHOSEN.generator))
    goals.know(env.world.labels, vocabulary)
    return Speaking(goals, env, batch, level, replace(CHOSEN.speaking, **changes), rng=np.random.default_rng(seed))


def first(batch: Batch, n: int) -> Batch: return Batch(*(x[:n] for x in batch))


def test_saved_loaded_and_resumed_it_goes_on_with_the_same_bits(world):
    one, other, file = learner(world, 0), learner(world, 1), io.BytesIO()
    for _ in range(9): one.update()                                                       # how telling words are was looked at twice
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=False))
    torch.manual_seed(3)
    ahead = [one.update() for _ in range(8)]
    torch.manual_seed(3)
    assert ahead == [other.update() for _ in range(8)]
    for (name, x), (_, y) in zip(one.goals.state_dict().items(), other.goals.state_dict().items()): assert torch.equal(x, y), name
    assert one.goals.telling.any() and all(np.isfinite(list(row.values())).all() for row in ahead)


def test_a_learner_needs_demonstrations(world):
    env, batch, level, _ = world
    with pytest.raises(ValueError, match='no demonstration'):
        Speaking(learner(world).goals, env, first(batch, 0), level[:0], SpeakingConfig(), rng=np.random.default_rng())
    with pytest.raises(ValueError, match='shares hidden'): SpeakingConfig(hidden=1.)
    with pytest.raises(ValueError, match='vectors'): GoalGenerator(GeneratorConfig(words=9, labels=3, vectors=8))


def test_nothing_and_nonsense(world):
    env, batch, _, vocabulary = world
    goals, none, draw = learner(world).goals, first(batch, 0), torch.Generator().manual_seed(0)
    for told, nats in (relabel(goals, env, none), rephrase(goals, env, none, generator=draw), sample_goals(goals, env, none, 3, generator=draw)):
        assert len(told.tokens) == len(nats) == 0
    unknown = first(batch, 4)._replace(tokens=torch.full((4, 1), UNKNOWN))
    for told, nats in (relabel(goals, env, unknown, how=Manner(latent='posterior', words=9)), rephrase(goals, env, unknown, tries=2, generator=draw)):
        assert told.tokens.shape[0] == 4 and (told.tokens[:, 0] > 3).all() and torch.isfinite(nats).all()
    with pytest.raises(ValueError, match="level must be one of .* got 'rooute'"): relabel(goals, env, batch, level='rooute')
    for wrong in (dict(search='gready'), dict(latent='median'), dict(top_p=0.), dict(temperature=0.), dict(beams=0)):
        with pytest.raises(ValueError, match=str(list(wrong.values())[0])): Manner(**wrong)
    standing = first(batch, 2)._replace(viewpoint=batch.viewpoint[:2, :1], heading=batch.heading[:2, :1], action=torch.zeros(2, 1, dtype=torch.int64),
                                        target=torch.zeros(2, 1, dtype=torch.int64))
    assert (relabel(goals, env, standing, how=Manner(words=5))[0].tokens[:, 0] > 3).all()                                    # a walk without a move


def test_trajectories_keep_to_themselves(world):
    "What else is in a batch, and how it is padded, makes no difference; nor do the words that are there, unless the posterior reads them."
    env, batch, level, _ = world
    goals = learner(world).goals
    whole, nats = relabel(goals, env, first(batch, 40), level=level[:40], how=Manner(words=12))
    for size in (1, 7):
        parts, same = relabel(goals, env, first(batch, 40)._replace(tokens=torch.full((40, 3), UNKNOWN)), level=level[:40], how=Manner(words=12), size=size)
        assert torch.equal(whole.tokens, parts.tokens) and torch.allclose(nats, same, atol=1e-3)
    longer = torch.nn.functional.pad(batch.viewpoint[:40], (0, 3), value=int(batch.viewpoint[0, 0])), *(torch.nn.functional.pad(x[:40], (0, 3), value=v)
                                                                                                 for x, v in zip(batch[2:], (0., 0, -1)))
    assert torch.allclose(relabel(goals, env, Batch(batch.tokens[:40], *longer), level=level[:40], how=Manner(words=12))[1], nats, atol=1e-3)


def test_draws_depend_on_their_generator_alone(world):
    env, batch, _, _ = world
    goals, how = learner(world).goals, Manner('sampled', latent='sample', words=10)
    draw = lambda seed: relabel(goals, env, first(batch, 5), how=how, generator=torch.Generator().manual_seed(seed))[0].tokens
    one = draw(0)
    torch.manual_seed(9)
    assert torch.equal(one, draw(0)) and not torch.equal(one, draw(1))


@pytest.mark.parametrize('search', ['greedy', 'sampled', 'beam'])
def test_no_word_is_said_twice_in_a_row(search, world):
    env, batch, _, _ = world
    goals = learner(world).goals
    goals.eval()
    with torch.no_grad(): goals.teller.usual[5] += 50                          # a word that it would say for ever
    told = relabel(goals, env, first(batch, 6), how=Manner(search, words=8), generator=torch.Generator().manual_seed(0))[0].tokens
    assert (told == 5).any(1).all() and not ((told[:, 1:] == told[:, :-1]) & told[:, 1:].ne(0)).any()


def test_a_speaker_scores_every_route_of_a_tree(world):
    env, batch, _, _ = world
    goals, start, heading = learner(world).goals, batch.viewpoint[:2, 0].numpy(), batch.heading[:2, 0].numpy()
    tree = shortest_routes(env.world, start, heading, moves=4)
    nats = by_speaker(goals, env)(batch.tokens[:2], tree)
    assert nats.shape == tree.depth.shape and torch.isfinite(nats).all()
    assert torch.allclose(nats, by_speaker(goals, env, size=9)(batch.tokens[:2], tree), atol=1e-3)


def test_the_posterior_is_worth_its_nats(world):
    env, batch, level, vocabulary = world
    speaking = learner(world)
    for _ in range(3): speaking.update()
    copied = copy.deepcopy(speaking.goals).eval()
    told = tell(copied, env, first(batch, 8)._replace(tokens=marked(batch.tokens[:8], level[:8], len(vocabulary))))
    assert (told.kl >= 0).all() and torch.allclose(told.nats, told.word.sum(1)) and told.hit.shape == told.word.shape

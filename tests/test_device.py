"""The same code on the CPU and on a GPU: equal numbers from equal weights, and whole experiments; without a GPU, a clear error."""

import numpy as np
import pytest
import torch

from nl_irl.batches import batch_of
from nl_irl.benchmarks import load_benchmark, settings
from nl_irl.environment import Environment
from nl_irl.experiment import run_experiment
from nl_irl.models.generator import GeneratorConfig, GoalGenerator
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.models.reward import RouteReward
from nl_irl.planning import by_policy, by_reward
from nl_irl.relabel import relabel
from nl_irl.rollout import questions, rollout
from nl_irl.routes import shortest_routes
from nl_irl.speaking import by_speaker
from nl_irl.text import build_vocabulary

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(ValueError, match='device cuda: torch .* finds no GPU; nl-irl doctor'):
        Environment(load_benchmark('houses', preset='tiny').world, device='cuda')


@gpu
def test_networks_judge_walk_and_speak_alike():
    bench, found, chosen = load_benchmark('houses', preset='tiny'), {}, settings('houses', 'tiny')
    episodes = [e for e in bench.splits['train'] if e.level != 'segment'][:32]
    vocabulary, tasks = build_vocabulary(e.task.text for e in bench.splits['train']), [e.task for e in episodes]
    sizes, start = dict(words=len(vocabulary), labels=len(bench.world.labels)), bench.world.rows(t.start for t in tasks)
    kinds = (Policy, PolicyConfig, chosen.policy), (RouteReward, PolicyConfig, chosen.reward), (GoalGenerator, GeneratorConfig, chosen.generator)
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        policy, reward, goals = (network(config(**sizes, **given)).to(device).eval() for network, config, given in kinds)
        env = Environment(bench.world, device=device)
        asked, routes = questions(env, tasks, vocabulary), shortest_routes(bench.world, start, np.zeros(len(start), np.float32), moves=5)
        said, nats = relabel(goals, env, batch_of(bench.world, episodes, vocabulary))
        scorers = {'log pi': by_policy(policy, env), 'reward': by_reward(reward, env), 'speaker': by_speaker(goals, env)}
        with torch.no_grad(): scores = {name: scorer(asked.tokens, routes).tolist() for name, scorer in scorers.items()}
        walks, words = [p.tolist() for p in rollout(policy, env, asked, horizon=8).paths], vocabulary.decode(said.tokens.numpy())
        found[device] = scores | {'nats': nats.tolist(), 'walks': walks, 'words': words}
    here, there = found['cpu'], found['cuda']
    equal = lambda a, b: a == pytest.approx(b, abs=.01) if isinstance(a, float) else a == b
    alike = {name: np.mean([equal(a, b) for a, b in zip(here[name], there[name], strict=True)]) for name in here}
    assert min(alike.values()) > .8 and min(alike['log pi'], alike['reward']) > .99, alike    # the generator's things of equal size come in another order there


@gpu
@pytest.mark.parametrize('name, more', [
    ('imitation', {'updates': 40}), ('method', {'effort': .2}), ('method', {'effort': .2, 'segments': True, 'final': True}),
    ('adversarial', {'updates': 12}), ('adversarial', {'updates': 4, 'improvement': 'tree', 'form': 'gail', 'warm': False})], ids=str)
def test_experiments_run_there(tmp_path, name, more):
    run = run_experiment(name, {'preset': 'tiny', 'device': 'cuda', **more}, tmp_path)
    assert run.finished and run.config['parameters']['device'] == 'cuda' and run.table('results').SR.between(0, 1).all()
    tensors, _ = run.load_checkpoint(next(iter(run.checkpoints())))
    assert all(t.device.type == 'cpu' for t in tensors.values())

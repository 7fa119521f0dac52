"""A packed run is small, opens in every panel as the run does, and a pack that fails leaves nothing behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nl_irl.cli import main
from nl_irl.evaluation import judge, on_map
from nl_irl.files import verify
from nl_irl.learned import load, open_run, pack
from nl_irl.panels import RelabelInspector, RewardExplorer, TalkToAgent, TrajectoryPlayer, Workbench
from nl_irl.panels.playback import Playback, select, shown_episode
from nl_irl.planning import by_reward
from nl_irl.runs import Recording, Run, finish, save_tensors


AGENT = Path(__file__).parents[1]/'nbs'/'tutorials'/'agent'


def size(folder): return sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())


def test_a_packed_run_says_what_the_run_says(untrained, tmp_path, capsys):
    with pytest.raises(SystemExit, match='0'): main(['pack', str(untrained), '-o', str(tmp_path/'some'/'agent')])
    small = tmp_path/'some'/'agent'
    assert 'MB' in capsys.readouterr().out and size(small/'checkpoints') < .6 * size(untrained/'checkpoints')
    verify(small)
    assert {p.name for p in (tmp_path/'some').iterdir()} == {'agent'}                        # nothing temporary is left
    run, packed = Run.open(untrained), Run.open(small)
    assert packed.config == run.config and packed.metrics().equals(run.metrics()) and packed.table('trajectories').equals(run.table('trajectories'))
    assert not any(panel(small).message for panel in (RelabelInspector, RewardExplorer, TalkToAgent, TrajectoryPlayer, Workbench))
    key = select(Playback(small))[0]
    one, two = (shown_episode(Playback(f), key)['walks'] for f in (untrained, small))
    assert [w['path'] for w in one[:2]] == [w['path'] for w in two[:2]]                       # as recorded
    assert np.allclose(one[0]['traces']['reward'], two[0]['traces']['reward'], atol=.05)      # as learned, in half precision


def test_earlier_checkpoints_come_along_as_asked(untrained, tmp_path):
    folder = tmp_path/'run'
    shutil.copytree(untrained, folder)
    tensors, facts = Run.open(untrained).load_checkpoint('reward')
    for name in ('reward_10', 'reward_20'): save_tensors(folder/'checkpoints', name, tensors, facts)
    small = pack(Run.open(folder), tmp_path/'small', ['reward_10'])
    assert set(small.checkpoints()) == {'policy', 'reward', 'generator', 'reward_10'}
    assert open_run(small).network('reward').config == load(Run.open(folder), 'reward')[0].config


SPOILT = {'unfinished': 'nl-irl resume', 'there': 'choose another folder', 'unknown': "'reward_7'", 'huge': 'decide'}


@pytest.mark.parametrize(('spoil', 'word'), SPOILT.items())
def test_what_cannot_be_packed_is_refused_and_leaves_nothing(untrained, tmp_path, spoil, word):
    run, out, checkpoints = Run.open(untrained), tmp_path/'out', ['reward_7'] * (spoil == 'unknown')
    if spoil == 'there': out.mkdir()
    if spoil == 'unfinished': run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    if spoil == 'huge':
        made = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
        tensors, facts = run.load_checkpoint('policy')
        made.save_checkpoint('policy', {k: torch.full_like(v, 1e6) if k.startswith('decide') else v for k, v in tensors.items()}, **facts)
        run = finish(made)
    with pytest.raises(ValueError, match='(?s)' + word): pack(run, out, checkpoints)
    assert {p.name for p in tmp_path.iterdir()} <= {'run', 'out'}
    assert not out.exists() or spoil == 'there' and not any(out.iterdir())
    if spoil == 'unfinished': run.close()


def test_the_agent_that_comes_along_is_small_and_does_what_its_results_say():
    verify(AGENT)
    assert size(AGENT) < 5e6
    found = open_run(Run.open(AGENT))                                                         # its world is made anew, and has the checksum that it learned in
    chosen, episodes = found.run.config['settings'], found.answered('val_unseen')
    results = found.run.table('results').query("split == 'val_unseen'")
    recorded = lambda agent: results[results.agent == agent].set_index('id').SR.loc[[e.task.id for e in episodes]].to_numpy()
    common = dict(env=found.env, episodes=episodes, encoder=found.vocabulary, split='')
    reward = on_map({'': by_reward(found.network('reward'), found.env)}, **common, moves=chosen['route_irl']['moves']).SR.to_numpy()
    policy = judge(found.network('policy'), **common, agent='', horizon=chosen['horizon'])[0].SR.to_numpy()
    for now, then in ((reward, 'known map: reward'), (policy, 'no map: policy')): assert (now != recorded(then)).mean() < .05                  # half precision
    assert reward.mean() > .7


def test_a_pack_that_fails_midway_leaves_nothing(untrained, tmp_path, monkeypatch):
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('nl_irl.learned.shutil.copyfile', full)
    with pytest.raises(OSError, match='No space'): pack(Run.open(untrained), tmp_path/'out')
    assert not any(tmp_path.iterdir())

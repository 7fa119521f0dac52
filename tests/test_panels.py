"""Panels without a browser: what they refuse, what they keep, and that nothing in a run can become code."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nl_irl.batches import batch_of
from nl_irl.benchmarks import load_benchmark
from nl_irl.cli import main
from nl_irl.learned import open_run
from nl_irl.panels import RelabelInspector, RewardExplorer, RunMonitor, TalkToAgent, TrajectoryPlayer, Workbench
from nl_irl.panels.monitor import Watch
from nl_irl.panels.playback import Filter, Playback, select, shown_episode
from nl_irl.panels.relabels import accepted
from nl_irl.panels.stage import player_page
from nl_irl.panels.workbench import follow_relabel
from nl_irl.runs import Recording, Run, finish
from nl_irl.types import Trajectory

AGENT = Path(__file__).parents[1]/'nbs'/'tutorials'/'agent'
PANELS = (TrajectoryPlayer, RelabelInspector, RewardExplorer, TalkToAgent, RunMonitor, Workbench)


@pytest.fixture
def copied(untrained, tmp_path):
    "A copy of the run that a test may write into."
    return Path(shutil.copytree(untrained, tmp_path/'run'))


@pytest.mark.parametrize('panel', PANELS)
def test_what_is_no_run_is_said_in_the_panel(panel, tmp_path):
    assert 'no such folder' in panel(tmp_path/'nowhere').message
    (tmp_path/'config.json').write_text('{"format": 99}')
    assert 'config.json' in panel(tmp_path).message


@pytest.mark.parametrize('panel', [p for p in PANELS if p not in (RunMonitor, Workbench)])
def test_a_run_still_being_written_says_so(panel, tmp_path):
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    message = panel(tmp_path/'run').message
    assert 'has not finished' in message or 'keeps no networks' in message
    run.close()


def test_a_workbench_on_a_run_still_being_written_monitors_it(tmp_path):
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    bench = Workbench(tmp_path/'run')
    assert not bench.message and 'has not finished' in bench.panels['Trajectories'].message
    assert 'running' in bench.panel('Run').state.value
    run.close()


def test_a_damaged_run_is_refused(copied):
    table = copied/'trajectories.parquet'
    table.write_bytes(table.read_bytes()[:-1] + b'!')
    assert 'trajectories.parquet' in TrajectoryPlayer(copied).message


def test_an_empty_table_and_a_missing_column_are_refused(tmp_path, untrained):
    whole = pd.read_parquet(untrained/'trajectories.parquet')
    for k, (frame, word) in enumerate(((whole[:0], 'empty'), (whole.drop(columns='viewpoints'), 'viewpoints'))):
        run = Recording.create(tmp_path/f'run{k}', {'world': 'houses', 'preset': 'tiny'})
        run.write_table('trajectories', frame)
        assert word in TrajectoryPlayer(finish(run).folder).message


def test_a_walk_through_a_wall_is_refused(tmp_path, untrained):
    table = pd.read_parquet(untrained/'trajectories.parquet')
    far = [table.viewpoints[0][0], table.viewpoints[0][0].rpartition('-')[0] + '-30']
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    run.write_table('trajectories', table[:1].assign(viewpoints=[far]))
    assert 'has no edge' in TrajectoryPlayer(finish(run).folder).message


def test_walks_without_probabilities_play(tmp_path, untrained):
    table = pd.read_parquet(untrained/'trajectories.parquet', columns=['agent', 'split', 'id', 'scan', 'instruction', 'viewpoints'])
    run = Recording.create(tmp_path/'run', {'world': 'houses', 'preset': 'tiny'})
    run.write_table('trajectories', table)
    player = TrajectoryPlayer(finish(run).folder)
    assert not player.message and player.stage.episode['walks'][0]['probability'] is None and 'reward' not in player.stage.episode['walks'][0]['traces']


@pytest.mark.parametrize('how, word', [({'house': 'house999'}, 'house999'), ({'start': 'house000-999'}, 'house000-999'),
                                       ({'house': 'house000', 'start': 'house001-1'}, 'house001')])
def test_talk_refuses_places_that_are_not_there(untrained, how, word):
    panel = TalkToAgent(untrained, **how)
    assert word in panel.message or word in panel.said.value


def test_an_episode_that_was_not_walked_is_refused(untrained):
    assert 'no episode' in TrajectoryPlayer(untrained, episode='val_unseen/nothing_0').message
    with pytest.raises(ValueError, match='no episode'): shown_episode(Playback(untrained), ('val_unseen', 'nothing_0'))


def test_runs_side_by_side_name_their_agents_and_must_be_of_one_world(untrained, copied):
    both = Playback([untrained, copied])
    assert both.agents == ['untrained, greedy', 'untrained, sampled', 'run, greedy', 'run, sampled']
    names = [w['name'] for w in shown_episode(both, select(both)[0])['walks']]
    assert names[4:] == [f'{run}, known map: {chooser}' for run in ('untrained', 'run') for chooser in ('reward', 'reward + speaker')]
    with pytest.raises(ValueError, match='all must be of one world; these are of'): Playback([untrained, AGENT])


def test_a_submission_plays(untrained, tmp_path):
    bench = load_benchmark('houses', preset='tiny')
    some = bench.splits['val_unseen'][:3]
    file = tmp_path/'mine.json'
    file.write_text(json.dumps([{'instr_id': e.task.id, 'trajectory': [[v, 0., 0.] for v in e.path]} for e in some]))
    player = TrajectoryPlayer(file, world=bench)
    assert not player.message and player.playback.table.SR.eq(1).all()
    file.write_text(json.dumps([{'instr_id': 'of-nobody_0', 'trajectory': [['x', 0., 0.]]}]))
    assert 'of-nobody_0' in TrajectoryPlayer(file, world=bench).message


def test_a_submission_may_turn_in_place_and_a_bad_one_is_named(untrained, tmp_path):
    world = load_benchmark('houses', preset='tiny')
    one = world.splits['val_unseen'][0]
    file = tmp_path/'turning.json'
    put = lambda path: file.write_text(json.dumps([{'instr_id': one.task.id, 'trajectory': [[v, 0., 0.] for v in path]}]))
    put([v for v in one.path for _ in range(2)])
    assert shown_episode(Playback(file, world=world), ('val_unseen', one.task.id))['walks'][0]['path'] == shown_episode(
        Playback([Trajectory(one.task.scan, one.path)], world=world), ('list', '0'))['walks'][0]['path']
    put([one.path[0], one.path[-1]])
    assert all(word in TrajectoryPlayer(file, world=world).message for word in ('turning.json', one.task.id, 'no edge'))


def test_filters_agree_with_the_table(untrained):
    playback = Playback(untrained)
    first = playback.table[playback.table.agent == 'greedy'].set_index(['split', 'id'])
    assert set(select(playback, Filter(success=True))) == set(first.index[first.SR == 1])
    assert set(select(playback, Filter(most_moves=2))) == set(first.index[first.moves <= 2])
    finder = TrajectoryPlayer(untrained).finder
    finder.moves.value = 2
    assert [key for _, key in finder.list.options] == [key for key in select(playback) if first.moves[key] <= 2]
    assert [first.moves[k] for k in select(playback, Filter(order='longest'))] == sorted(first.moves, reverse=True)
    assert select(playback, Filter(scan='house000')) == [k for k in first.index if first.scan[k] == 'house000']


def test_flags_are_saved_with_the_run_and_damaged_ones_are_refused(copied):
    player = TrajectoryPlayer(copied)
    player.remarks.flag.value, player.remarks.note.value = True, '<b>wrong</b> turn'
    again = TrajectoryPlayer(copied)
    assert again.remarks.note.value == '<b>wrong</b> turn' and again.remarks.flag.value
    again.finder.flagged.value = True
    assert len(again.finder.list.options) == 1
    player.remarks.note.value = 'twice'                                                     # two panels, or two notebooks, lose nothing of each other
    again.finder.flagged.value = False
    again.finder.list.index = 1
    again.remarks.note.value = 'another'
    assert {said['note'] for said in json.loads((copied/'notes.json').read_text()).values()} == {'twice', 'another'}
    again.finder.words.value = 'nothing like that'
    assert again.remarks.note.disabled and again.remarks.note.value == ''
    Run.open(copied)                                                                        # notes are beside what the manifest vouches for
    (copied/'notes.json').write_text('[]')
    assert 'notes.json' in TrajectoryPlayer(copied).message


def test_a_split_that_it_learned_from_is_named():
    explorer = RewardExplorer(AGENT)                                                        # a final run: it has learned from dev as well
    assert explorer.picker.split.value == 'val_unseen' and explorer.found.learned_from('dev_unseen')
    assert RelabelInspector(AGENT, count=2).walks.split.value.startswith('val')
    explorer.measurement.count = 4
    explorer.text.value = 'go to the kitchen'
    explorer.when.index = 0
    assert explorer.text.value == 'go to the kitchen'                                       # the same sentence through training
    explorer.measurement.measure('dev_unseen', explorer.reward, explorer.when.label)
    assert 'which it learned from' in explorer.measurement.said.value and 'after 80 updates' in explorer.measurement.said.value


def test_relabels_of_another_split_are_shown(untrained):
    inspector = RelabelInspector(untrained, split='val_unseen', count=1)
    inspector.walks.split.value = 'dev_unseen'
    assert inspector.stage.episode['title'].startswith('Asked: dev_unseen') and inspector.sentences.task.id.startswith('dev_unseen')


def test_an_episode_that_was_not_walked_is_walked_when_it_is_asked_for(untrained):
    inspector = RelabelInspector(untrained, split='val_unseen', count=2)
    wanted, left = inspector.relabels.left[3].task, len(inspector.relabels.left)
    for _ in range(2): follow_relabel(inspector, ('val_unseen', wanted.id), wanted)
    assert inspector.sentences.task == wanted and len(inspector.relabels.paths) == 3 and len(inspector.relabels.left) == left - 1
    follow_relabel(inspector, ('val_unseen', 'nowhere'), wanted)
    assert inspector.sentences.task == wanted and inspector.walks.said.value == f'3 of {left + 2} episodes walked'
    while inspector.relabels.left: inspector.walks.more.click()
    ids = [e.task.id for e in inspector.relabels.episodes]
    assert len(set(ids)) == len(ids) == left + 2 and inspector.walks.more.disabled


def test_accepted_relabels_are_training_data(copied):
    inspector = RelabelInspector(copied, split='val_unseen', count=6)
    inspector.sentences.judge(True)
    inspector.sentences.list.index = 1
    inspector.sentences.judge(False)
    again = RelabelInspector(copied, split='val_unseen', count=6)
    assert again.sentences.state.value.startswith('accepted')
    found = open_run(Run.open(copied))
    batch = batch_of(found.bench.world, accepted(copied), found.vocabulary)
    assert len(batch.tokens) == 1 and batch.viewpoint[0, 0] == found.bench.world.index[again.sentences.ids[0]]
    (copied/'relabels.json').write_text('[{"text": 1}]')
    assert 'relabels.json' in RelabelInspector(copied).message


def test_nothing_in_a_run_becomes_code(untrained):
    playback = Playback(untrained)
    key = select(playback)[0]
    episode = shown_episode(playback, key) | {'title': '</script><img src=x onerror=alert(1)>', 'words': [['</script><script>alert(2)</script>', True]]}
    text = player_page({episode['scan']: playback.scene(episode['scan'])}, [episode])
    assert text.count('</script>') == 2 and '<img' not in text and '<script>alert' not in text
    panel = TalkToAgent(untrained)
    panel.text.value = '<img src=x onerror=alert(1)> go to the bed'
    assert '<img' not in panel.said.value
    source = (Path(sys.modules['nl_irl.panels.stage'].__file__).parent/'stage.js').read_text()
    assert 'innerHTML' not in source and 'eval(' not in source and 'http' not in source


def test_an_episode_becomes_a_video_that_shows_every_step(untrained, tmp_path):
    player = TrajectoryPlayer(untrained)
    path = player.save('mp4', tmp_path)
    assert path, player.said.value
    steps = max(max(len(w['path']), len(w['action'])) for w in player.stage.episode['walks'])
    about = next(imageio_ffmpeg.read_frames(path))
    assert about['codec'] == 'h264' and about['pix_fmt'].startswith('yuv420p') and abs(about['duration'] - .8 * (steps + 2)) < .1
    player.save('gif', tmp_path)
    with Image.open(path.with_suffix('.gif')) as gif: assert gif.size == about['size']


def test_heat_and_ask_agree(untrained, capsys):
    panel = TalkToAgent(untrained, house='house001', start='house001-4', text='go to the kitchen')
    values = np.array([np.nan if v is None else v for v in panel.stage.heat['values']])
    with pytest.raises(SystemExit): main(['ask', str(untrained), '--house', 'house001', '--start', 'house001-4', 'go to the kitchen', '--json'])
    said = json.loads(capsys.readouterr().out)
    alone, agreed = panel.stage.episode['walks'][1:3]
    assert alone['path'][-1] == panel.stage.heat['best'] == np.nanargmax(values)
    assert said['protocol'] == agreed['name'] and said['route'] == [panel.stage.scene['ids'][place] for place in agreed['path']]
    assert np.isclose(said['reward'], values[agreed['path'][-1]], atol=1e-3) and said['unknown'] == []


def test_trajectories_of_a_list_need_a_world():
    with pytest.raises(ValueError, match='world='): Playback([Trajectory('house000', ('house000-0',))])


def test_a_run_is_stopped_and_resumed_from_the_monitor(tmp_path):
    folder = tmp_path/'run'
    command = [Path(sys.executable).parent/'nl-irl', 'run', 'imitation', '-p', 'preset', 'tiny', '-p', 'updates', '400', '--out', folder]
    driver = 'import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from nl_irl.cli import main; sys.exit(main(sys.argv[1:]))'
    started = subprocess.Popen([sys.executable, '-c', driver, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 120
    while not (folder/'metrics.jsonl').exists() or not (folder/'metrics.jsonl').stat().st_size:
        assert time.monotonic() < end and started.poll() is None
        time.sleep(.2)
    watch = Watch(folder)
    assert watch.state == 'running' and watch.writer[0] == started.pid
    assert str(started.pid) in watch.stop()
    assert started.wait(60) not in (0, -signal.SIGKILL) and watch.state == 'cut off'
    assert 'goes on' in watch.resume()
    assert watch.started.wait(180) == 0 and watch.state == 'finished'
    with pytest.raises(ValueError, match='finished'): watch.resume()

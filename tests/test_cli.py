"""The command line as a user meets it: exit statuses, one sentence for a mistake, experiments run once, submissions scored."""

import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from nl_irl.cli import main
from nl_irl.runs import Recording, Run, finish

PARAMETERS = "seed = 0  # of everything\nrate = 1e-3\nfar = False\nout = ''"
BODY = ["import sys, pandas as pd\nfrom nl_irl.runs import Recording, finish, progress",
        "run = Recording.create(out, dict(seed=seed, rate=rate, far=far, python=sys.executable))\nassert seed < 5, 'too many seeds'",
        "with progress(2, 'training') as bar:\n    for step in range(2): run.log(step, loss=rate); bar.update()", "finish(run)"]


def notebook(path: Path, cells=(PARAMETERS, *BODY), tags=('parameters',)) -> Path:
    "A notebook whose first cell has `tags`."
    cells = [new_code_cell(text, metadata={'tags': list(tags)} if k == 0 else {}) for k, text in enumerate(cells)]
    nbformat.write(new_notebook(cells=cells, metadata={'kernelspec': {'name': 'gone', 'display_name': 'gone', 'language': 'python'}}), path)
    return path


@pytest.fixture
def says(capfd, tmp_path, monkeypatch):
    "Run `nl-irl` in an empty folder: exit status, stdout, stderr."
    monkeypatch.chdir(tmp_path)
    def call(*arguments):
        capfd.readouterr()
        try: main([str(a) for a in arguments]); status = 0
        except SystemExit as end: status = end.code or 0
        return status, *capfd.readouterr()
    return call


def refused(answer, *words):
    "A mistake: status 2, nothing on stdout, the words in one message without a traceback."
    status, out, err = answer
    assert status == 2 and not out and 'Traceback' not in err, answer
    for word in words: assert word in err, err


def test_help_is_quick_and_teaches():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, '-c', 'from nl_irl.cli import main; main(["--help"])'], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and 'nl-irl run imitation -p seed 1' in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize('arguments, words', [
    (['run', 'imitatoin'], ["no experiment 'imitatoin'", 'imitation', '.ipynb']),
    (['run', 'gone.ipynb'], ['gone.ipynb: no such notebook']),
    (['run', 'e.ipynb', '-p', 'sead', '1'], ["e has no parameter 'sead'", 'seed = 0  # of everything', 'rate = 0.001', 'far = False']),
    (['run', 'e.ipynb', '-p', 'out', 'x'], ["no parameter 'out'", '--out']),
    (['run', 'e.ipynb', '-p', 'seed', '1.5'], ['seed takes int', '1.5']),
    (['run', 'e.ipynb', '-p', 'seed', 'one'], ['seed takes int', "'one'"]),
    (['run', 'e.ipynb', '-p', 'rate', 'fast'], ['rate takes float', "'fast'"]),
    (['run', 'e.ipynb', '-p', 'far', '1'], ['far takes bool']),
    (['run', 'e.ipynb', '-p', 'seed'], ['-p NAME VALUE']),
    (['run', 'e.ipynb', '--out', '.'], ['did not make', 'choose another --out']),
    (['run', 'bare.ipynb'], ['bare.ipynb: 0 cells tagged `parameters`']),
    (['run', 'text.ipynb'], ['text.ipynb: not valid JSON']),
    (['run'], ['EXPERIMENT']), (['fly'], ["'fly'"]), (['run', 'e.ipynb', '--fast'], ['--fast']),
    (['report', 'nowhere'], ['nowhere: there is no such folder']),
    (['score', 'e.ipynb'], ['--split'])])
def test_mistakes_end_with_one_sentence(says, arguments, words):
    notebook(Path('e.ipynb'))
    notebook(Path('bare.ipynb'), tags=())
    Path('text.ipynb').write_text('no notebook')
    refused(says(*arguments), *words)
    assert not Path('runs').exists() or not any(Path('runs').rglob('config.json'))


def test_run_then_not_again_then_replaced(says, monkeypatch, tmp_path):
    "With a broken kernel of the usual name installed, and a notebook that names one that is not: the running Python runs it."
    broken = tmp_path/'jupyter'/'kernels'/'python3'
    broken.mkdir(parents=True)
    (broken/'kernel.json').write_text(json.dumps({'argv': ['false'], 'display_name': 'x', 'language': 'python'}))
    monkeypatch.setenv('JUPYTER_DATA_DIR', str(tmp_path/'jupyter'))
    monkeypatch.setenv('JUPYTER_PREFER_ENV_PATH', '0')
    experiment = notebook(Path('e.ipynb'))
    status, out, err = says('run', experiment, '-p', 'seed', '3', '-p', 'far', 'true')
    assert status == 0 and 'training: 100%' in err, err
    run = Run.open('runs/e')
    assert run.finished and run.config['parameters'] == {'seed': 3, 'rate': 1e-3, 'far': True, 'python': sys.executable}
    executed = nbformat.read('runs/e/notebook.ipynb', 4)
    assert executed.metadata.papermill.parameters.seed == 3 and all(c.execution_count for c in executed.cells)

    written, begun = Path('runs/e/metrics.jsonl').stat().st_mtime_ns, time.process_time()
    assert says('run', experiment, '-p', 'seed=3', '-p', 'far=true')[0] == 0
    assert Path('runs/e/metrics.jsonl').stat().st_mtime_ns == written and time.process_time() - begun < 2
    refused(says('run', experiment), 'runs/e: holds a finished run', 'seed (3 there, 0 here)', 'far (True there, False here)', '--replace')

    status, out, err = says('run', experiment, '-p', 'seed', '7', '--replace')
    assert status == 1 and 'Traceback' not in err and 'AssertionError: too many seeds' in err and 'runs/e/partial.ipynb' in err
    assert Path('runs/e/partial.ipynb').exists() and not Path('runs/e/notebook.ipynb').exists() and not Run.open('runs/e').finished
    refused(says('report', 'runs/e'), 'has not finished')


def test_a_second_process_is_refused(says):
    notebook(Path('e.ipynb'))
    run = Recording.create('runs/e', {})
    refused(says('run', 'e.ipynb'), 'runs/e: another process is writing this run')
    run.close()


def test_doctor_and_data_say_what_is_missing(says, monkeypatch, tmp_path):
    monkeypatch.setenv('NL_IRL_DATA', str(tmp_path/'none'))
    status, out, _ = says('doctor')
    assert status == 0 and 'python' in out and 'torch' in out and 'habitat-sim' in out and 'nl-irl data says' in out
    status, out, _ = says('data')
    assert status == 1 and 'missing' in out and 'https://github.com/peteanderson80/Matterport3DSimulator' in out
    refused(says('score', 'x.json', '--split', 'val_seen'), 'connectivity', 'nl-irl data')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "A cache with houses of this and of another version, features, and what others keep in the same folder, the data too."
    from nl_irl.files import write_manifest
    from nl_irl.worlds.cache import houses_name
    folder, names = tmp_path/'cache', [houses_name('tiny', 0), f'houses-tiny-0-{"0" * 16}', f'features-{"a" * 16}']
    for name in [*names, 'runs', 'thesis-0123456789abcdef', 'r2r']:
        (folder/name).mkdir(parents=True)
        (folder/name/'x.npy').write_bytes(bytes(1000))
        if name != 'r2r': write_manifest(folder/name)
    (folder/f'r2r-{"b" * 16}').mkdir()                                      # no manifest: unfinished, or someone else's
    (folder/f'r2r-{"b" * 16}'/'x').write_text('x')
    (folder/f'r2r-{"c" * 16}').symlink_to(folder/'runs')
    monkeypatch.setenv('NL_IRL_CACHE', str(folder))
    monkeypatch.setenv('NL_IRL_DATA', str(folder))
    return folder, names


def files(folder): return {str(p.relative_to(folder)) for p in folder.rglob('*')}


@pytest.mark.parametrize('arguments, removed', [([], [0, 1, 2]), (['--stale'], [1]), (['features'], [2]), (['houses', 'features'], [0, 1, 2]),
                                                (['houses', '--stale'], [1]), ([f'features-{"a" * 16}'], [2])])
def test_the_cache_is_emptied_of_what_the_project_wrote(says, cache, monkeypatch, arguments, removed):
    folder, names = cache
    monkeypatch.setattr('sys.stdin', io.StringIO())
    gone = {f'{names[k]}{file}' for k in removed for file in ('', '/x.npy', '/manifest.json')}
    before = files(folder)
    assert says('data', 'clean', *arguments)[0] == 1 and files(folder) == before               # nobody answered
    status, out, said = says('data', 'clean', *arguments, '--yes')
    assert status == 0 and not said and files(folder) == before - gone
    assert [line.split()[2] for line in out.splitlines()[1:]] == sorted(names[k] for k in removed)
    status, out, said = says('data', 'clean', *[a for a in arguments if a == '--stale'], '--yes')
    assert status == 0 and ('nothing to remove' in out) == (len(removed) == 3 or '--stale' in arguments), out


@pytest.mark.parametrize('answer, stays', [('n\n', True), ('\n', True), ('y\n', False)])
def test_the_cache_is_emptied_after_a_yes(cache, tmp_path, answer, stays):
    folder, names = cache
    done = subprocess.run([Path(sys.executable).parent/'nl-irl', 'data', 'clean'], input=answer, capture_output=True, text=True)
    assert done.returncode == 0 and ('nothing was removed' in done.stdout) == stays and (folder/names[0]).exists() == stays, done


def test_what_was_put_into_a_cache_folder_stays(says, cache):
    "Also what a forged manifest names outside of it."
    folder, names = cache
    (folder/names[0]/'notes.txt').write_text('mine')
    (folder/names[1]/'manifest.json').write_text(json.dumps({'files': {'../runs/x.npy': '', '/etc/passwd': '', str(folder/'runs'/'x.npy'): '', 'x.npy': ''}}))
    status, _, said = says('data', 'clean', '--yes')
    assert status == 0 and said == f'{folder/names[0]}: stays, since it holds other files\n'
    assert (folder/names[0]/'notes.txt').exists() and (folder/'runs'/'x.npy').exists() and not (folder/names[1]).exists()


def test_a_part_that_the_cache_does_not_hold_is_refused(says, cache):
    status, out, said = says('data', 'clean', 'scene')
    assert status == 2 and not out and said == f'nl-irl: {cache[0]}: holds no scene; it has features, houses\n'


GOLDEN = 'val_seen_noisy'


@pytest.mark.r2r
def test_score_is_the_official_scorers(says):
    folder = Path(os.environ['NL_IRL_DATA'])/'golden'/'r2r_scorer'
    expected = json.loads((folder/f'{GOLDEN}.scores.json').read_text())
    status, out, err = says('score', folder/f'{GOLDEN}.json', '--split', 'val_seen', '--json')
    assert status == 0, err
    found = json.loads(out)
    assert list(found) == ['TL', 'NE', 'SR', 'OSR', 'SPL', 'nDTW', 'SDTW', 'CLS']
    names = {'length': 'TL', 'nav_error': 'NE', 'success_rate': 'SR', 'oracle success_rate': 'OSR', 'spl': 'SPL', 'ndtw': 'nDTW', 'sdtw': 'SDTW'}
    for theirs, ours in names.items(): assert abs(found[ours] - expected[theirs]) < 1e-9, ours
    refused(says('score', folder/f'{GOLDEN}.json', '--split', 'val_unseen'), GOLDEN, 'another split')
    refused(says('score', folder/f'{GOLDEN}.json', '--split', 'val'), 'val_seen')


@pytest.mark.r2r
def test_a_submission_scores_as_its_trajectories(says):
    folder = Path(os.environ['NL_IRL_DATA'])/'golden'/'r2r_scorer'
    records = json.loads((folder/f'{GOLDEN}.json').read_text())
    table = pd.DataFrame({'agent': 'cloned', 'split': 'val_seen', 'id': [r['instr_id'] for r in records],
                          'viewpoints': [[step[0] for step in r['trajectory']] for r in records]})
    run = Recording.create('runs/r', {'world': 'r2r'})
    run.write_table('trajectories', table)
    finish(run)
    assert says('submit', 'runs/r', '--split', 'val_seen', '-o', 'mine.json')[0] == 0
    mine, theirs = (json.loads(says('score', f, '--split', 'val_seen', '--json')[1]) for f in ('mine.json', folder/f'{GOLDEN}.json'))
    assert mine == pytest.approx(theirs, abs=1e-12)
    refused(says('submit', 'runs/r', '--split', 'test', '-o', 'x.json'), "no trajectories of 'cloned' on 'test'", 'val_seen')


@pytest.mark.r2r
def test_the_agent_that_searches_walks_anew_for_a_submission(says, tmp_path):
    import torch
    from nl_irl.benchmarks import load_benchmark
    from nl_irl.learned import keep
    from nl_irl.models.policy import Policy, PolicyConfig
    from nl_irl.models.reward import RouteReward
    from nl_irl.text import build_vocabulary
    from nl_irl.worlds.r2r import split_records
    world = load_benchmark('r2r', preset='tiny').world
    vocabulary = build_vocabulary(['walk past the sofa'], minimum=1)
    sizes = PolicyConfig(words=len(vocabulary), labels=len(world.labels), width=16, word_width=8, label_width=8, landmark_width=8)
    torch.manual_seed(0)
    networks = {'policy': Policy(sizes), 'reward': RouteReward(sizes)}
    for name, kept in (('whole', networks), ('part', {'policy': networks['policy']})):
        run = Recording.create(tmp_path/name, {'world': 'r2r', 'preset': 'tiny'}, settings={'horizon': 6, 'planning': {'sure': 2., 'metres': 30.}})
        keep(run, vocabulary, **kept)
        finish(run)
    asked = split_records(None, 'test')[1][:4]
    (tmp_path/'few.json').write_text(json.dumps(asked))
    search = ('--split', 'few.json', '--agent', 'no map: search', '-o', 'mine.json')
    refused(says('submit', 'part', *search), 'keeps no reward')
    assert says('submit', 'whole', *search)[0] == 0
    walked = {r['instr_id']: [step[0] for step in r['trajectory']] for r in json.loads((tmp_path/'mine.json').read_text())}
    assert walked.keys() == {f"{r['path_id']}_{k}" for r in asked for k in range(3)}
    assert all(walked[f"{r['path_id']}_{k}"][0] == r['path'][0] for r in asked for k in range(3)) and max(map(len, walked.values())) > 3


def test_reward_and_generator_say_what_they_are_worth(says, tmp_path):
    import torch
    from nl_irl.benchmarks import load_benchmark
    from nl_irl.learned import keep
    from nl_irl.models.generator import GeneratorConfig, GoalGenerator
    from nl_irl.models.policy import Policy, PolicyConfig
    from nl_irl.models.reward import RouteReward
    from nl_irl.text import build_vocabulary
    bench = load_benchmark('houses', preset='tiny')
    vocabulary = build_vocabulary(e.task.text for e in bench.splits['train'])
    sizes = dict(words=len(vocabulary), labels=len(bench.world.labels), width=16, word_width=8, label_width=8, landmark_width=8)
    torch.manual_seed(0)
    networks = dict(policy=Policy(PolicyConfig(**sizes)), reward=RouteReward(PolicyConfig(**sizes)),
                    generator=GoalGenerator(GeneratorConfig(**sizes, key=8, latent=2)))
    for name, kept in (('whole', networks), ('part', {'policy': networks['policy']})):
        run = Recording.create(tmp_path/name, {'world': 'houses', 'preset': 'tiny'}, settings={'horizon': 6, 'route_irl': {'moves': 4}})
        keep(run, vocabulary, **kept)
        finish(run)
    for command, expected in (('reward', {'auc: another instruction', 'correlation'}),
                              ('generator', {'perplexity', 'bleu-4', 'faithful', 'leeway', 'rephrased'})):
        status, out, _ = says(command, 'whole', '--split', 'dev_seen', '--json')
        assert status == 0 and expected <= set(json.loads(out)), out
        status, out, _ = says(command, 'whole', '--split', 'dev_seen')
        assert status == 0 and all(name in out for name in expected)
        refused(says(command, 'whole', '--split', 'nowhere'), "no split 'nowhere'", 'val_unseen')
        refused(says(command, 'part', '--split', 'dev_seen'), f'keeps no {command}')
        refused(says(command, 'gone', '--split', 'dev_seen'), 'gone')

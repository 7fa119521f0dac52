"""The baselines as experiments: each runs whole, and goes without what it does not have."""

import pytest

from nl_irl.experiment import run_experiment


@pytest.mark.parametrize('form, kinds', [('agile', {'demonstration', 'commanded'}), ('higher', set()), ('goalgail', {'demonstration', 'commanded'})])
def test_rivals_run_in_the_loop(tmp_path, form, kinds):
    run = run_experiment('adversarial', {'form': form, 'updates': 3, 'effort': .1}, tmp_path/'run')
    told = {name.removeprefix('accuracy_') for name in run.metrics() if name.startswith('accuracy_')} - {'accuracy'}
    assert run.finished and told == kinds and run.config['parameters']['relabelled'] == (form in ('higher', 'goalgail'))
    assert not run.config['parameters']['rephrased'] and ('admitted' in run.metrics()) == (form != 'agile')


@pytest.mark.parametrize('learner', ['cloning', 'dagger'])
def test_imitation_can_clone_or_aggregate(tmp_path, learner):
    run = run_experiment('imitation', {'learner': learner, 'updates': 4}, tmp_path/'run')
    assert run.finished and run.config['settings']['imitation']['student'] == 0 and ('walks' in run.metrics()) == (learner == 'dagger')


def test_an_unknown_learner_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'in turn', 'cloning' or 'dagger', got 'dager'"): run_experiment('imitation', {'learner': 'dager'}, tmp_path/'run')

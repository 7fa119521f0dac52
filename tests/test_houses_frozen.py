"""`houses-v1` is frozen: generator, grammar, splits and sizes. A change that moves these checksums is houses-v2: it gets a new name, and every
result is measured again."""
import pytest

from nl_irl.worlds.houses import checksum, houses

FROZEN = {'tiny': '', 'demo': '', 'full': ''}


@pytest.mark.parametrize('preset', FROZEN)
def test_houses_v1_is_frozen(preset): assert checksum(houses(preset)) == FROZEN[preset]

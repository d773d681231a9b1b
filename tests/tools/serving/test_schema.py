"""The checker of answers notices what it is there for."""

import pytest

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')


@pytest.mark.parametrize('change, fault', [
    ({'status': '404'}, 'answer.status is no integer'), ({'more': 1}, 'answer has more'),
    ({'status': True}, 'answer.status is no integer')])
def test_a_fault_is_named(change, fault):
    from tests.tools.serving.schema import faults

    schema = {'$ref': '#/components/schemas/Error'}
    good = {'error': 'none', 'status': 404}
    assert list(faults(good, schema)) == []
    assert list(faults(dict(good, **change), schema)) == [fault]


@pytest.mark.parametrize('points, fault', [
    ([[1, 2]] * 2, 'answer.points has 2 items'), ([[1, -2]] * 4, 'is -2'),
    ([[1, 2.5]] * 4, 'is no integer')])
def test_a_bad_box_is_noticed(points, fault):
    from tests.tools.serving.schema import faults

    found = list(faults({'points': points, 'score': 1}, {'$ref': '#/components/schemas/Box'}))
    assert found
    assert found[0].endswith(fault)

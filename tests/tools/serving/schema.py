"""As much of OpenAPI's schemas as ``openapi.json`` uses: does an answer have the form it says?"""

import json
import pathlib

from tools.serving import app

DESCRIPTION = json.loads(
    (pathlib.Path(app.__file__).parent / 'openapi.json').read_text(encoding='utf-8'))
_TYPES = {'object': dict, 'array': list, 'string': str, 'integer': int, 'number': (int, float)}
_KNOWN = {'type', 'required', 'properties', 'additionalProperties', 'items', 'enum', 'minItems',
          'maxItems', 'minimum', 'maximum', 'description', 'format'}


def resolve(part):
    """Follows a reference."""
    if '$ref' not in part:
        return part
    found = DESCRIPTION
    for name in part['$ref'].lstrip('#/').split('/'):
        found = found[name]
    return found


def faults(value, schema, place='answer'):
    """Where a value differs from a schema."""
    schema = resolve(schema)
    assert set(schema) <= _KNOWN, schema
    kind = schema['type']
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        yield f'{place} is no {kind}'
        return
    if value not in schema.get('enum', [value]):
        yield f'{place} is {value}'
    if kind in ('integer', 'number'):
        if not schema.get('minimum', value) <= value <= schema.get('maximum', value):
            yield f'{place} is {value}'
    elif kind == 'array':
        if not schema.get('minItems', 0) <= len(value) <= schema.get('maxItems', len(value)):
            yield f'{place} has {len(value)} items'
        for index, item in enumerate(value):
            yield from faults(item, schema['items'], f'{place}[{index}]')
    elif kind == 'object':
        yield from _object_faults(value, schema, place)


def _object_faults(value, schema, place):
    properties = schema.get('properties', {})
    for name in schema.get('required', ()):
        if name not in value:
            yield f'{place} lacks {name}'
    for name, inner in value.items():
        if name in properties:
            yield from faults(inner, properties[name], f'{place}.{name}')
        elif schema.get('additionalProperties') is False:
            yield f'{place} has {name}'


def operations():
    """(path, method, status) of everything described."""
    return {(path, method, int(status)) for path, item in DESCRIPTION['paths'].items()
            for method, operation in item.items() if method != 'parameters'
            for status in operation['responses']}


def check(answer, path, method):
    """Asserts that an answer is one of those described for a path and method."""
    responses = DESCRIPTION['paths'][path][method]['responses']
    described = resolve(responses[str(answer.status_code)])
    assert answer.mimetype in described['content']
    for name in described.get('headers', ()):
        assert answer.headers.get(name)
    schema = described['content'][answer.mimetype]['schema']
    if answer.mimetype == 'application/json':
        assert list(faults(answer.get_json(), schema)) == []
    if answer.status_code >= 400:
        assert answer.get_json()['status'] == answer.status_code

# SPDX-License-Identifier: Apache-2.0
"""The words of a definition, apart from the rest of it."""
import hashlib
import json


def split(schema, at="", said=None):
    """The schema without its descriptions, and these by their place: "" of the definition itself, the
    name of a field of what is said of that."""
    said = {} if said is None else said
    if isinstance(schema, list):
        return [split(x, f"{at}/{i}", said)[0] for i, x in enumerate(schema)], said
    if not isinstance(schema, dict):
        return schema, said
    rest = {}
    for k, v in schema.items():
        if k == "description" and isinstance(v, str):
            said[at] = v
        elif k == "properties" and isinstance(v, dict):
            rest[k] = {name: split(x, f"{at}/{name}" if at else name, said)[0] for name, x in v.items()}
        else:
            rest[k] = split(v, f"{at}/{k}", said)[0]
    return rest, said


def digest(said):
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

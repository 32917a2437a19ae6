"""The contract as a page, made from OpenAPI on the server, without scripts and requests."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final

STYLE: Final = """
:root { color-scheme: light dark; --line: light-dark(#d5dae0, #3a424c); --soft: light-dark(#5a6572, #a2adba); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.method { font: 700 .8rem/1 ui-monospace, monospace; padding: .2rem .45rem; border: 1px solid currentcolor;
  border-radius: .3rem; margin-right: .4rem; vertical-align: .12em; }
code, pre { font: .87rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
small, .soft { color: var(--soft); } summary { cursor: pointer; }
"""

POLICY: Final = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def docs_page(contract: dict[str, Any]) -> tuple[str, str]:
    """The page for an OpenAPI document, and the Content-Security-Policy to send with it."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    title = escape(contract["info"]["title"])
    body = "\n".join(_operations(contract))
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: HTTP contract</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{title} <small>{escape(contract['info']['version'])}</small></h1>"
        f"<p>{escape(contract['info']['description'])} Machines read "
        f'<a href="openapi.json">openapi.json</a>.</p>{body}</body></html>'
    )
    return html, POLICY.format(digest)


def _operations(contract: dict[str, Any]) -> Iterator[str]:
    for path, operations in contract["paths"].items():
        for method, operation in operations.items():
            yield f'<h2><span class="method">{method.upper()}</span><code>{escape(path)}</code></h2>'
            yield f"<p><strong>{escape(operation['summary'])}.</strong> {_prose(operation.get('description', ''))}</p>"
            parameters = [(p["name"], p["schema"], p["description"]) for p in operation.get("parameters", ())]
            for scheme in (name for needed in operation.get("security", ()) for name in needed):
                description = contract["components"]["securitySchemes"][scheme]["description"]
                parameters.append(("Authorization", {"type": "Bearer token"}, description))
            if parameters:
                yield "<h3>Parameters</h3>" + _fields(contract, parameters)
            if "requestBody" in operation:
                yield "<h3>Request</h3>" + _schema(contract, operation["requestBody"])
            yield "<h3>Replies</h3>"
            for status, reply in operation["responses"].items():
                media = " or ".join(f"<code>{escape(name)}</code>" for name in reply.get("content", ()))
                yield f"<details><summary><strong>{status}</strong> {_prose(reply['description'])} {media}</summary>"
                yield _examples(reply) or _schema(contract, reply)
                yield "</details>"


def _schema(contract: dict[str, Any], message: dict[str, Any]) -> str:
    """The fields of a request's or reply's body, then those of the objects in it."""
    if not message.get("content"):
        return '<p class="soft">No body.</p>'
    body = message["content"].get("application/json", {}).get("schema", {})
    tables: list[str] = []
    for name, schema in _objects(contract, body):
        fields = [(field, value, value.get("description", "")) for field, value in schema["properties"].items()]
        heading = f"<h3>{escape(name)}</h3><p>{_prose(schema['description'])}</p>" if tables else ""
        tables.append(heading + _fields(contract, fields))
    return "".join(tables)


def _objects(contract: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The named objects in a schema, itself first, each once."""
    schemas = contract["components"]["schemas"]
    names = _references(schema)
    for name in names:
        names += [each for each in _references(schemas[name]) if each not in names]
        if "properties" in schemas[name]:
            yield name, schemas[name]


def _references(schema: dict[str, Any]) -> list[str]:
    found = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(schema))
    return list(dict.fromkeys(found))


def _fields(contract: dict[str, Any], fields: list[tuple[str, dict[str, Any], str]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type_name(contract, schema))}</td>"
        f"<td>{_prose(description)}</td></tr>"
        for name, schema, description in fields
    )
    return f'<div class="wide"><table><tr><th>name</th><th>type</th><th>what it is</th></tr>{rows}</table></div>'


def _type_name(contract: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"].rpartition("/")[2])
        return " or ".join(contract["components"]["schemas"][name].get("enum", [name]))
    if "anyOf" in schema:
        return " or ".join(_type_name(contract, choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_name(contract, schema['items'])}" if "items" in schema else "list"
    return str(schema.get("format") or schema.get("type", ""))


def _examples(reply: dict[str, Any]) -> str:
    examples = reply.get("content", {}).get("application/problem+json", {}).get("examples", {})
    return "".join(f"<pre>{escape(json.dumps(each['value'], indent=2))}</pre>" for each in examples.values())


def _prose(text: str) -> str:
    parts = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))

"""The JSON Schema of a rule file, for editors: what they complete, explain and underline while one writes.

It is made from the models of `source` and says what these say: shape, types, ranges, and the docstrings. What
spans several keys it cannot say: a file that it accepts may still be refused by `onecard rules check`, but
never the other way round.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from onecard.rules.source import PERCENT_PATTERN, RuleFile


class _AsToml(GenerateJsonSchema):
    """Keys as TOML has them: there is no null, and a default that could not be written stands for none."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        default = found.get("default")
        if default is None or default == [] or (type(default) is int and default < found["minimum"]):
            found.pop("default", None)
        elif found.get("pattern") == PERCENT_PATTERN:
            found["default"] = f"{default}%"
        return found

    def field_title_should_be_set(self, _schema: object) -> bool:
        """A key is its own title."""
        return False


def json_schema() -> dict[str, Any]:
    """The schema, of draft 2020-12."""
    found = RuleFile.model_json_schema(schema_generator=_AsToml)
    for table in (found, *found["$defs"].values()):
        for key in table["properties"].values():
            # A list of tables is explained by what its tables are.
            if "$ref" in key.get("items", ()):
                name = key["items"]["$ref"].rpartition("/")[2]
                key.setdefault("description", found["$defs"][name]["description"])
    return {"$schema": _AsToml.schema_dialect} | found | {"title": "Rules of a onecard programme"}

"""Reading of YAML that people write, every value as text: an id such as 007 is no number, and a class may be called no."""

from collections.abc import Hashable
from typing import Any

import yaml

from ...util.messages import preview

try:  # libyaml's parser, with which PyYAML is built nearly everywhere, is several times faster
    from yaml import CBaseLoader as _Parser
except ImportError:
    from yaml import BaseLoader as _Parser


class _TextLoader(_Parser):
    """Loads every value as text, and refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping."""
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{preview(twice)} comes twice")
        return super().construct_mapping(node, deep)


def load_text_yaml(text: str) -> Any:
    """Parse YAML, or JSON, which is YAML too, into mappings, lists and text.

    Raises:
        yaml.YAMLError: it is no YAML, or a key comes twice.

    Example:
        >>> load_text_yaml("videos: [007]")
        {'videos': ['007']}
    """
    return yaml.load(text, _TextLoader)

"""``[rallypoint.reports]``: files about the mesh that a Rallypoint writes for monitors and for people.

The same documents are served beside the status pages (``/mesh``, ``/mesh.dot``, ``/mesh.svg``, ``/routes``), with or without any of these files.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.fields import OptionalFileName, Section, Text, within_bytes
from ice.rallypoint.link_graph import CLIENT_STYLE, CORE_STYLE, LEAF_STYLE

# Attributes as DOT writes them: names, values, quoted values. No bracket may close the list early, no quote may stay open.
_STYLE = re.compile(r'(?:\[(?:[^\[\]"\\<>;{}]|"[^"\\]*")*\])?\Z')


def _style(value: str) -> str:
    if not _STYLE.match(value):
        raise PydanticCustomError(
            "style", 'expected attributes of Graphviz in brackets, like "[shape=box color=gray]"'
        )
    return value


Styling = Annotated[Text, within_bytes(256), AfterValidator(_style)]
"""Attributes of a node or an edge as Graphviz has them, in square brackets; or nothing."""


class ReportSettings(Section):
    """Files about the mesh, written anew while it runs; the status pages /mesh /mesh.dot /mesh.svg /routes tell the same."""

    status_file: OptionalFileName = Field(
        None, description="Mesh status (JSON), written at every refresh; empty: none."
    )
    link_graph_file: OptionalFileName = Field(
        None, description="Link graph (Graphviz DOT), written when it has changed; empty: none."
    )
    route_map_file: OptionalFileName = Field(
        None,
        description="Route map (JSON): streams and who wants them, written when it has changed; empty: none.",
    )
    refresh_s: float = Field(
        5.0,
        ge=1,
        le=3_600,
        description="How often the files are looked after; monitors take a status of 2 minutes for stale.",
    )
    svg: bool = Field(
        True,
        description="Draw link_graph_file too, beside it with the ending .svg, where Graphviz is installed.",
    )
    clients: bool = Field(False, description="Show clients, by their addresses, in the link graph.")
    enclosure: bool = Field(
        True,
        description="Write the link graph as a whole graph; false: its lines only, to be put together with others.",
    )
    core_style: Styling = Field(CORE_STYLE, description="How the link graph shows Rallypoints of the core.")
    leaf_style: Styling = Field(LEAF_STYLE, description="How the link graph shows leaves.")
    client_style: Styling = Field(CLIENT_STYLE, description="How the link graph shows the lines of clients.")

    @field_validator("link_graph_file", "route_map_file")
    @classmethod
    def _own_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        for other in ("status_file", "link_graph_file"):
            if value is not None and other != info.field_name and value == info.data.get(other):
                raise PydanticCustomError(
                    "taken", "{file} is {other} already", {"file": str(value), "other": other, "also": other}
                )
        return value

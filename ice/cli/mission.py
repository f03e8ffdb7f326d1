"""``ice mission``: makes missions, looks at them, hands them on. What they are: docs/missions.md.

The subcommands stand in files of their own: ``mission_make`` (new, rekey), ``mission_show`` (show, check, id, diff), ``mission_hand``
(pack, unpack, qr); ``mission_source`` is how all of them are given a mission.
"""

from collections.abc import Mapping
from typing import Final

import click

from ice.cli.main import LazyGroup

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "new": ("ice.cli.mission_make:new", "Make a mission with random keys."),
    "show": ("ice.cli.mission_show:show", "Show a mission and its groups."),
    "check": ("ice.cli.mission_show:check", "Say everything that is odd about a mission."),
    "id": ("ice.cli.mission_show:identify", "Show the ids that follow from a mission's contents."),
    "pack": ("ice.cli.mission_hand:pack", "Pack a mission into an .ice file or one line of text."),
    "unpack": ("ice.cli.mission_hand:unpack", "Print the JSON in a packed mission or a QR code."),
    "qr": ("ice.cli.mission_hand:qr", "Show a mission as a QR code, or draw one into a file."),
    "diff": ("ice.cli.mission_show:diff", "Show what differs between two missions."),
    "rekey": ("ice.cli.mission_make:rekey", "Give a mission its next keys, or finish such a change."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def mission() -> None:
    """Make missions, look at them, hand them on.

    A mission is all that a team needs to talk: groups, addresses, keys. Wherever one is asked for, give a file of JSON, an .ice file, a
    picture of a QR code, or - for standard input; a packed mission or a link may also be given as it is, in quotes.
    """

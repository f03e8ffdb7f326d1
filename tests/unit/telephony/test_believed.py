"""Who is believed as a gateway, by what the configuration of a telephone knows."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import loads
from ice.security.certificates import Identity, Role
from ice.telephony.believed import gateways_of
from ice.telephony.envelope import nobody

GROUP, NORTH, SOUTH, OTHER = (str(UUID(int=each)) for each in range(1, 5))


def table(group: str, *members: str) -> str:
    return f'[[server_groups]]\nid = "{group}"\n' + "".join(
        f'[[server_groups.members]]\nid = "{each}"\n' for each in members
    )


def who(id: str, role: Role = Role.SATELLITE) -> Identity:
    return Identity("ab" * 32, role, UUID(id), "somebody")


class Believed(SynchronousTestCase):
    def believed(self, text: str, group: str = GROUP) -> list[str]:
        may = gateways_of(loads(text, Path(self.mktemp()) / "ice.toml").config, group)
        for id in (GROUP, NORTH, OTHER):
            for role in set(Role) - {Role.SATELLITE}:
                self.assertFalse(may(who(id, role)), role)
        return [id for id in (GROUP, NORTH, SOUTH, OTHER) if may(who(id))]

    def test_a_group_that_is_listed(self) -> None:
        """Its members, whoever is out of service too, and the satellite of the very id; no other satellite of the site."""
        text = table(GROUP, NORTH, SOUTH) + "enabled = false\n"
        self.assertEqual(self.believed(text), [GROUP, NORTH, SOUTH])

    def test_a_lone_gateway_that_is_listed(self) -> None:
        """A table of one member, both ids being that of its certificate: only it."""
        self.assertEqual(self.believed(table(NORTH, NORTH), NORTH), [NORTH])

    def test_a_group_that_is_not_listed(self) -> None:
        """The role alone counts, whatever other groups are listed."""
        for text in ("", table(OTHER, SOUTH)):
            self.assertEqual(self.believed(text), [GROUP, NORTH, SOUTH, OTHER])

    def test_a_gateway(self) -> None:
        """Nobody speaks as a gateway to it."""
        self.assertFalse(nobody(who(NORTH)))

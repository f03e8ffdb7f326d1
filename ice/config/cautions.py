"""What a configuration may say, and a careful administrator would look at twice."""

from collections.abc import Iterator
from uuid import UUID

from ice.config.groups import GroupSettings
from ice.config.positions import Path, Positions
from ice.config.problems import Problem, dotted
from ice.config.schema import AccessRule, Config
from ice.net.addresses import Address


def warnings_about(config: Config, file: str, positions: Positions) -> tuple[Problem, ...]:
    """Everything in `config` that is allowed but probably not meant, in the order of the schema."""
    return tuple(
        Problem(file, positions.line(path), dotted(path), message) for path, message in _warnings(config)
    )


def _warnings(config: Config) -> Iterator[tuple[Path, str]]:
    if not config.network.verify_name:
        yield (
            ("network", "verify_name"),
            "any Rallypoint of the authority is believed to be the one that was dialled",
        )
    rallypoint = config.rallypoint
    for index, address in enumerate(rallypoint.listen):
        if address.is_wildcard:
            yield (
                ("rallypoint", "listen", index),
                f"{address} listens on every address of this machine; name one to serve one network alone",
            )
    http = rallypoint.http.listen
    if http is not None and not http.is_loopback:
        yield (
            ("rallypoint", "http", "listen"),
            f"{http} shows who is connected to anybody who can reach it, without encryption",
        )
    yield from _access(rallypoint.access)
    yield from _groups(config.groups)


def _access(rules: tuple[AccessRule, ...]) -> Iterator[tuple[Path, str]]:
    for index, rule in enumerate(rules):
        path = ("rallypoint", "access", index)
        if rule.allow and not rule.listen and not rule.talk:
            yield path, "this rule allows neither listening nor talking; to deny, write allow = false"
        if rule.name == "*" and "*" in rule.streams and index + 1 < len(rules):
            yield path, "this rule fits everybody and every stream; those after it are never asked"
            return


def _groups(groups: tuple[GroupSettings, ...]) -> Iterator[tuple[Path, str]]:
    """What two entries say that cannot both be meant; the plan of a mesh goes by the first address, and by any leaf."""
    leaves: dict[UUID, bool] = {}
    places: dict[UUID, Address] = {}
    owners: dict[Address, UUID] = {}
    for index, group in enumerate(groups):
        present = [member for member in group.members if member.enabled]
        if len(present) > 1 and all(member.leaf for member in present):
            path: Path = ("groups", index, "members")
            yield path, "every member is a leaf, and leaves are not linked with each other: nobody is linked"
        for number, member in enumerate(group.members):
            if not member.enabled:
                continue
            path = ("groups", index, "members", number)
            if leaves.setdefault(member.id, member.leaf) != member.leaf:
                yield (
                    (*path, "leaf"),
                    f"{member.id} is a leaf in one group and not in another: it is one in all",
                )
            if (at := member.address) is None:
                continue
            if (before := places.setdefault(member.id, at)) != at:
                yield (*path, "address"), f"{member.id} is at {before} in another group: it is dialled there"
            elif (owner := owners.setdefault(at, member.id)) != member.id:
                yield (
                    (*path, "address"),
                    f"{at} is the address of {owner} too: dialling it leads to one of them",
                )

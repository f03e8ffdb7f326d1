"""What a configuration may say, and a careful administrator would look at twice."""

from collections.abc import Iterator

from ice.config.positions import Path, Positions
from ice.config.problems import Problem, dotted
from ice.config.schema import AccessRule, Config


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


def _access(rules: tuple[AccessRule, ...]) -> Iterator[tuple[Path, str]]:
    for index, rule in enumerate(rules):
        path = ("rallypoint", "access", index)
        if rule.allow and not rule.listen and not rule.talk:
            yield path, "this rule allows neither listening nor talking; to deny, write allow = false"
        if rule.name == "*" and "*" in rule.streams and index + 1 < len(rules):
            yield path, "this rule fits everybody and every stream; those after it are never asked"
            return

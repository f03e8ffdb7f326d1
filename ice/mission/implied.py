"""What a group's JSON implies without saying it: its id, a cluster's members, the Rallypoint of the whole mission."""

import attrs

from ice.mission.identity import effective_id
from ice.mission.model import Group, Origin
from ice.mission.parts import Host, MissionRallypoint, Rallypoint


def implied(group: Group, of_mission: MissionRallypoint | None) -> Group:
    """The group as it counts, from the group as it stands."""
    origin, rallypoints = Origin.GROUP, group.rallypoints
    if not rallypoints and group.cluster is not None and group.cluster.rallypoints:
        origin, rallypoints = Origin.CLUSTER, group.cluster.rallypoints
    elif not rallypoints and of_mission is not None and of_mission.use:
        host = of_mission.host or Host(of_mission.address, of_mission.port)
        if host.address:
            origin, rallypoints = Origin.MISSION, (Rallypoint(host),)
    found = attrs.evolve(group, rallypoints=rallypoints, rallypoints_from=origin)
    return attrs.evolve(found, id=effective_id(found))

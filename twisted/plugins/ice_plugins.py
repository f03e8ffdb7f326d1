"""One line per daemon. Modules are named by strings, so that listing the plugins imports none of them."""

from twisted.application.service import ServiceMaker

rallypoint = ServiceMaker(
    "ice Rallypoint", "ice.daemons.rallypoint", "Switch voice streams between TLS links.", "ice-rallypoint"
)
reflector = ServiceMaker(
    "ice reflector", "ice.daemons.reflector", "Tie streams to multicast groups.", "ice-reflector"
)
patch = ServiceMaker(
    "ice patch server",
    "ice.daemons.patch",
    "Join channels, so that their people hear each other.",
    "ice-patch",
)
gateway = ServiceMaker(
    "ice gateway", "ice.daemons.gateway", "Telephone calls for people and channels.", "ice-gateway"
)

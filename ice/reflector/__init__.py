"""The static reflector: streams of the Rallypoints and multicast groups that are one.

Read :mod:`ice.reflector.engine` first; :mod:`ice.reflector.service` drives it.
"""

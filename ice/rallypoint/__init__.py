"""The Rallypoint: links in, datagrams of a stream out to every other link that listens to it.

What is decided is decided in engines without I/O (:mod:`~ice.rallypoint.registry`, :mod:`~ice.rallypoint.relay`,
:mod:`~ice.rallypoint.access`, :mod:`~ice.rallypoint.admission`, :mod:`~ice.rallypoint.parrot`); :mod:`~ice.rallypoint.guest` and
:mod:`~ice.rallypoint.service` carry it out, and :mod:`~ice.rallypoint.door` is all that knows the transport.
"""

"""Patches: streams joined so that their people hear each other, whatever codecs and keys the streams use.

:mod:`ice.patch.plan` says what a patch is and which may be active together, :mod:`ice.patch.listing` keeps the list of them.
:func:`ice.patch.engine.engine_for` makes the engine of one patch, of one of three kinds:

* :mod:`ice.patch.relay` passes each datagram to every other stream as it is, sealed anew where keys differ;
* :mod:`ice.patch.transcode` codes each talker anew for each stream;
* :mod:`ice.patch.mixed` gives each stream one voice, the mix of everybody else.

Everything here is an engine: datagrams and time come in, what is to be sent comes out as values (:mod:`ice.patch.outcome`).
"""

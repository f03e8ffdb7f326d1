"""Voice as values: packets, codecs, tones and files, all without I/O on the network and without a clock.

PCM inside the suite is numpy ``int16``, mono, 48 kHz, unless a name says otherwise. The layers, from the wire inwards:
:mod:`ice.media.rtp` (packets and who talks), :mod:`ice.media.codecs` (the one table from a codec's name or payload type to
something that encodes and decodes), and below that :mod:`ice.media.opus`, :mod:`ice.media.g711`, :mod:`ice.media.resample`.
Beside them stand :mod:`ice.media.dtmf`, :mod:`ice.media.tones` and :mod:`ice.media.wav`.
"""

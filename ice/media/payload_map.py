"""What RTP payload types mean on one stream.

A number from 96 to 127 means what both ends have agreed on (RFC 3551 §3), and Engage uses some below as well. A :class:`PayloadMap` is one stream's
agreement: the table of :mod:`ice.media.table`, changed by what a mission's group says. Who sends asks for the number of a codec, who listens for
the codec of a number; both ask the same value.

**Order.** What comes first wins: the group's translations (``inboundRtpPayloadTypeTranslations``: the number ``external`` on the wire is what
Engage calls ``engage``), then telephone events (``rfc4733RtpPayloadId``), then the group's own custom type (``customRtpPayloadType``), then the table. A custom
type is heard as well as sent, as the group's codec: members of one group understand each other without a translation.

**Two codecs of one number.** Engage lists 88 for Codec 2 at 450 and at 700 bit/s. It is 700C, unless the group's encoder is the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media import engage
from ice.media.table import BY_PAYLOAD_TYPE, TELEPHONE_EVENT, Codec

MAX_PAYLOAD_TYPE: Final = 127  # seven bits of the RTP header


@attrs.frozen
class PayloadMap:
    """One stream's payload types; immutable. See the module docstring, and :meth:`of`."""

    inbound: Mapping[int, Codec] = BY_PAYLOAD_TYPE
    outbound: Mapping[str, int] = MappingProxyType({})  #: by codec name, where it is not the codec's own
    telephone_event: int | None = TELEPHONE_EVENT  #: ``None``: no telephone events here
    translated: Mapping[int, int] = MappingProxyType({})  #: number on the wire to what Engage calls it

    @classmethod
    def of(
        cls,
        encoder_id: int | None = None,
        *,
        custom_payload_type: int = -1,
        translations: Iterable[tuple[int, int]] = (),
        telephone_event: int | None = TELEPHONE_EVENT,
    ) -> PayloadMap:
        """The map of a mission's group, from plain numbers.

        ``encoder_id`` is ``txAudio.encoder``, ``custom_payload_type`` its ``customRtpPayloadType`` (−1: none), ``translations`` pairs of external
        and Engage's number, ``telephone_event`` the group's ``rfc4733RtpPayloadId`` (0 or ``None``: none).

        Raises :class:`~ice.errors.LocalError` for an id that Engage does not have, numbers outside 0–127, and a codec and telephone events
        of one number.
        """
        row = engage.encoder_of(encoder_id) if encoder_id is not None else None
        own = row.row if row is not None and row.codec else None
        event = telephone_event or None
        if event is not None:
            _check(event, "telephone events")
        inbound = dict(BY_PAYLOAD_TYPE)
        outbound = {}
        if own is not None:
            inbound[own.payload_type] = own
        if custom_payload_type != -1:
            _check(custom_payload_type, "a custom type")
            if custom_payload_type == event:
                raise LocalError(f"RTP payload type {event} is given to sound and to telephone events")
            if own is not None:
                inbound[custom_payload_type] = own
                outbound[own.name] = custom_payload_type
            else:
                inbound.pop(custom_payload_type, None)
        if event is not None:
            inbound.pop(event, None)
        # What a number means to Engage does not depend on the custom type, which is spoken on the wire only.
        engage_types = dict(BY_PAYLOAD_TYPE)
        if own is not None:
            engage_types[own.payload_type] = own
        translated: dict[int, int] = {}
        for external, internal in translations:
            _check(external, "a translation's external type")
            _check(internal, "a translation's Engage type")
            if external in translated:  # the first counts, as with everything that is looked up in a list
                continue
            translated[external] = internal
            codec = None if internal == event else engage_types.get(internal)
            if codec is None:
                inbound.pop(external, None)
            else:
                inbound[external] = codec
        return cls(MappingProxyType(inbound), MappingProxyType(outbound), event, MappingProxyType(translated))

    def codec(self, payload_type: int) -> Codec | None:
        """What a number on the wire means, ``None`` where it is no sound that we know."""
        return self.inbound.get(payload_type)

    def is_telephone_event(self, payload_type: int) -> bool:
        """Whether that number on the wire is telephone events."""
        event = self.telephone_event
        return event is not None and self.translated.get(payload_type, payload_type) == event

    def payload_type(self, codec: Codec) -> int:
        """The number under which a codec is sent."""
        return self.outbound.get(codec.name, codec.payload_type)

    def explain(self, payload_type: int) -> str:
        """Why nobody here plays a number on the wire, as a sentence."""
        meant = self.translated.get(payload_type, payload_type)
        known = engage.UNSUPPORTED_PAYLOAD_TYPES.get(meant)
        if known is not None:
            return f"RTP payload type {payload_type} is {known.name}, which we cannot decode: {known.why}"
        return (
            f"RTP payload type {payload_type} is none that we know here; if you know its codec, add a translation "
            "(inboundRtpPayloadTypeTranslations) to the group"
        )


def _check(payload_type: int, what: str) -> None:
    if not 0 <= payload_type <= MAX_PAYLOAD_TYPE:
        raise LocalError(f"RTP payload type {payload_type} of {what} is not in 0–{MAX_PAYLOAD_TYPE}")


DEFAULT: Final = PayloadMap()  #: the table as it stands

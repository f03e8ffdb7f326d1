"""How either end joins the sound of a call: its stream, under the key that was made for this call."""

from __future__ import annotations

from collections.abc import Callable

from ice.security.keyring import Keyring
from ice.security.traffic import Cipher
from ice.streams.interface import Network, Receiver, Stream
from ice.streams.sealed import SealedNetwork
from ice.telephony.messages import Media


def join_sound(network: Network, media: Media, receiver: Receiver, wall: Callable[[], float]) -> Stream:
    """Join the stream of a call; its key is in memory alone, and no longer than the call. ``wall`` is the time of day, Unix seconds."""
    keyring = Keyring.of(media.key, Cipher.GCM)
    return SealedNetwork(network, {media.stream: keyring}.get, wall).join(media.stream, receiver)

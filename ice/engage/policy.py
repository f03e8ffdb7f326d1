"""An engine policy, and the configuration of a bridge service, which has one inside.

Most of a policy is about an engine that is not here: its queues, its licences, its audio devices. What an
administrator decided in it (how Rallypoints are chosen, how long one waits, which interface) is taken over.
"""

from collections.abc import Mapping
from typing import Final

from ice.engage.account import Page, Why
from ice.engage.bridges import MODES
from ice.engage.credentials import MAKE_CLIENT, credential, credentials, pair
from ice.engage.missions import STRATEGIES
from ice.engage.rallypointd import COMMAND

_INTERNAL: Final = "an internal of the original"
_NO_LICENCE: Final = "there are no licences"

_TOP: Final[Mapping[str, str]] = {
    "dataDirectory": "ice keeps its state where its service runs",
    "database": "there is no database",
    "licensing": _NO_LICENCE,
    "featureset": _NO_LICENCE,
    "timelines": "nothing is recorded",
    "discovery": "nothing is discovered; Rallypoints and groups are written down",
    "rtpMap": "payload types stand in missions, group by group",
    "namedAudioDevices": "devices are named to ice talk and ice listen",
    "audioRegistry": "devices are named to ice talk and ice listen",
    "audio": "devices and their rates are found when a command opens them",
    "externalCodecs": "codecs are not loaded from files",
    "tuning": _INTERNAL,
    "statusReport": "there is no such report yet",
    "fipsCrypto": "ice uses OpenSSL as the system has it",
    "nsm": "satellites elect their leader by ballots, not by this protocol; a password in it belongs to nothing here",
}


def read(page: Page) -> None:
    """Account for every key of an engine policy."""
    if (inner := page.page("networking")) is not None:
        _networking(inner)
    if (inner := page.page("internals")) is not None:
        _internals(inner)
    if (inner := page.page("security")) is not None:
        _security(inner)
    for key, why in _TOP.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()


def _networking(page: Page) -> None:
    if (interface := page.text("defaultNic")) is not None:
        page.set("defaultNic", "multicast.interface", interface.strip())
    rejoin = page.number("multicastRejoinSecs", 0)
    if rejoin is not None:
        page.set("multicastRejoinSecs", "multicast.rejoin_s", rejoin)
    _scaled(page, "rtpJitterMinMs", "media.jitter_min_ms", 1)
    _scaled(page, "rtpInboundProcessorInactivityMs", "media.end_of_burst_ms", 1)
    _scaled(page, "maxReconnectPauseMs", "network.back_off_max_s", 1000)
    _scaled(page, "rpLeafConnectTimeoutSecs", "network.connect_timeout_s", None)
    for key, why in _NETWORKING.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()


_NETWORKING: Final[Mapping[str, str]] = {
    "rallypointRtTestIntervalMs": "links are asked for life by themselves",
    "preventMulticastFailover": "each group of a mission says whether it fails over (enableMulticastFailover)",
    "rpUdpStreaming": "speech goes over the TLS link",
    "addressResolutionPolicy": "addresses of both families are tried side by side",
    "requireMulticast": "multicast is used where a group has it",
    "maxOutputQueuePackets": _INTERNAL,
    "rtpJitterMaxFactor": "the jitter buffer fits itself to the network; media.jitter_max_ms bounds it",
    "rtpJitterOverflowTrimPercentage": "the jitter buffer fits itself to the network",
    "rtpJitterUnderrunReductionThresholdMs": "the jitter buffer fits itself to the network",
    "rtpLatePacketSequenceRange": "the jitter buffer fits itself to the network",
    "rtpLatePacketTimestampRangeMs": "the jitter buffer fits itself to the network",
    "logRtpJitterBufferStats": "ice listen tells the quality when it ends",
    "reconnectFailurePauseIncrementMs": "the wait doubles, from network.back_off_min_s",
    "sendFailurePauseMs": _INTERNAL,
}

_INTERNALS: Final[Mapping[str, str]] = {
    "disableWatchdog": "systemd watches over services",
    "watchdogIntervalMs": "systemd watches over services",
    "watchdogHangDetectionMs": "systemd watches over services",
    "watchdog": "systemd watches over services",
    "housekeeperIntervalMs": _INTERNAL,
    "logTaskQueueStatsIntervalMs": _INTERNAL,
    "enableLazySpeakerClosure": _INTERNAL,
    "rtpExpirationCheckIntervalMs": _INTERNAL,
    "uriStreamingIntervalMs": _INTERNAL,
    "stickyTidHangSecs": _INTERNAL,
    "tuning": _INTERNAL,
}


def _internals(page: Page) -> None:
    strategy = page.whole("rpClusterStrategy", 0, 1)
    if strategy is not None:
        page.set("rpClusterStrategy", "network.strategy", STRATEGIES[strategy])
    if (longest := page.number("maxTxSecs", 0)) is not None:
        page.set("maxTxSecs", "media.max_talk_s", longest)
    _scaled(page, "rpClusterRolloverSecs", "network.rollover_s", None)
    for key, why in _INTERNALS.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()


def _security(page: Page) -> None:
    pair(page, "certificate", "client", MAKE_CLIENT)
    credential(page, "certificateKey", "client.key", MAKE_CLIENT)
    credentials(page, "caCertificates", "authority-{}.pem", MAKE_CLIENT)
    page.close()


def _scaled(page: Page, key: str, ours: str, divisor: int | None) -> None:
    """A duration: whole milliseconds (``divisor`` 1), milliseconds that become seconds (1000), or seconds (None)."""
    if divisor == 1:
        whole = page.whole(key, 0)
        if whole is not None:
            page.set(key, ours, whole)
        return
    value = page.number(key, 0)
    if value:
        page.set(key, ours, value / divisor if divisor else value, changed=divisor is not None)
    page.left(key, Why.NOT_HERE, "0 leaves it to the system; here it is bounded")


_SERVICE: Final[Mapping[str, str]] = {
    "id": "a satellite is known by the UUID in its certificate",
    "serviceConfigurationFileCheckSecs": "a reload is asked for by SIGHUP",
    "bridgingConfigurationFileName": "patches stand in [[patches]]: give that file to ice import too",
    "bridgingConfigurationFileCheckSecs": "patches stand in [[patches]]",
    "statusReport": "there is no such report yet",
    "externalHealthCheckResponder": "there is no such port for the patch server",
    "internals": _INTERNAL,
    "certStoreFileName": "an encrypted store of the original; certificates here are files (docs/certificates.md)",
    "configurationCheckSignalName": "a reload is asked for by SIGHUP",
    "fipsCrypto": "ice uses OpenSSL as the system has it",
    "nsm": "satellites elect their leader by ballots, not by this protocol; a password in it belongs to nothing here",
}


def read_service(page: Page) -> str:
    """Account for every key of a bridge service's configuration; the mode that it gives its bridges, or ``""``."""
    mode = page.whole("mode", 0, 3)
    found = "" if mode is None else MODES.get(mode, "")
    if mode is not None:
        page.changed(
            "mode", "patches.mode", "each patch has its own mode" if mode < 3 else "each group gives its own"
        )
    if page.text("bridgingConfigurationFileCommand", secret=True):
        page.left("bridgingConfigurationFileCommand", Why.REFUSED, COMMAND)
    page.taken("bridgingConfigurationFileCommand", text="empty: none")
    page.left(
        "certStorePasswordHex",
        Why.REFUSED,
        "a password; certificates and keys are files here, and nothing here reads that store",
    )
    if (inner := page.page("enginePolicy")) is not None:
        read(inner)
    for key, why in _SERVICE.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()
    return found

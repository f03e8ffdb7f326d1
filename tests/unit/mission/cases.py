"""Missions that the tests of this folder share, and where missions from the field are, if they are."""

import copy
import json
from pathlib import Path
from typing import Any

from tests.unit.keys import private_key_pem

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"
KEY = "0F1E2D3C4B5A69788796A5B4C3D2E1F00123456789ABCDEFFEDCBA9876543210"
OTHER_KEY = "A1B2C3D4E5F60718293A4B5C6D7E8F9001122334455667788990ABBCCDDEEFF1"

SMALL: dict[str, Any] = {
    "meta": {"type": "ICE-MISSION", "version": 1, "created": "2026-01-01T00:00:00.000Z"},
    "id": "",
    "name": "Demo",
    "groups": [
        {
            "type": 1,
            "id": "",
            "idOverride": False,
            "name": "Red",
            "rx": {"address": "239.9.9.1", "port": 20000},
            "tx": {"address": "239.9.9.1", "port": 20000},
            "txAudio": {"encoder": 25, "framingMs": 60, "fdx": False, "maxTxSecs": 120},
            "rallypoints": [{"host": {"address": "rp.test", "port": 7443}}],
        }
    ],
}

# Every key of the data model, each with a value that is not its default.
WHOLE: dict[str, Any] = {
    "meta": {"type": "ICE-MISSION", "version": 1, "created": "2026-02-03T04:05:06.000Z"},
    "id": "{00000000-0000-4000-8000-000000000001}",
    "name": "Everything",
    "description": "all keys there are",
    "certStoreId": "store",
    "multicastFailoverPolicy": 1,
    "rallypoint": {"use": True, "address": "old.test", "port": 7444},
    "generator": {"execMs": 12.50, "fieldHash": "abc"},
    "groups": [
        {
            "type": 1,
            "id": "{D7107580-952D-4FD4-A4C2-A01F4067FD39}",
            "idOverride": True,
            "name": "Full",
            "description": "a group",
            "cryptoPassword": KEY,
            "rx": {"address": "239.9.9.1", "port": 20000},
            "tx": {"address": "239.9.9.2", "port": 20002},
            "txAudio": {
                "enabled": False,
                "encoder": 1,
                "encoderName": "own",
                "framingMs": 40,
                "blockCount": 2,
                "fdx": True,
                "noHdrExt": True,
                "maxTxSecs": 30,
                "extensionSendInterval": 11,
                "initialHeaderBurst": 6,
                "trailingHeaderBurst": 7,
                "startTxNotifications": 8,
                "customRtpPayloadType": 99,
                "resetRtpOnTx": False,
                "enableSmoothing": False,
                "smoothedHangTimeMs": 10,
                "dtx": True,
            },
            "presence": {
                "format": 2,
                "intervalSecs": 31,
                "minIntervalSecs": 6,
                "listenOnly": True,
                "reduceImmediacy": True,
                "forceOnAudioTransmit": True,
            },
            "rallypoints": [
                {
                    "host": {"address": "rp.test", "port": 7443},
                    "name": "first",
                    "certificate": "@file:///etc/client.pem",
                    "certificateKey": private_key_pem(),
                    "verifyPeer": False,
                    "allowSelfSignedCertificate": True,
                    "caCertificates": [
                        "@ca.pem",
                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    ],
                    "transactionTimeoutMs": 30000,
                    "disableMessageSigning": True,
                    "connectionTimeoutSecs": 6,
                    "tcpTxOptions": {"priority": 2, "ttl": 64},
                    "sni": "rp.example",
                    "protocol": "wss",
                    "path": "/rp",
                }
            ],
            "spokenName": "full",
            "alias": "F",
            "source": "site",
            "interfaceName": "eth1",
            "txOptions": {"priority": 2, "ttl": 16},
            "audio": {
                "enabled": False,
                "inputId": 1,
                "inputGain": -10,
                "outputId": 2,
                "outputGain": 20,
                "outputLevelLeft": 50,
                "outputLevelRight": 60,
                "outputMuted": True,
            },
            "lbCrypto": True,
            "enableMulticastFailover": True,
            "multicastFailoverSecs": 12,
            "timeline": {"enabled": False, "maxAudioTimeMs": 10000, "recordAudio": False},
            "blockAdvertising": True,
            "maxRxSecs": 60,
            "rtcpPresenceRx": {"address": "239.9.9.3", "port": 20005},
            "presenceGroupAffinities": ["a", "b"],
            "disablePacketEvents": True,
            "rfc4733RtpPayloadId": 101,
            "inboundRtpPayloadTypeTranslations": [{"external": 117, "engage": 77}],
            "priorityTranslation": {
                "rx": {"address": "239.9.9.4", "port": 1},
                "tx": {"address": "239.9.9.5", "port": 2},
                "priority": 200,
            },
            "stickyTidHangSecs": 11,
            "anonymousAlias": "somebody",
            "inboundAliasGenerationPolicy": 1,
            "appTransport": {"enabled": True, "id": "x"},
            "allowLoopback": True,
            "rtpProfile": {
                "mode": 1,
                "jitterMaxMs": 9000,
                "jitterMinMs": 40,
                "jitterMaxFactor": 9,
                "latePacketSequenceRange": 6,
                "latePacketTimestampRangeMs": 2001,
                "jitterTrimPercentage": 11,
                "jitterUnderrunReductionThresholdMs": 1501,
                "jitterUnderrunReductionAger": 101,
                "jitterForceTrimAtMs": 1,
                "jitterMaxTrimMs": 251,
                "jitterMaxExceededClipPerc": 12,
                "jitterMaxExceededClipHangMs": 1502,
                "inboundProcessorInactivityMs": 501,
                "signalledInboundProcessorInactivityMs": 2004,
                "rtcpPresenceTimeoutMs": 45001,
                "zombieLifetimeMs": 15001,
            },
            "rangerPackets": {"hangTimerSecs": 12, "count": 6},
            "txImpairment": {"applicationPercentage": 1, "jitterMs": 2, "lossPercentage": 3},
            "rxImpairment": {"applicationPercentage": 4, "jitterMs": 5, "lossPercentage": 6},
            "specializerAffinities": [1, 65535],
            "securityLevel": 3,
            "ignoreSources": [{"nodeId": "{n}", "alias": "noisy"}],
            "languageCode": "eng",
            "synVoice": "v",
            "rxCapture": {"enabled": True, "maxMb": 11, "filePrefix": "r"},
            "txCapture": {"enabled": True, "maxMb": 12, "filePrefix": "t"},
            "blobRtpPayloadType": 66,
            "gateIn": {
                "enabled": True,
                "useVad": True,
                "hangMs": 1501,
                "windowMin": 26,
                "windowMax": 126,
                "coefficient": 1.80,
            },
            "ignoreAudioTraffic": True,
            "bridgeTargetOutputDetail": {
                "mode": 2,
                "mixedStreamTxParams": {
                    "flags": 1,
                    "priority": 2,
                    "subchannelTag": 3,
                    "includeNodeId": True,
                    "alias": "mix",
                    "muted": True,
                    "txId": 4,
                    "audioUri": {"uri": "file:x.wav", "repeatCount": 1},
                    "aliasSpecializer": 5,
                    "receiverRxMuteForAliasSpecializer": True,
                    "reBegin": True,
                },
            },
            "sourceFilter": ["192.0.2.1"],
            "cipher": "aes-256-gcm",
            "rekey": {"cryptoPassword": OTHER_KEY, "at": "2026-03-01T00:00:00Z", "overlapSecs": 3600},
            "_wizardCreated": {"type": "audio"},
        },
        {
            "type": 2,
            "id": "control",
            "name": "Mission Control",
            "rallypointCluster": {
                "connectionStrategy": 1,
                "rallypoints": [
                    {"host": {"address": "a.test", "port": 7443}},
                    {"host": {"address": "b.test", "port": 7443}},
                ],
                "rolloverSecs": 11,
                "connectionTimeoutSecs": 6,
                "transactionTimeoutMs": 10001,
            },
        },
    ],
}


def small(**changes: Any) -> dict[str, Any]:
    """:data:`SMALL`, its group with other keys; None takes one out."""
    found = copy.deepcopy(SMALL)
    group = found["groups"][0]
    for key, value in changes.items():
        if value is None:
            group.pop(key, None)
        else:
            group[key] = value
    return found


def text(value: Any) -> str:
    """As JSON."""
    return json.dumps(value, ensure_ascii=False)


def in_order(value: dict[str, Any]) -> dict[str, Any]:
    """A mission with its groups as they are written: by name, descending."""
    found = dict(value)
    for key in ("groups", "talkgroups"):
        if key in found:
            found[key] = sorted(found[key], key=lambda group: group.get("name", ""), reverse=True)
    return found

"""``ice doctor --gateway`` against a scripted call manager: every line of its checklist, good and bad; and the trunk by TLS."""

from __future__ import annotations

import json
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.utils import getProcessOutputAndValue

from ice.cli.examine import Result, Verdict
from ice.cli.examine_gateway import trunk_use
from ice.config.gateway import TrunkSettings
from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.telephony import ari_link
from ice.testing import exchange_parts
from ice.testing.exchange import Exchange
from tests.system.conftest import BIN, clean_environment
from tests.system.test_asterisk import Gateway, until

reactor: Any = installed
OPENSSL = shutil.which("openssl") or "openssl"


class Pbx:
    """A call manager with a certificate of its own, and the settings that lead to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority.create(folder / "pki", datetime.now(UTC))
        authority.issue("pbx", Role.RALLYPOINT, datetime.now(UTC), dns=["localhost"])
        Authority.create(folder / "others", datetime.now(UTC))
        self.secret = secrets.token_hex(8)
        self.password = folder / "password"
        self.password.write_text(self.secret)
        self.password.chmod(0o600)
        self.exchange = Exchange(reactor, password=self.secret)
        pem, key = folder / "pki" / "pbx.pem", folder / "pki" / "pbx.key"
        self.port = self.exchange.listen(tls=DefaultOpenSSLContextFactory(str(key), str(pem)))

    def settings(self, **more: Any) -> TrunkSettings:
        fields: dict[str, Any] = {
            "name": "pbx",
            "url": f"https://localhost:{self.port}",
            "authority": self.folder / "pki" / "authority.pem",
            "password_file": self.password,
        }
        return TrunkSettings(**(fields | more))

    async def bad(self, **more: Any) -> list[Result]:
        return [r for r in await trunk_use(reactor, self.settings(**more)) if r.verdict is not Verdict.OK]


@ensureDeferred
async def test_checklist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is well but that no gateway is connected; then each thing that may be wrong, in words and with what to do; nothing is left of the test calls."""
    pbx = Pbx(tmp_path)
    found = await trunk_use(reactor, pbx.settings())
    subjects = [(r.subject.removeprefix("trunk pbx").strip(), r.verdict.value) for r in found]
    assert subjects == [
        ("", "ok"), ("modules", "ok"), ("application", "warn"), ("endpoint", "ok"), ("events", "ok"), ("sound", "ok"),
    ]  # fmt: skip
    assert "TLS verified" in found[0].found
    assert "16000 Hz" in found[-1].found

    (stranger,) = await pbx.bad(authority=tmp_path / "others" / "authority.pem")
    assert "TLS failed" in stranger.found
    (name,) = await pbx.bad(url=f"https://127.0.0.1:{pbx.port}")
    assert "another name" in name.found
    alone = Exchange(
        reactor, password=pbx.secret
    )  # a certificate that vouches for itself, as the example has it
    making = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=pbx -addext subjectAltName=DNS:localhost"
    pem, key = tmp_path / "self.pem", tmp_path / "self.key"
    _, said, status = await getProcessOutputAndValue(
        OPENSSL, [*making.split(), "-keyout", str(key), "-out", str(pem)]
    )
    assert status == 0, said
    port = alone.listen(tls=DefaultOpenSSLContextFactory(str(key), str(pem)))
    assert [r.subject for r in await pbx.bad(url=f"https://localhost:{port}", authority=pem)] == [
        "trunk pbx application"
    ]
    await alone.close()
    (closed,) = await pbx.bad(url="https://localhost:1")
    assert "refused" in closed.found
    wrong = tmp_path / "wrong"
    wrong.write_text("not-it")
    wrong.chmod(0o600)
    (refused,) = await pbx.bad(password_file=wrong)
    assert "401" in refused.found
    wrong.chmod(0o644)
    (mode,) = await pbx.bad(password_file=wrong)
    assert "chmod 600" in mode.found

    def bad_lines(results: list[Result]) -> list[str]:
        return [r.found for r in results if r.subject != "trunk pbx application"]

    (missing,) = bad_lines(await pbx.bad(dial="PJSIP/{number}@elsewhere"))
    assert missing == "PJSIP/elsewhere does not exist"
    monkeypatch.setattr("ice.testing.exchange.MODULES", exchange_parts.MODULES[:-5])
    assert any("chan_pjsip" not in line and "does not run" in line for line in bad_lines(await pbx.bad()))
    monkeypatch.undo()
    pbx.exchange.faults.fail("externalMedia", 500)
    (sound,) = bad_lines(await pbx.bad())
    assert "Asterisk cannot connect to 127.0.0.1:" in sound
    pbx.exchange.faults.none()
    pbx.exchange.faults.fail("info", "garbage", 1)
    (garbage,) = await pbx.bad()
    assert "not what ARI says" in garbage.found
    monkeypatch.setattr(ari_link, "ANSWER_S", 0.3)
    pbx.exchange.faults.fail("info", "nothing", 1)
    (silent,) = await pbx.bad()
    assert "in time" in silent.found
    monkeypatch.undo()
    pbx.exchange.faults.events_refused = 404
    (events,) = bad_lines(await pbx.bad())
    assert "(404)" in events
    await until(lambda: not pbx.exchange.half_open, "nothing to be left")
    await pbx.exchange.close()


@ensureDeferred
async def test_command(tmp_path: Path) -> None:
    """The command itself, with a gateway connected by TLS at the same time: it says so, and does not disturb it."""
    pbx = Pbx(tmp_path)
    from ice.telephony.asterisk import AsteriskTrunk

    trunk = AsteriskTrunk(pbx.settings(), reactor, Gateway())
    trunk.start()
    await until(lambda: trunk.health.up, "the trunk")
    config = tmp_path / "ice.toml"
    config.write_text(
        f'[[gateway.trunks]]\nname = "pbx"\nurl = "https://localhost:{pbx.port}"\n'
        'authority = "pki/authority.pem"\npassword_file = "password"\n'
    )
    out, err, _ = await getProcessOutputAndValue(
        str(BIN / "ice"),
        ["doctor", "--gateway", "--json", "--config", str(config)],
        env=clean_environment(),
        path=str(tmp_path),
    )
    assert out, err
    findings = [each for each in json.loads(out)["findings"] if each["subject"].startswith("trunk pbx")]
    assert [each["verdict"] for each in findings] == ["ok"] * 6, findings
    assert pbx.secret not in out.decode() + err.decode()
    assert trunk.health.up
    await trunk.stop()
    await until(lambda: not pbx.exchange.half_open, "nothing to be left")
    await pbx.exchange.close()

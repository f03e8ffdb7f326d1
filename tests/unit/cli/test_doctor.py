"""The doctor: each thing that can be wrong is told with what mends it, and what is right is not complained of."""

import contextlib
import json
import os
import socket
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from click.testing import CliRunner
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from ice.cli import examine
from ice.cli.doctor import doctor
from ice.cli.examine import NOT_BEFORE, Listener, Verdict
from ice.config.multicast import MulticastSettings
from ice.security.certificates import Role
from ice.security.contexts import ClientTls, ServerTls
from ice.security.minting import Subject, new_authority, new_key, new_leaf
from ice.security.trust import Credentials, Trust

NOW_S = NOT_BEFORE + 1000.0


class Machine(SynchronousTestCase):
    def test_versions(self) -> None:
        """What this very test runs with is good enough, and is named."""
        results = list(examine.versions())
        self.assertEqual([r.subject for r in results], ["python", "twisted", "openssl"])
        self.assertEqual({r.verdict for r in results}, {Verdict.OK})

    def test_no_opus(self) -> None:
        """A missing libopus fails with the one command that installs it; a broken one too."""
        missing = examine.opus(lambda name: None)
        self.assertEqual((missing.verdict, missing.remedy), (Verdict.FAIL, "sudo apt install libopus0"))
        self.assertIs(examine.opus(lambda name: "libc.so.6").verdict, Verdict.FAIL)
        self.assertIs(examine.opus(lambda name: "/nonexistent.so").verdict, Verdict.FAIL)

    def test_fan_out(self) -> None:
        """Compiled is right; without it everything works, and the command that mends it is told."""
        self.assertIs(examine.fan_out("compiled").verdict, Verdict.OK)
        slow = examine.fan_out("python: it was not built")
        self.assertIs(slow.verdict, Verdict.WARN)
        self.assertIn("not built", slow.found)
        self.assertIn("python3-dev", slow.remedy)

    def test_clock(self) -> None:
        """Synchronised is right, not so is worth a look, never set is in the way."""
        self.assertIs(examine.clock((True, 0.012), NOW_S).verdict, Verdict.OK)
        self.assertIn("12 ms", examine.clock((True, 0.012), NOW_S).found)
        self.assertIs(examine.clock((False, 16.0), NOW_S).verdict, Verdict.WARN)
        self.assertIs(examine.clock(None, NOW_S).verdict, Verdict.WARN)
        self.assertIs(examine.clock((True, 0.0), 3600.0).verdict, Verdict.FAIL)

    def test_kernel_clock(self) -> None:
        """The kernel is asked without any right; its answer is a pair, or nothing."""
        answer = examine.kernel_clock()
        if answer is not None:
            self.assertIsInstance(answer[0], bool)
            self.assertGreaterEqual(answer[1], 0.0)

    def test_open_files(self) -> None:
        """Fewer open files than links is a warning with the number that is wanted."""
        self.assertIs(examine.open_files(1000, 65536, "x").verdict, Verdict.OK)
        few = examine.open_files(10_000, 1024, "x")
        self.assertIs(few.verdict, Verdict.WARN)
        self.assertIn("LimitNOFILE=10256", few.remedy)

    def test_multicast(self) -> None:
        """Each interface is told on its own; none at all is told too."""
        results = list(
            examine.multicast(["eth0", "eth1"], lambda name: None if name == "eth0" else "joining: no")
        )
        self.assertEqual([r.verdict for r in results], [Verdict.OK, Verdict.WARN])
        self.assertIn("dev eth1", results[1].remedy)
        self.assertEqual([r.verdict for r in examine.multicast([])], [Verdict.WARN])
        self.assertIn("opening a socket", examine.hears_itself("no-such-if") or "")

    def test_interfaces(self) -> None:
        """Only what is up, can multicast and is not loopback counts."""
        folder = Path(self.mktemp())
        for name, flags in [
            ("lo", "0x9"),
            ("eth0", "0x1003"),
            ("eth1", "0x1002"),
            ("tun0", "0x91"),
            ("odd", "?"),
        ]:
            (folder / name).mkdir(parents=True)
            (folder / name / "flags").write_text(flags + "\n")
        self.assertEqual(examine.multicast_interfaces(folder), ["eth0"])


class Ports(SynchronousTestCase):
    def taken(self) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(sock.close)
        return int(sock.getsockname()[1])

    def test_free(self) -> None:
        """A port that nobody has is free, and is free again afterwards."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            number = sock.getsockname()[1]
        for _ in range(2):
            self.assertEqual(examine.port("k", "127.0.0.1", number, needed=True).found, "free")

    def test_taken(self) -> None:
        """A port that another program has fails where it is needed, and names the program."""
        number = self.taken()
        web = Listener(42, "nginx", "nginx: master")
        result = examine.port("rallypoint.listen", "127.0.0.1", number, needed=True, who=lambda port: web)
        self.assertIs(result.verdict, Verdict.FAIL)
        self.assertIn("nginx (pid 42", result.found)
        result = examine.port("rallypoint.listen", "127.0.0.1", number, needed=False, who=lambda port: web)
        self.assertIs(result.verdict, Verdict.WARN)
        result = examine.port("rallypoint.listen", "127.0.0.1", number, needed=True, who=lambda port: None)
        self.assertIn("ss -ltnp", result.remedy)

    def test_taken_by_us(self) -> None:
        """Our own daemon on its port is how it should be."""
        ours = Listener(42, "twistd", "/opt/ice/bin/python /opt/ice/bin/twistd -n ice-rallypoint")
        result = examine.port(
            "rallypoint.listen", "127.0.0.1", self.taken(), needed=True, who=lambda port: ours
        )
        self.assertIs(result.verdict, Verdict.OK)

    def test_foreign_address(self) -> None:
        """An address that this machine does not have is told as that."""
        result = examine.port("rallypoint.listen", "192.0.2.1", 7443, needed=True)
        self.assertIn("no address of this machine", result.found)

    def test_who_listens(self) -> None:
        """/proc tells who holds a listening port: here, this process."""
        found = examine.who_listens(self.taken())
        assert found is not None
        self.assertEqual(found.pid, os.getpid())
        self.assertIsNotNone(examine.limit_of(os.getpid()))

    def test_no_proc(self) -> None:
        """Where /proc shows nothing, nothing is known."""
        nowhere = Path(self.mktemp())
        self.assertIsNone(examine.who_listens(7443, nowhere))
        self.assertIsNone(examine.limit_of(1, nowhere))


class Ways(SynchronousTestCase):
    def refused(self, error: OSError) -> examine.Result:
        def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
            raise error

        return examine.way("relay.example", 7443, None, 1.0, connect)

    def test_no_way(self) -> None:
        """Each way of not getting there has a sentence and a remedy of its own."""
        found = [
            self.refused(error)
            for error in (
                socket.gaierror(-2, "Name or service not known"),
                TimeoutError(),
                ConnectionRefusedError(),
                OSError(101, "Network is unreachable"),
            )
        ]
        self.assertEqual({r.verdict for r in found}, {Verdict.FAIL})
        self.assertEqual(len({r.found for r in found}), 4)
        self.assertEqual(len({r.remedy for r in found}), 4)

    def test_one_is_enough(self) -> None:
        """Where one Rallypoint answers, the others that do not are warnings."""
        good, bad = examine.ok("a", "there"), examine.fail("b", "gone", "start it")
        self.assertEqual([r.verdict for r in examine.ways([bad, good])], [Verdict.WARN, Verdict.OK])
        self.assertEqual([r.verdict for r in examine.ways([bad, bad])], [Verdict.FAIL, Verdict.FAIL])


class Handshakes(SynchronousTestCase):
    """Against a real TLS end of ours, over a pair of sockets."""

    def setUp(self) -> None:
        self.now = datetime.now(UTC)
        self.key = new_key()
        self.authority = new_authority("here", self.key, self.now)

    def credentials(self, role: Role, *, days: float = 1.0) -> Credentials:
        key = new_key()
        subject = Subject(name="x", role=role, id=UUID(int=7), dns=("localhost",))
        begin = self.now - timedelta(days=10)
        leaf = new_leaf(subject, key, self.authority, self.key, begin, self.now + timedelta(days=days))
        return Credentials(certificate=leaf, chain=(), key=key)

    def shake(self, client: Credentials, server: ServerTls | None) -> str | None:
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        theirs.settimeout(5)

        def serve() -> None:
            with theirs:
                if server is None:
                    theirs.recv(65536)  # the whole first message: it is one write
                    theirs.sendall(b"SSH-2.0-OpenSSH\r\n")
                    with contextlib.suppress(ConnectionError):
                        theirs.recv(65536)  # until the doctor goes
                    return
                theirs.setblocking(True)
                connection = server.connection(theirs)
                try:
                    connection.do_handshake()
                    connection.recv(1)  # until the doctor goes
                except SSL.Error:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with ours:
                tls = ClientTls(client, Trust((self.authority,)))
                return examine.shakes_hands(ours, "localhost", tls, 5.0)
        finally:
            thread.join(10)

    def test_welcome(self) -> None:
        """Two certificates of one authority: nothing to say."""
        self.patch(examine, "REFUSAL_S", 0.01)  # nothing comes, so nothing is waited for
        server = ServerTls(self.credentials(Role.RALLYPOINT), Trust((self.authority,)))
        self.assertIsNone(self.shake(self.credentials(Role.CLIENT), server))

    def test_refused_there(self) -> None:
        """A Rallypoint that refuses our certificate is heard, although its refusal comes after the handshake."""
        self.patch(examine, "REFUSAL_S", 5.0)  # it ends the wait, however busy the machine is
        server = ServerTls(
            self.credentials(Role.RALLYPOINT), Trust((new_authority("there", new_key(), self.now),))
        )
        self.assertIn("it refuses us", self.shake(self.credentials(Role.CLIENT), server) or "")

    def test_refused_here(self) -> None:
        """A Rallypoint whose certificate expired is refused by us, and that is said."""
        server = ServerTls(self.credentials(Role.RALLYPOINT, days=-1.0), Trust((self.authority,)))
        said = self.shake(self.credentials(Role.CLIENT), server) or ""
        self.assertIn("we refuse it", said)
        self.assertIn("expired", said)

    def test_something_else(self) -> None:
        """What speaks no TLS is told as that."""
        self.assertIn("not TLS", self.shake(self.credentials(Role.CLIENT), None) or "")


class Command(SynchronousTestCase):
    def run_doctor(self, *words: str) -> tuple[int, str]:
        self.patch(examine, "multicast_interfaces", list)
        done = CliRunner().invoke(doctor, words)
        return done.exit_code, done.output

    def test_no_configuration(self) -> None:
        """Without the configuration that was named the rest is still looked at, and the exit status is 1."""
        status, said = self.run_doctor("--config", self.mktemp())
        self.assertEqual(status, 1)
        self.assertIn("python", said)
        self.assertIn("fail  configuration", said)
        self.assertRegex(said, r"\n\d+ ok, \d+ to look at, 1 to mend\n\Z")

    def test_no_server(self) -> None:
        """A team over multicast alone has no configuration and is told so; how its groups go out is looked at all the same."""
        looked: list[object] = []
        self.patch(sys.modules["ice.cli.doctor"], "load_if_any", lambda path: None)
        self.patch(
            sys.modules["ice.cli.doctor"], "multicast_use", lambda settings: looked.append(settings) or []
        )
        status, said = self.run_doctor()
        self.assertEqual(status, 0)
        self.assertIn("warn  configuration", said)
        self.assertEqual(looked, [MulticastSettings()])

    def test_json(self) -> None:
        """For machines: one object, the same findings."""
        status, said = self.run_doctor("--json", "--config", self.mktemp())
        answer = json.loads(said)
        self.assertEqual((status, answer["ok"]), (1, False))
        self.assertEqual(set(answer["findings"][0]), {"verdict", "subject", "found", "remedy"})

    def test_new_machine(self) -> None:
        """With a configuration and no certificates yet, it says what to type."""
        path = Path(self.mktemp())
        with socket.create_server(("127.0.0.1", 0)) as sock:
            gone = sock.getsockname()[1]
        path.write_text(f'[network]\nrallypoints = ["127.0.0.1:{gone}"]\n')
        status, said = self.run_doctor("--config", str(path))
        self.assertEqual(status, 1)
        self.assertIn("do: ice pki init", said)
        self.assertIn("nothing listens there", said)

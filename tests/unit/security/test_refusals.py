"""From an error of OpenSSL to a word for a counter and a sentence for a person."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import RemoteError
from ice.security.refusals import HandshakeRefused, Reason, Refusal, explain


def error(*reasons: str) -> SSL.Error:
    """An error as pyOpenSSL raises it."""
    return SSL.Error([("SSL routines", "", reason) for reason in reasons])


class Explaining(SynchronousTestCase):
    """What each error is taken for; whole handshakes are in test_contexts."""

    def test_ours(self) -> None:
        """A refusal of ours is explained by itself, and is an SSL error of the remote kind."""
        refusal = Refusal(Reason.REVOKED, "no", by_us=True)
        ours = HandshakeRefused(refusal)
        self.assertIs(explain(ours), refusal)
        self.assertIsInstance(ours, SSL.Error)
        self.assertIsInstance(ours, RemoteError)
        self.assertEqual((str(ours), str(refusal)), ("no", "no"))

    def test_alerts(self) -> None:
        """An alert is what we are told, whichever prefix this OpenSSL gives it; one that is not known is shown."""
        for text, code in (
            ("tls alert certificate expired", "told-expired"),
            ("sslv3 alert certificate expired", "told-expired"),
            ("ssl/tls alert certificate revoked", "told-revoked"),
            ("tlsv1 alert unknown ca", "told-unknown-authority"),
            ("tlsv13 alert certificate required", "told-no-certificate"),
            ("tlsv1 alert protocol version", "told-tls-version"),
            ("tlsv1 alert something new", "told-unspecific"),
        ):
            self.assertEqual(explain(error(text)).code, code)
        self.assertIn("something new", explain(error("tlsv1 alert something new")).sentence)

    def test_reset(self) -> None:
        """A connection that was reset while OpenSSL read it is told as that; pyOpenSSL knows only the library."""
        refusal = explain(SSL.Error([("system library", "", "")]))
        self.assertEqual((refusal.reason, refusal.by_us), (Reason.CLOSED, False))
        self.assertIn("reset", refusal.sentence)

    def test_second_entry_counts(self) -> None:
        """The first entry that is known decides, an alert before all."""
        self.assertEqual(explain(error("excessive message size", "record layer failure")).code, "not-tls")
        self.assertEqual(
            explain(error("record layer failure", "tlsv1 alert unknown ca")).code, "told-unknown-authority"
        )

    def test_what_openssl_alone_knows(self) -> None:
        """Anything else keeps OpenSSL's own words."""
        refusal = explain(error("bad key share"))
        self.assertEqual(refusal.code, "tls-error")
        self.assertIn("bad key share", refusal.sentence)

    def test_ends(self) -> None:
        """Ends of a connection are no faults of TLS."""
        for ended in (
            SSL.ZeroReturnError(),
            SSL.SysCallError(-1, "Unexpected EOF"),
            ConnectionLost(),
            SSL.SysCallError(104, "ECONNRESET"),
        ):
            self.assertEqual(explain(ended).code, "told-closed")

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.none(),
                st.text(),
                st.lists(st.one_of(st.text(), st.tuples(st.text(), st.text(), st.text()))),
            )
        )
    )
    def test_never_fails(self, args: list[object]) -> None:
        """Whatever an error carries, there is an explanation."""
        self.assertIsInstance(explain(SSL.Error(*args)), Refusal)

"""Which streams a person may join: the names that call messages make, and no others."""

from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.telephony import messages
from ice.telephony.streams import May, discreet, person_may

GROUP, ME, OTHER = (UUID(int=each) for each in (7, 8, 9))


class StreamsTests(SynchronousTestCase):
    def test_names_of_messages(self) -> None:
        """Every stream that a telephone joins is one that its person may join, as it joins it."""
        group, me = str(GROUP), str(ME)
        self.assertEqual(person_may(messages.group_stream(group), me), May(listen=False, talk=True))
        self.assertEqual(person_may(messages.user_stream(group, ME), me), May(listen=True, talk=False))
        self.assertEqual(person_may(messages.notice_stream(group), me), May(listen=True, talk=False))
        self.assertEqual(person_may(messages.sound_stream(OTHER), me), May(listen=True, talk=True))

    def test_others(self) -> None:
        """What is said to somebody else is his; so is everything that satellites say among themselves."""
        for stream in (
            messages.user_stream(str(GROUP), OTHER),
            "__election_7",
            "__calls_",
            "__calls_x_all",
            "ops",
        ):
            self.assertFalse(any(person_may(stream, str(ME))), stream)

    def test_shown_to_anybody(self) -> None:
        """The sound of a call by the beginning of its id, all others whole."""
        call = UUID("1a2b3c4d-0a0b-4c0d-8e0f-101112131415")
        self.assertEqual(discreet(messages.sound_stream(call)), "__call_1a2b3c4d…")
        for stream in (
            messages.user_stream(str(GROUP), ME),
            messages.notice_stream(str(GROUP)),
            "__call_x",
            "ops",
            "",
        ):
            self.assertEqual(discreet(stream), stream)

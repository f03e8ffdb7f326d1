"""The sentence that comes with ice."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import ice.testing

#: A spoken sentence, mono, for the demo, the parrot and tests.
SPEECH: Final = Path(ice.testing.__file__).parent / "data" / "speech.wav"

"""Which language a text is in, where that can be told."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

LANGUAGES: Final = (
    *("ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "ga", "he", "hu", "hy", "id", "it", "ja", "ko", "lt", "ne"),
    *("nl", "no", "pl", "pt", "ro", "ru", "sk", "sr", "sv", "ta", "th", "tr", "uk", "vi", "zh"),
)
"""ISO 639-1 codes that texts are told apart by: those that PostgreSQL stems, and others that are common."""
ENOUGH: Final = 12
"""Letters below which a text tells no language."""
SURE: Final = 0.8
"""The probability from which on a language is named."""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language; None when it is too short or too mixed to tell."""
    sample = text[:4000]
    if len(re.findall(r"[^\W\d_]", sample)) < ENOUGH:
        return None
    language, probability = _identifier().classify(sample)
    return str(language) if probability >= SURE else None

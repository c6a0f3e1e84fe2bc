"""Language codes made comparable: containers say "eng" or "ger", uploads say "en" or "de-AT"."""

# ISO 639-2 (both its forms) to ISO 639-1, for the languages that captions come in most.
_TWO_LETTERS = {
    "ara": "ar", "ben": "bn", "bul": "bg", "cat": "ca", "ces": "cs", "chi": "zh", "cze": "cs", "dan": "da",
    "deu": "de", "dut": "nl", "ell": "el", "eng": "en", "est": "et", "fas": "fa", "fin": "fi", "fra": "fr",
    "fre": "fr", "ger": "de", "gre": "el", "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "ind": "id",
    "ita": "it", "jpn": "ja", "kor": "ko", "lav": "lv", "lit": "lt", "may": "ms", "msa": "ms", "nld": "nl",
    "nor": "no", "per": "fa", "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru", "slk": "sk",
    "slo": "sk", "slv": "sl", "spa": "es", "srp": "sr", "swe": "sv", "tam": "ta", "tel": "te", "tha": "th",
    "tur": "tr", "ukr": "uk", "urd": "ur", "vie": "vi", "zho": "zh",
}  # fmt: skip


def primary_code(tag: str | None) -> str | None:
    """ISO 639-1 where there is one: "de" for "de-AT", "deu" and "ger"; None for none and for "und"."""
    if tag is None:
        return None
    code = tag.lower().replace("_", "-").partition("-")[0]
    return None if code in ("", "und") else _TWO_LETTERS.get(code, code)


def mismatch(tag: str | None, wanted: str | None) -> int:
    """0 where the language is the wanted one or none is wanted, 1 where unknown, 2 where it is another."""
    if wanted is None:
        return 0
    code = primary_code(tag)
    if code is None:
        return 1
    return 0 if code == primary_code(wanted) else 2

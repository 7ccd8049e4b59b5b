"""DeepFloyd's cleaning of captions: what web crawls leave behind (addresses, file names, article numbers, spam) is taken out.

The rules and their order are those that DeepFloyd IF published and PRX trained with. They also call a library (ftfy) that guesses how text
was mangled on its way; in lower case, where it comes, little of that can be told, so here only forms of letters are made plain.
"""

import html
import re
import unicodedata
from urllib.parse import unquote_plus

Rules = list[tuple[str, str]]

DASHES = "-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
FILE_KINDS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"

RAW: Rules = [
    ("<person>", "person"),
    # addresses on the web
    (r"\b((?:https?|www):(?:/{1,3}|[a-z0-9%])|[a-z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@))", ""),
    (r"@\w+\b", ""),  # nicknames
    ("[\u31c0-\u9fff]+", ""),  # from CJK strokes to the last ideograph
    (f"[{DASHES}]+", "-"),
    ("[`´«»“”¨]", '"'),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # IP addresses
    (r"\d:\d\d\s+$", ""),  # numbers of articles
    (r"\\n", " "),  # a line break that was written out
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"\S+\.(?:{FILE_KINDS})", ""),
    ("[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
    (r"\s+\.\s+", " "),
]
"""Before entities are undone; on lower case."""

SPAM: Rules = [
    (r"\b[a-z]{1,3}\d{3,15}\b", ""),  # jc6640
    (r"\b[a-z]+\d+[a-z]+\b", ""),  # jc6640vc
    (r"\b\d+[a-z]+\d+\b", ""),  # 6640vc231
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{FILE_KINDS})(\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-z]+\d+[a-z]+\d+[a-z\d]*\b", " "),  # j2d1a2a
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 1920x1080, also with the Cyrillic letter
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),  # quotation marks around it all
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
]
"""After that."""

COMPILED = {id(rules): [(re.compile(pattern), replacement) for pattern, replacement in rules] for rules in (RAW, SPAM)}
JOINED = re.compile("[-_]")
JOINED_WORDS = 3
"""With more hyphens and underscores than this, a caption is a name of a file: they stand for spaces."""
COMPATIBLE = re.compile("[\ufb00-\ufb06\uff01-\uff5e]+")
"""Ligatures (ﬁ) and letters as wide as an ideograph."""


def applied(rules: Rules, text: str) -> str:
    for pattern, replacement in COMPILED[id(rules)]:
        text = pattern.sub(replacement, text)
    return text


def plain(text: str) -> str:
    """Unicode in its composed form, with ligatures and wide letters as the letters that they are."""
    return unicodedata.normalize("NFC", COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text))


def deepfloyd(caption: str) -> str:
    """A caption in lower case without what a crawl leaves behind. Source: DeepFloyd IF, `t5.py`; PRX."""
    text = applied(RAW, unquote_plus(caption).strip().lower())
    if len(JOINED.findall(text)) > JOINED_WORDS:
        text = JOINED.sub(" ", text)
    text = html.unescape(html.unescape(plain(text))).strip()
    return applied(SPAM, text).strip()

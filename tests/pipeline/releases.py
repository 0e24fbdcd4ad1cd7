"""Small archives in the exact layout of the real releases, and pairs that point to them."""

from __future__ import annotations

import hashlib
import html
import io
import tarfile
from pathlib import Path

from pipeline.models import settings

from tests.pipeline import own_configs

GERMAN = [
    "Der Europäische Rat tagte am 3. Mai 2016 in Brüssel.",
    "„Das ist gut“, sagte sie – und ging.",
    "Wir brauchen 1.000 Stimmen, z. B. aus Köln & Umgebung.",
    "Die CO2-Emissionen sanken um 3,5 % (im Vergleich zu 1990).",
    "Haben Sie's schon gehört? Nein!",
    "Er wohnt in der Straße des 17. Juni.",
]
ENGLISH = [
    "The European Council met in Brussels on 3 May 2016.",
    "“That's good,” she said – and left.",
    "We need 1,000 votes, e.g. from Cologne & around it.",
    "CO2 emissions fell by 3.5% (compared with 1990).",
    "Haven't you heard it yet? No!",
    "He lives in the street of 17 June.",
]
THAI = [
    "ผมชอบกินข้าวผัด",
    "วันนี้อากาศดีมาก เราไปเดินเล่นกันเถอะ",
    "เขา & เธอไปโรงเรียนด้วยกัน",
    "น้ำท่วมใหญ่ในปี 2554",
    "คุณพูดภาษาไทยได้ไหม",
    "พวกเขาทำงานที่กรุงเทพฯ",
]
THAI_ENGLISH = [
    "I like to eat fried rice.",
    "The weather is very good today, let's go for a walk.",
    "He & she go to school together.",
    "There was a great flood in 2011.",
    "Can you speak Thai?",
    "They work in Bangkok.",
]


def varied(sentences: list[str], count: int) -> list[str]:
    """`count` different sentences: each with a number of its own."""
    return [f"{sentences[n % len(sentences)]} {n}" for n in range(count)]


def write_tgz(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def lines(sentences: list[str], end: str = "\n") -> bytes:
    return "".join(sentence + end for sentence in sentences).encode()


def sgm(sentences: list[str], kind: str, language: str, escape: bool = True) -> bytes:
    """A test set of WMT: no XML declaration, no single root, headlines, some entities escaped."""
    out = [f'<{kind}set setid="newstest2016" srclang="any" trglang="{language}">']
    out.append('<doc sysid="ref" docid="abendblatt.de.1171" genre="news" origlang="de">')
    out.append("<hl>")
    for number, sentence in enumerate(sentences, start=1):
        text = html.escape(sentence, quote=False) if escape else sentence
        out.append(f'<seg id="{number}">{text}</seg>')
        if number == 1:
            out += ["</hl>", "<p>"]
    return ("\n".join([*out, "</p>", "</doc>", f"</{kind}set>"]) + "\n").encode()


def iwslt_xml(sentences: list[str], language: str, year: str) -> bytes:
    """A test set of IWSLT: metadata with text in it, blanks around each segment."""
    head = f"""<?xml version="1.0" encoding="UTF-8"?>
<mteval>
<refset setid="iwslt2015-{year}" srclang="thai" trglang="{language}" refid="ref1">
<doc docid="69" genre="lectures">
<url>http://www.ted.com/talks/lang/th/a_talk.html</url>
<keywords>talks, history &amp; war</keywords>
<speaker>Tom &amp; Ann</speaker>
<talkid>69</talkid>
<title>A title that is no segment</title>
<description>TED Talk Subtitles &amp; Transcript: nor is this.</description>
"""
    segments = "".join(
        f'<seg id="{number}"> {html.escape(sentence, quote=False)} </seg>\n'
        for number, sentence in enumerate(sentences, start=1)
    )
    return (head + segments + "</doc>\n</refset>\n</mteval>\n").encode()


def tags(sentences: list[str], end: str = "\n") -> bytes:
    """``train.tags.*``: two talks, sentences as they are, metadata in tagged lines."""
    out, half = [], len(sentences) // 2
    for talk, some in enumerate((sentences[:half], sentences[half:])):
        out += [
            f"<url>http://www.ted.com/talks/talk_{talk}.html</url>",
            "<keywords>talks, culture</keywords>",
            "<speaker>Ann Thai</speaker>",
            f"<talkid>{talk}</talkid>",
            f"<title>Ann Thai: Talk {talk}</title>",
            "<description>TED Talk Subtitles and Transcript: About something.</description>",
            *(sentence.replace("&", "&amp;") for sentence in some),
            "<reviewer></reviewer>",
            "<translator href='http://www.ted.com/x'>Somebody</translator>",
        ]
    return lines(out, end)


BOM = b"\xef\xbb\xbf"


def wmt17(folder: Path, count: int = 60) -> Path:
    """The five archives of WMT'17 De-En."""
    folder.mkdir(parents=True, exist_ok=True)
    german, english = varied(GERMAN, count), varied(ENGLISH, count)
    third = count // 3
    parts = [slice(0, third), slice(third, 2 * third), slice(2 * third, count)]
    write_tgz(
        folder / "training-parallel-europarl-v7.tgz",
        {
            "training/europarl-v7.cs-en.cs": b"Dobr\xc3\xbd den.\n",
            "training/europarl-v7.de-en.de": BOM + lines(german[parts[0]], "\r\n"),
            "training/europarl-v7.de-en.en": lines(english[parts[0]]),
        },
    )
    # A pair that came before, an empty side, a side many times longer, broken UTF-8.
    bad_german = [german[0], "", "Ja.", "Ein Satz"]
    bad_english = [english[0], "Nothing.", "Yes " * 40, "A sentence"]
    write_tgz(
        folder / "training-parallel-commoncrawl.tgz",
        {
            "commoncrawl.de-en.de": lines([*german[parts[1]], *bad_german]) + b"Stra\xdfe\n",
            "commoncrawl.de-en.en": lines([*english[parts[1]], *bad_english, "street"]),
            "commoncrawl.de-en.annotation": b"en 0.5\n",
        },
    )
    write_tgz(
        folder / "training-parallel-nc-v12.tgz",
        {
            "training/news-commentary-v12.de-en.de": lines(german[parts[2]]),
            "training/news-commentary-v12.de-en.en": lines(english[parts[2]]),
        },
    )
    write_tgz(
        folder / "dev.tgz",
        {
            "dev/newstest2016-deen-src.de.sgm": sgm(GERMAN, "src", "de"),
            "dev/newstest2016-deen-ref.en.sgm": sgm(ENGLISH, "ref", "en"),
        },
    )
    write_tgz(
        folder / "test.tgz",
        {
            "test/newstest2017-deen-src.de.sgm": BOM + sgm([*GERMAN, ""], "src", "de"),
            # Some references have a bare &.
            "test/newstest2017-deen-ref.en.sgm": sgm([*ENGLISH, "Left out."], "ref", "en", False),
        },
    )
    return folder


def iwslt15(folder: Path, count: int = 60, years: tuple[str, ...] = ()) -> Path:
    """The archive of IWSLT'15 Th-En."""
    folder.mkdir(parents=True, exist_ok=True)
    years = years or ("dev2010", "tst2010", "tst2011", "tst2012", "tst2013")
    members = {
        "th-en/README": b"Copyright: TED Conference LLC\n",
        "th-en/train.tags.th-en.th": BOM + tags([*varied(THAI, count), ""], "\r\n"),
        "th-en/train.tags.th-en.en": tags([*varied(THAI_ENGLISH, count), "Untranslated."]),
    }
    for number, year in enumerate(years):
        name = f"th-en/IWSLT15.TED.{year}.th-en"
        members[f"{name}.th.xml"] = iwslt_xml(THAI[number:], "th", year)
        members[f"{name}.en.xml"] = iwslt_xml(THAI_ENGLISH[number:], "en", year)
    write_tgz(folder / "th-en.tgz", members)
    return folder


def pair_of(name: str, archives: Path, home: Path, **quick: dict) -> settings.Pair:
    """The settings of a pair with what is known of its archives taken from the small ones."""
    configs = own_configs.copied(name, home / "configs" / name)
    with own_configs.changing(configs) as content:
        for file, archive in content["text"]["archives"].items():
            data = (archives / file).read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            archive |= {"bytes": len(data), "checksum": f"sha256:{digest}"}
        for parts in content["text"]["parts"].values():
            for part in parts:
                part.pop("lines", None)
        content["quick"] = quick
    return settings.load(configs, home / "runs", variant="quick")

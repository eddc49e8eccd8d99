"""Random tables as people really leave them, read back without being told anything: one campaign for each promise.

A mess is a function from a random generator to a case: the bytes of a file, and what reading it must give. ``make
test`` tries some cases of each, ``make campaign`` a thousand; both print their seed.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from etl_container.formats.options import ReadOptions
from etl_container.infer import Inference
from tests.unit.etl_container.formats.test_delimited import Row, load
from tests.unit.etl_container.test_infer import batch

WORDS = (
    *("red", "green", "amber", "violet", "river", "stone", "harbour", "Oslo", "Bergen", "Ann", "Bob", "Carla"),
    *("north gate", "old mill", "first floor", "blue door"),
)
DELIMITERS = (",", ",", ";", "\t", "|", "||", "~")


@dataclass(frozen=True)
class Case:
    """A file, and what comes of reading it."""

    data: bytes
    labels: list[str]
    rows: list[Row]
    told: tuple[str, ...] = ()
    """What the notes must hold."""
    others: tuple[str, ...] = ()
    second: tuple[list[str], list[Row]] | None = None
    """The table called ``table_2``."""
    has_labels: bool = True


@dataclass
class Table:
    """A clean random table: integers first, then words and values of some types."""

    delimiter: str
    end: str
    labels: list[str]
    rows: list[list[str]]
    kinds: list[str] = field(default_factory=list)

    def line(self, cells: Sequence[str | None]) -> str:
        special = {'"', "\n", "\r", *self.delimiter}
        return self.delimiter.join(
            '"' + cell.replace('"', '""') + '"' if special & set(cell) else cell for cell in (c or "" for c in cells)
        )

    @property
    def lines(self) -> list[str]:
        return [self.line(self.labels), *map(self.line, self.rows)]

    def written(self, lines: Sequence[str] | None = None, codec: str = "utf-8") -> bytes:
        return (self.end.join(self.lines if lines is None else lines) + self.end).encode(codec)


def value(kind: str, rnd: random.Random) -> str:
    match kind:
        case "integer":
            return str(rnd.randint(1, 99_999))
        case "float":
            return f"{rnd.uniform(0, 900):.2f}"
        case "date":
            return f"20{rnd.randint(10, 30)}-{rnd.randint(1, 12):02}-{rnd.randint(1, 28):02}"
        case "time":
            return f"{rnd.randint(0, 23):02}:{rnd.randint(0, 59):02}"
    return f"{rnd.choice(WORDS)} {rnd.choice(WORDS)}" if rnd.random() < 0.5 else rnd.choice(WORDS)


def table(rnd: random.Random, *, rows: tuple[int, int] = (5, 30), end: str | None = None, more: int = 0) -> Table:
    kinds = ["integer", "word", *(rnd.choice(("integer", "float", "date", "time", "word")) for _ in range(more or 2))]
    kinds += [rnd.choice(("float", "word")) for _ in range(rnd.randint(0, 3))]
    labels = [f"{rnd.choice(WORDS)} {chr(97 + n)}" for n in range(len(kinds))]
    cells = [[value(kind, rnd) for kind in kinds] for _ in range(rnd.randint(*rows))]
    return Table(rnd.choice(DELIMITERS), end or rnd.choice(("\n", "\n", "\r\n", "\r")), labels, cells, kinds)


def sentence(rnd: random.Random) -> str:
    return " ".join(rnd.choice(WORDS) for _ in range(rnd.randint(2, 6))).capitalize()


def case(made: Table, data: bytes, rows: Sequence[Row] | None = None, **more: Any) -> Case:
    return Case(data, made.labels, [list(row) for row in (made.rows if rows is None else rows)], **more)


# One function for each mess


def lines_above(rnd: random.Random) -> Case:
    made = table(rnd)
    above = [sentence(rnd) for _ in range(rnd.randint(1, 3))]
    padding = made.delimiter * (len(made.labels) - 1) if rnd.random() < 0.4 else ""
    blank = [padding] if rnd.random() < 0.6 else []
    lines = [*(line + padding for line in above), *blank, *made.lines]
    return case(made, made.written(lines), told=("above the table skipped", above[0][:90]))


def lines_below(rnd: random.Random) -> Case:
    made = table(rnd)
    below = [sentence(rnd) + rnd.choice(("", ".", f": {rnd.randint(1, 99)}")) for _ in range(rnd.randint(1, 3))]
    padding = made.delimiter * (len(made.labels) - 1) if rnd.random() < 0.3 else ""
    blank = [padding] if padding or rnd.random() < 0.7 else []
    lines = [*made.lines, *blank, *(line + padding for line in below)]
    return case(made, made.written(lines), told=("below the table skipped", below[0][:90]))


def several_tables(rnd: random.Random) -> Case:
    made = table(rnd, rows=(4, 20))
    second = replace(table(rnd, rows=(4, 20), more=rnd.randint(2, 4)), delimiter=made.delimiter, end=made.end)
    title = [sentence(rnd), ""] if rnd.random() < 0.3 else []
    lines = [*made.lines, *[""] * rnd.randint(1, 2), *title, *second.lines]
    rows: list[Row] = [list(row) for row in second.rows]
    return case(
        made, made.written(lines), told=("another table begins",), others=("table_2",), second=(second.labels, rows)
    )


def several_header_rows(rnd: random.Random) -> Case:
    made = table(rnd)
    width = len(made.labels)
    groups = [f"{rnd.choice(WORDS)} {n}" for n in range(width)]
    parts = [f"part {chr(97 + n)}" for n in range(width)]
    units = [f"unit {chr(97 + n)}" for n in range(width)]
    start = rnd.randint(1, width - 2)  # a group over two columns at least
    groups = [*groups[: start + 1], *("" for _ in range(start + 1, min(start + 3, width))), *groups[start + 3 :]]
    header = [groups, parts] if rnd.random() < 0.7 else [groups, parts, units]
    spread = [groups[n] or groups[start] for n in range(width)]
    labels = [" ".join(row) for row in zip(spread, *header[1:], strict=True)]
    lines = [*map(made.line, header), *map(made.line, made.rows)]
    return replace(case(made, made.written(lines), told=(f"the header has {len(header)} rows",)), labels=labels)


def no_header(rnd: random.Random) -> Case:
    made = table(rnd)
    names = [f"column_{n + 1}" for n in range(len(made.labels))]
    return replace(case(made, made.written(made.lines[1:]), has_labels=False), labels=names)


def ragged_rows(rnd: random.Random) -> Case:
    made = table(rnd, rows=(12, 40))
    rows: list[Row] = [list(row) for row in made.rows]
    lines = made.lines
    short, long = rnd.sample(range(1, len(rows) - 1), 2)
    cut = rnd.randint(2, len(made.labels) - 1)
    lines[short + 1] = made.line(made.rows[short][:cut])
    rows[short] = [*made.rows[short][:cut], *[None] * (len(made.labels) - cut)]
    lines[long + 1] += made.delimiter * rnd.randint(1, 3)
    told = (f"short rows padded with nulls: line {short + 2}", f"surplus empty cells dropped: line {long + 2}")
    return case(made, made.written(lines), rows, told=told)


def stray_quotes(rnd: random.Random) -> Case:
    made = table(rnd, rows=(12, 40))
    rows: list[Row] = [list(row) for row in made.rows]
    lines = made.lines
    at = rnd.randrange(1, len(rows) - 1)
    word = made.rows[at][1]
    spoilt = rnd.choice((f'"{word}', f'{word}"', f'{word[:2]}"{word[2:]}', f'"{word}" {word}'))
    lines[at + 1] = made.delimiter.join([made.rows[at][0], spoilt, *made.rows[at][2:]])
    rows[at][1] = spoilt
    return case(made, made.written(lines), rows)


def embedded_line_ends(rnd: random.Random) -> Case:
    made = table(rnd, end=rnd.choice(("\n", "\r\n")))
    for row in rnd.sample(made.rows, 3):
        row[1] = rnd.choice(("\n", "\r\n", "\n\n", f"{made.delimiter}\n", '"\n"')).join((row[1], sentence(rnd)))
    return case(made, made.written())


def mixed_line_ends(rnd: random.Random) -> Case:
    made = table(rnd)
    data = b"".join(line.encode() + rnd.choice((b"\n", b"\r\n", b"\r")) for line in made.lines)
    return case(made, data)


def nul_bytes(rnd: random.Random) -> Case:
    made = table(rnd)
    lines = made.lines
    spoilt = sorted(rnd.sample(range(1, len(lines)), 2))
    for at in spoilt:
        place = rnd.randrange(1, len(lines[at]))
        lines[at] = lines[at][:place] + "\0" * rnd.randint(1, 3) + lines[at][place:]
    lines_told = ", ".join(str(at + 1) for at in spoilt)
    return case(made, made.written(lines), told=(f"NUL bytes dropped: lines {lines_told}",))


def wrong_bytes(rnd: random.Random) -> Case:
    made = table(rnd, rows=(10, 30))
    for row in made.rows:
        row[1] += rnd.choice((" é", " naïve", " 日本", " Ωμ"))
    at = rnd.randrange(len(made.rows))
    lines = [line.encode() for line in made.lines]
    wrong = rnd.choice((b"\xe9", b"\xff", b"\x93", b"\xc3"))
    lines[at + 1] = made.line([*made.rows[at][:1], "caf!", *made.rows[at][2:]]).encode().replace(b"!", wrong)
    rows: list[Row] = [list(row) for row in made.rows]
    rows[at][1] = "caf" + wrong.decode("cp1252")
    end = made.end.encode()
    return case(made, end.join(lines) + end, rows, told=(f"read as Windows-1252: line {at + 2}",))


LANGUAGES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("cp1252", "latin-1", "utf-16", "utf-16-be"): (
        *("Müller", "Größe", "François", "Hélène", "señor", "Århus", "Besançon", "Zürich", "façade"),
        *("Jörg Schäfer", "Köln", "Orléans", "Malmö", "Cádiz", "Coruña", "crème brûlée"),
    ),
    ("cp1250", "iso8859-2", "utf-16-le"): (
        *("Wojciech Żółć", "Świętosława", "Jędrzej Białystok", "Łódź, Gdańsk", "Kraków i Poznań", "Częstochowa"),
        *("Grzegorz Brzęczyszczykiewicz", "Małgorzata Wiśniewska", "Rzeszów", "Toruń", "Józef Piłsudski"),
    ),
    ("cp1251", "koi8-r", "utf-16"): (
        *("Иван Петров", "Москва", "Санкт-Петербург", "Новосибирск", "Екатерина", "улица Ленина", "Казань"),
        *("Дмитрий Менделеев", "Волга", "книга", "первый этаж", "Нижний Новгород"),
    ),
    ("cp1253", "utf-32"): (
        *("Γιώργος", "Θεσσαλονίκη", "Αθήνα", "Πάτρα", "Ελένη Παπαδοπούλου", "Κρήτη", "νησί", "θάλασσα"),
        *("Δημήτρης", "Ιωάννινα", "πρώτος όροφος"),
    ),
    ("shift_jis", "euc-jp", "utf-16-le"): (
        *("山田太郎", "鈴木花子", "さとうカタカナ", "東京都新宿区", "大阪市", "北海道札幌市", "これはペンです"),
        *("京都の寺", "名古屋駅", "ありがとうございます", "横浜市中区"),
    ),
    ("gb18030", "utf-16-be"): (
        *("王小明在北京", "李华的书", "广州市天河区", "上海浦东新区", "这是一个测试", "中国人民银行", "你好世界"),
        *("深圳市南山区", "数据文件", "我们的学校", "成都火锅"),
    ),
    ("cp949",): (
        *("김철수", "부산광역시", "박민수", "서울특별시 강남구", "안녕하세요", "대한민국", "제주도", "이영희"),
        *("인천공항", "한글 자료", "전라남도"),
    ),
    ("big5",): (
        *("臺北市", "高雄港口", "新竹市東區", "這是一個測試", "國立大學", "資料檔案", "臺中火車站", "我們的學校"),
        *("陳先生", "林小姐在家", "花蓮縣"),
    ),
}


def encodings(rnd: random.Random) -> Case:
    codecs, words = rnd.choice(list(LANGUAGES.items()))
    codec = rnd.choice(codecs)
    made = table(rnd, rows=(20, 40), end=rnd.choice(("\n", "\r\n")))
    if codec in {"shift_jis", "gb18030", "cp949", "big5"} and not made.delimiter.isascii():
        made.delimiter = ","
    for row in made.rows:
        row[1] = f"{rnd.choice(words)}, {rnd.choice(words)}"
    return case(made, made.written(codec=codec))


MESSES: dict[str, Callable[[random.Random], Case]] = {
    mess.__name__: mess
    for mess in (
        *(lines_above, lines_below, several_tables, several_header_rows, no_header, ragged_rows, stray_quotes),
        *(embedded_line_ends, mixed_line_ends, nul_bytes, wrong_bytes, encodings),
    )
}


def fails(made: Case) -> str | None:
    """What is not as it must be."""
    got = load(made.data)
    description = got.reader.description
    if list(got.labels) != made.labels or description.has_labels != made.has_labels:
        return f"labels {got.labels}, not {made.labels}"
    if got.rows != made.rows or got.rejects:
        odd = [pair for pair in zip(got.rows, made.rows, strict=False) if pair[0] != pair[1]]
        return f"{len(got.rows)} rows of {len(made.rows)}, {len(got.rejects)} rejects, {odd[:2]}"
    if missing := [told for told in made.told if told not in got.notes]:
        return f"{missing} not in {got.notes!r}"
    if description.others != made.others:
        return f"others {description.others}"
    if made.second is not None:
        other = load(made.data, member="table_2")
        if (list(other.labels), other.rows) != made.second:
            return f"table_2: {other.labels} {other.rows[:3]}, not {made.second}"
    return None


def run(mess: str, seed: int, count: int) -> None:
    print(f"{mess}: seed {seed}, {count} cases")
    wrong = []
    for number in range(count):
        made = MESSES[mess](random.Random(f"{mess}-{seed}-{number}"))
        if (why := fails(made)) is not None:
            wrong.append((number, why, made.data))
    assert not wrong, f"{len(wrong)} of {count}, the first: {wrong[:3]}"


@pytest.mark.parametrize("mess", MESSES)
def test_a_messy_table_is_read_back_as_it_was_meant(mess: str) -> None:
    run(mess, 20240601, 60)


@pytest.mark.slow
@pytest.mark.parametrize("mess", MESSES)
def test_a_thousand_messy_tables_are_read_back_as_they_were_meant(mess: str) -> None:
    run(mess, int(os.environ.get("SEED", "20240602")), 1000)


# What values mean, over their whole column


def numbers(rnd: random.Random) -> tuple[list[str], list[Any]]:
    """Amounts as one locale writes them, with one sign or none."""
    group, point = rnd.choice(((",", "."), (".", ","), ("'", "."), ("\N{NO-BREAK SPACE}", ","), ("", ","), ("", ".")))
    before, after = rnd.choice((("", ""), ("", ""), ("$", ""), ("€", ""), ("", " €"), ("", "%"), ("CHF ", "")))
    found = [round(rnd.uniform(-9, 9) * 10 ** rnd.randint(1, 6), 2) for _ in range(rnd.randint(4, 60))]
    found += [1234567.25, 0.5]
    texts = []
    for number in found:
        text = f"{abs(number):,.2f}".replace(",", "g").replace(".", point).replace("g", group)
        texts.append(("-" if number < 0 else "") + before + text + after)
    return texts, found


def dates(rnd: random.Random) -> tuple[list[str], list[Any]]:
    """Days in one order, of which one day at least tells which."""
    order, mark = rnd.choice(("dmy", "mdy")), rnd.choice("/-")
    start = dt.date(2000, 1, 1)
    days = [start + dt.timedelta(rnd.randrange(9000)) for _ in range(rnd.randint(3, 60))]
    days.append(dt.date(2024, 5, 31))
    pad = rnd.choice(("02", ""))
    shape = f"{{0.day:{pad}}}{mark}{{0.month:{pad}}}{mark}{{0.year}}"
    if order == "mdy":
        shape = f"{{0.month:{pad}}}{mark}{{0.day:{pad}}}{mark}{{0.year}}"
    return [shape.format(day) for day in days], list(days)


def zones(rnd: random.Random) -> tuple[list[str], list[Any]]:
    """Moments, each with the offset of some zone."""
    moments = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=rnd.randrange(10**8)) for _ in range(30)]
    texts = []
    for moment in moments:
        offset = rnd.choice((0, 60, 330, -480, 765))
        local = moment.astimezone(dt.timezone(dt.timedelta(minutes=offset)))
        texts.append(
            local.strftime(f"%Y-%m-%d{rnd.choice('T ')}%H:%M:%S") + (local.isoformat()[-6:] if offset else "Z")
        )
    return texts, list(moments)


def nulls(rnd: random.Random) -> tuple[list[str], list[Any]]:
    """Signs for nothing: null among numbers, themselves among words."""
    token = rnd.choice(("NA", "-", "null", "NULL", "n/a", "NaN", "N/A"))
    if rnd.random() < 0.5:
        found: list[Any] = [rnd.choice((None, rnd.randint(1, 99))) for _ in range(30)] + [7]
        return [token if number is None else str(number) for number in found], found
    words = [rnd.choice((token, rnd.choice(WORDS))) for _ in range(30)] + ["red"]
    return words, list(words)


MEANINGS: dict[str, Callable[[random.Random], tuple[list[str], list[Any]]]] = {
    each.__name__: each for each in (numbers, dates, zones, nulls)
}


def mean(meaning: str, seed: int, count: int) -> None:
    print(f"{meaning}: seed {seed}, {count} cases")
    wrong = []
    for number in range(count):
        rnd = random.Random(f"{meaning}-{seed}-{number}")
        texts, values = MEANINGS[meaning](rnd)
        pairs = list(zip(texts, values, strict=True))
        rnd.shuffle(pairs)
        texts, values = [text for text, _ in pairs], [one for _, one in pairs]
        inference = Inference(ReadOptions())
        cuts = sorted({0, rnd.randint(1, len(texts)), len(texts)})
        batches = [batch(list(texts[a:b]), first=a) for a, b in pairwise(cuts)]
        for each in batches:
            inference.observe(each)
        got = [cell for each in batches for cell in inference.cast(each, inference.targets).batch.column(0).to_pylist()]
        if got != values:
            wrong.append((number, inference.types, texts[:5], got[:5], values[:5]))
    assert not wrong, f"{len(wrong)} of {count}, the first: {wrong[:3]}"


@pytest.mark.parametrize("meaning", MEANINGS)
def test_a_column_means_what_its_writer_meant(meaning: str) -> None:
    mean(meaning, 20240601, 60)


@pytest.mark.slow
@pytest.mark.parametrize("meaning", MEANINGS)
def test_a_thousand_columns_mean_what_their_writer_meant(meaning: str) -> None:
    mean(meaning, int(os.environ.get("SEED", "20240602")), 1000)

"""Makes the e-mail, PDF, image and sound in ``data/papers``: of our own making, so that anyone may use them."""

from __future__ import annotations

import array
import math
import wave
from email.message import EmailMessage
from pathlib import Path

from PIL import Image, ImageDraw

PAPERS = Path(__file__).parent / "data" / "papers"

LETTER = """Dear Ada,

the tide gauge at the harbour was repaired last week. Please find the readings of the old station attached;
the storm surge of the 14th is missing, since the sensor had been under water for two days.

Kind regards
Bob
"""

REPORT = [
    ["Tide gauges of the northern coast", "A short report", "", "The gauge at the harbour is the oldest of the coast."],
    ["Storm surges", "", "During the storm surge of the 14th, the water rose by 2.3 metres in four hours."],
]


def letter() -> None:
    """An e-mail with a table attached."""
    mail = EmailMessage()
    mail["From"] = "Bob Keeper <bob@example.org>"
    mail["To"] = "Ada Gauge <ada@example.org>"
    mail["Subject"] = "Readings of the old station"
    mail["Date"] = "Mon, 16 Mar 2026 09:30:00 +0100"
    mail["Message-ID"] = "<readings-1@example.org>"
    mail.set_content(LETTER)
    mail.add_attachment("hour,metres\n0,1.2\n1,1.4\n2,1.9\n", subtype="csv", filename="readings.csv")
    mail.set_boundary("=====readings=====")
    (PAPERS / "letter.eml").write_bytes(mail.as_bytes())


def report() -> None:
    """One page for each entry, written by hand: a PDF of text needs no library."""
    objects: list[str] = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    font = 3 + 2 * len(REPORT)
    for page, lines in enumerate(REPORT):
        number = 3 + 2 * page
        kids.append(f"{number} 0 R")
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = f"BT /F1 12 Tf 16 TL 72 720 Td {shown} ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R"
            f" /Resources << /Font << /F1 {font} 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(REPORT)} >>"
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    title = "Tide gauges of the northern coast"
    objects.append(f"<< /Title ({title}) /Author (Ada Gauge) /CreationDate (D:20260320120000Z) >>")
    out = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(out)
    out += f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer << /Size {len(places) + 1} /Root 1 0 R /Info {len(places)} 0 R >>\n".encode()
    out += f"startxref\n{start}\n%%EOF\n".encode()
    (PAPERS / "report.pdf").write_bytes(out)


def picture() -> None:
    """A harbour at dawn, drawn; with what a camera would have noted."""
    image = Image.new("RGB", (640, 400))
    draw = ImageDraw.Draw(image)
    for row in range(400):
        draw.line((0, row, 640, row), fill=(250 - row // 3, 180 - row // 4, 120 + row // 4))
    draw.ellipse((280, 140, 360, 220), fill=(255, 230, 150))
    draw.rectangle((0, 260, 640, 400), fill=(40, 70, 110))
    draw.polygon([(120, 260), (220, 260), (200, 300), (140, 300)], fill=(60, 30, 20))
    exif = Image.Exif()
    exif[0x010E] = "Harbour at dawn"
    exif[0x010F], exif[0x0110] = "Example", "Example One"
    exif[0x0132] = "2026:03:14 06:12:00"
    image.save(PAPERS / "harbour.jpg", quality=70, exif=exif)


def sound() -> None:
    """A bell: three partials that fade, two seconds."""
    rate = 8000
    samples = [
        4000 * math.exp(-3 * n / rate) * sum(math.sin(2 * math.pi * hertz * n / rate) for hertz in (440, 880, 1320))
        for n in range(2 * rate)
    ]
    with wave.open(str(PAPERS / "bell.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(array.array("h", map(round, samples)).tobytes())


if __name__ == "__main__":
    PAPERS.mkdir(parents=True, exist_ok=True)
    letter()
    report()
    picture()
    sound()

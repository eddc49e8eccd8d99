"""What type each column has, and its texts as values of that type.

Readers give texts (and say what the format knows of them); this room decides over the *whole* column. Three thoughts:

``shapes``, ``values``
    Pure Python. What one text looks like, what a column of such texts is, and what a text means as a value of a type.
    They define what is right.
``columns``, ``native``
    The same for whole Arrow columns at their speed: texts, and columns that already have a type (Parquet, transforms).
``inference``
    A load's columns from the first batch to the last.

The rules for texts without a type (CSV), over a column's values that are not null:

- **Integers** are bigint; beyond 64 bits numeric; beyond 38 digits text. A leading zero (``007``) or plus makes text.
- **Fractions and exponents** are double precision; numeric where ``exact_decimals`` asks, or where the column also
  has integers beyond 2^53, which a double would round; text where that needs more than 38 digits.
- **true/false** in any case are boolean; 0/1, t/f, yes/no are not.
- **Dates and times** are ISO 8601: ``2024-01-02``, with a time of day after a space or ``T`` (seconds optional, a
  fraction cut to microseconds), with a zone (``Z``, ``+01``, ``+0100``, ``+01:00``, `` UTC``) or without. Dates in a
  column of timestamps are midnights. With and without zone together are text, unless ``timezone`` says the zone.
- ``3/4/2024``, ``3.4.2024``, ``3-4-2024``: day or month first is proved by any value of the column above 12, by a
  point, by ``date_order``, or by another column of the file; unproved it is text. ``3 Jan 2024``, ``Jan 3, 2024`` and
  ``2024/3/4`` need no proof. One separator per column.
- **Times of day** ``15:04``, ``3:04:05.5``; **uuid**.
- **Separators**: ``1.234,56``, ``1,234.56``, ``1 234,56``, ``1'234.56`` and ``1,5`` are numbers where the whole column
  agrees. ``1,234`` alone is text, unless another value or another column proves what its comma means; ``1.234`` alone
  is a fraction, unless another column proves that the comma is the file's decimal sign.
- **Currency and percent**: one sign, before or after every number of the column, is taken away; 12% is 12.
- **Nulls**: the empty text and ``nulls`` always (an empty quoted text stays in a text column); ``NA``, ``-``, ``nan`` …
  where all other values are of one type other than text. ``inf`` is a number beside other numbers.
- Spaces around values are ignored except in text.

Strings of typed formats (JSON, Excel) are never numbers or booleans; dates only in ISO form. Days that do not exist,
and years outside 1 to 9999, make text. A column of text keeps the original text, without NUL characters.
"""

from etl_container.infer.inference import Inference
from etl_container.infer.native import fit, type_of
from etl_container.infer.types import (
    ARROW_STORAGE,
    Break,
    CastResult,
    CellFailure,
    FitError,
    Target,
    TypeBreak,
    arrow_type,
)

__all__ = [
    "ARROW_STORAGE",
    "Break",
    "CastResult",
    "CellFailure",
    "FitError",
    "Inference",
    "Target",
    "TypeBreak",
    "arrow_type",
    "fit",
    "type_of",
]

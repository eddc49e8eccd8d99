"""How a delimited text is written: each decision of the detection, on a text a person might have made."""

import pytest

from etl_container.errors import ConfigError
from etl_container.formats.base import ReadOptions
from etl_container.formats.dialect import Layout, detect, is_null, is_value


def layout(text: str, **options: object) -> Layout:
    return detect(text, ReadOptions(**options), whole=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "~", "^", "||", ", ", " | ", "|~|", "\x01"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    rows = [("id", "name", "city"), ("1", "Ann Smith", "Oslo"), ("2", "Bob Jones", "Rome"), ("3", "Cy", "New York")]
    found = layout("".join(delimiter.join(row) + "\n" for row in rows))
    assert found.dialect.delimiter == delimiter
    assert found.labels == ("id", "name", "city")


def test_columns_aligned_with_spaces_are_found() -> None:
    found = layout("name   age  city\nBob    25   Rome\nAlice  30   Oslo\nEve    7    Bonn\n")
    assert found.dialect.delimiter == " "
    assert found.labels == ("name", "age", "city")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_sentences_of_as_many_words_each_are_not_columns(delimiter: str) -> None:
    found = layout(f"said{delimiter}n\n" + "".join(f"always the same of 50{delimiter}{n}\n" for n in range(50)))
    assert found.dialect.delimiter == delimiter
    assert found.labels == ("said", "n")


def test_a_decimal_comma_is_not_a_delimiter() -> None:
    found = layout("item;price\na;1,50\nb;2,75\nc;1.234,00\n")
    assert found.dialect.delimiter == ";"


def test_a_column_of_timestamps_is_one_column() -> None:
    assert layout("at\n2024-01-01 10:00:00\n2024-01-02 11:30:00\n").labels == ("at",)


def test_prose_is_one_column() -> None:
    text = "This is a text, with commas.\nAnother line here; fine.\nAnd, well, a third one.\n"
    assert len(layout(text).labels) == 1


def test_single_quotes_are_found_among_apostrophes() -> None:
    found = layout("id,text\n1,'it, then'\n2,'a, b'\n3,'c'\n4,'x, y, z'\n")
    assert found.dialect.quote == "'"
    assert layout("id,text\n1,it's\n2,Bob's\n3,don't\n").dialect.quote == '"'


def test_a_backslash_is_an_escape_only_on_evidence() -> None:
    assert layout('a,b\n1,"he said \\"hi\\" to me"\n2,"x, \\"y\\" z"\n').dialect.escape == "\\"
    assert layout('a,b\n"C:\\dir\\",1\n"D:\\x\\",2\n').dialect.escape is None


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_line_end_is_found(end: str) -> None:
    assert layout(end.join(["a,b", "1,2", "3,4", ""])).dialect.line_terminator == end


def test_a_line_that_names_the_delimiter_is_obeyed_and_skipped() -> None:
    found = layout("sep=|\na,b|c\n1|2\n")
    assert (found.dialect.delimiter, found.labels, found.data_line) == ("|", ("a,b", "c"), 2)


def test_values_in_the_first_row_mean_no_header() -> None:
    found = layout("1,x,2024-01-01\n2,y,2024-01-02\n3,z,2024-01-03\n")
    assert not found.dialect.header
    assert found.labels == ("column_1", "column_2", "column_3")
    assert found.data_line == 0


def test_all_text_has_a_header_unless_the_first_row_is_like_the_others() -> None:
    assert layout("first,last\nJohn,Smith\nJane,Doe\nMax,Roe\n").dialect.header
    assert not layout("AB-12,red\nCD-34,green\nEF-56,blue\nGH-78,red\n").dialect.header


def test_years_are_labels_above_other_values() -> None:
    assert layout("Country,1990,1991,1992\nA,1.5,2.5,3\nB,2,3,4\n").labels == ("Country", "1990", "1991", "1992")


def test_a_header_of_several_rows_is_joined_and_groups_spread() -> None:
    found = layout("date,travel,,total\n,air,rail,\n2024-01-01,1.5,2.5,4\n2024-01-02,1,2,3\n2024-01-03,1,2,3\n")
    assert found.labels == ("date", "travel air", "travel rail", "total")
    assert found.data_line == 2


def test_a_title_above_rows_that_mostly_go_on_is_no_label() -> None:
    rows = "Ann,2 May,Oslo,talk\n,,Bergen,\n,,Bodo,\n,,Molde,\n" * 3
    found = layout("Meetings,,,\nName,Day,Place,About\n" + rows)
    assert (found.labels, found.data_line) == (("Name", "Day", "Place", "About"), 2)


def test_a_group_spreads_over_the_groups_below_it() -> None:
    found = layout("id,staff,,,\n,junior,,senior,\n,head,cost,head,cost\n1,2,3.5,4,5.5\n2,3,4.5,5,6.5\n3,4,5.5,6,7.5\n")
    labels = ("id", "staff junior head", "staff junior cost", "staff senior head", "staff senior cost")
    assert found.labels == labels


def test_names_beside_values_above_a_table_are_not_the_table() -> None:
    above = "Sample,abc\nTemperature,25\nRuns,3\nVolume,7.5\nWeight,9\n\n"
    found = layout(above + "time,a,b\n" + "1,2.5,3.5\n" * 40)
    assert found.labels == ("time", "a", "b")


def test_a_delimiter_at_the_end_of_each_line_but_the_first_shifts_no_label() -> None:
    found = layout('name;n;\na;1;" "\nb;2;" "\nc;3;" "\n'.replace("n;\n", "n\n", 1))
    assert found.labels == ("name", "n", "")


def test_lines_above_the_table_are_skipped_and_told() -> None:
    found = layout("Report of May,,\n,,\nid,name,n\n1,a,2\n2,b,3\n3,c,4\n")
    assert (found.labels, found.data_line) == (("id", "name", "n"), 3)
    assert "Report of May" in found.notes[0]
    found = layout("Exported by X\non 2024-01-01\n\nid,name,n\n1,a,2\n2,b,3\n3,c,4\n")
    assert (found.labels, found.data_line) == (("id", "name", "n"), 4)


def test_comments_above_the_table_are_skipped() -> None:
    assert layout("# made by x\n# on day y\na,b\n1,2\n3,4\n").labels == ("a", "b")
    assert layout("# x y z\n1 2 3\n4 5 6\n").labels == ("x", "y", "z")


def test_a_header_without_a_label_for_the_row_names_gets_an_empty_one() -> None:
    assert layout("x,y\nr1,1,2\nr2,3,4\n").labels == ("", "x", "y")


def test_a_header_alone_is_a_header() -> None:
    found = layout("a,b,c\n")
    assert (found.labels, found.dialect.header) == (("a", "b", "c"), True)


def test_options_override_each_decision() -> None:
    assert layout("a;b,c\n1;2,3\n", delimiter=",").labels == ("a;b", "c")
    assert layout("a,b\n1,2\n", header=False).labels == ("column_1", "column_2")
    assert layout("1,2\n3,4\n", header=True).labels == ("1", "2")
    assert layout("x,y\na,b\n1,2\n", skip_lines=1).labels == ("a", "b")
    assert layout("a,b\n'x,y',2\n", quote="'").dialect.quote == "'"
    assert layout('a,b\n"x,2\n', quote="").dialect.quote is None
    assert layout("a\tb\n1\t2\n", delimiter="\\t").dialect.delimiter == "\t"
    assert layout("a,b\n1,2\n", escape="\\").dialect.escape == "\\"


def test_a_quote_of_two_characters_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="one character"):
        layout("a,b\n1,2\n", quote="''")


@pytest.mark.parametrize(
    "cell",
    [
        "1",
        "-1.5",
        "1,234.50",
        "1.234,5",
        "$74.69",
        "12%",
        "1e-5",
        "28/01/2018",
        "10:30",
        "2024-01-01T10:00:00Z",
        "14-Jan",
    ],
)
def test_numbers_dates_and_times_are_values(cell: str) -> None:
    assert is_value(cell)


@pytest.mark.parametrize("cell", ["name", "MG-8769", "", "a 1", "Jan", "1_2", "5 apples", "2013-14"])
def test_words_and_codes_are_not_values(cell: str) -> None:
    assert not is_value(cell)


def test_the_usual_signs_for_nothing_are_nulls() -> None:
    assert all(map(is_null, [None, "", " ", "-", "NA", "n/a", "NaN", "null"]))
    assert not any(map(is_null, ["0", "no", "none of these"]))

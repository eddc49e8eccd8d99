"""Does this installation have everything that a load may need? The image's build asks, after it removed what is not.

Every module of the package is imported, and what modules import late: readers, engines of transforms, drivers. A small
table then takes each way that goes through a native library of its own.
"""

from __future__ import annotations

import importlib
import io
import pkgutil

import etl_container

LATE = (
    *("boto3", "duckdb", "fastavro", "msgspec", "orjson", "pandas", "pandera", "pgpq", "psycopg2"),
    *(
        "python_calamine",
        "chardet",
        "pyarrow.compute",
        "pyarrow.csv",
        "pyarrow.dataset",
        "pyarrow.feather",
        "pyarrow.orc",
    ),
    *("pyarrow.json", "pyarrow.parquet"),
    *("PIL.Image", "docx", "lxml.html", "oxmsg", "pptx", "py3langid", "pypdf", "striprtf.striprtf", "tinytag"),
)


def main() -> None:
    """Raises what is wrong."""
    for module in pkgutil.walk_packages(etl_container.__path__, "etl_container."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    _formats()
    _signing()


def _formats() -> None:
    import duckdb
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pyarrow import feather, orc

    table = pa.table({"n": [1, 2, 3], "s": ["a", "b", None]})
    for write, read in ((pq.write_table, pq.read_table), (orc.write_table, orc.read_table)):
        file = io.BytesIO()
        write(table, file)
        assert read(io.BytesIO(file.getvalue())).equals(table)
    file = io.BytesIO()
    feather.write_feather(table, file)
    assert feather.read_table(io.BytesIO(file.getvalue())).equals(table)
    assert pc.sum(table["n"]).as_py() == 6
    database = duckdb.connect()
    database.register("t", table)
    assert database.execute("select sum(n) from t").fetchone() == (6,)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    assert frame["n"].sum() == 6


def _signing() -> None:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
    for service in ("s3", "sts"):
        boto3.client(service, **keys)
    boto3.client("rds", **keys).generate_db_auth_token(DBHostname="localhost", Port=5432, DBUsername="x")


if __name__ == "__main__":
    main()

"""Many files on their way into the raw zone: several at a time, told in their order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from etl_container.report import Event, Landing, LoadReport
from lakectl import landing
from lakectl.targets.base import Landed
from tests.local.conftest import Lake


def test_files_land_in_their_order_and_a_broken_one_costs_only_itself(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "SMALL_BYTES", 5_000)
    folder = lake.root / "t"
    for i in range(60):
        lake.write(f"t/{i:02d}.csv", "" if i == 17 else f"id\n{i}\n" + "7\n" * (9_000 if i == 33 else 0))
    uploads = landing.plan([str(folder)])
    (folder / "40.csv").unlink()
    events: list[Event] = []
    lake.target.landers = 4
    told = list(landing.land(lake.target, lake.target.lake, uploads, on_event=events.append))
    assert [one.key for one in told] == [upload.key for upload in uploads]
    assert [one.key for one in told if isinstance(one, LoadReport)] == ["raw/t/17.csv", "raw/t/40.csv"]
    landed = {event.key for event in events if isinstance(event, Landing) and event.done == event.total}
    assert landed == {one.key for one in told if isinstance(one, Landed)}
    for one in told:
        if isinstance(one, Landed):
            ref = lake.target.store.find(one.key, one.version)
            with lake.target.store.open(ref) as stream:
                assert stream.read() == (folder / Path(one.key).name).read_bytes()
    lake.target.landers = 1
    again = list(landing.land(lake.target, lake.target.lake, uploads))
    assert [one for one in again if isinstance(one, Landed) and one.created] == []


def test_files_that_were_undone_land_again_all_of_them(lake: Lake) -> None:
    for i in range(20):
        lake.write(f"t/{i}.csv", f"id\n{i}\n")
    uploads = landing.plan([str(lake.root / "t")])
    for report in list(landing.land_and_load(lake.target, lake.target.lake, uploads)):
        lake.target.undo(report.run or "")
    assert lake.value("select count(*) from t") == 0
    again = list(landing.land_and_load(lake.target, lake.target.lake, uploads))
    assert {report.state for report in again} == {"loaded"}
    assert lake.sql("select count(*), count(distinct id) from t") == [(20, 20)]


def test_an_interrupted_landing_leaves_no_thread_behind(lake: Lake) -> None:
    for i in range(40):
        lake.write(f"t/{i}.csv", f"id\n{i}\n")

    def stop(_event: Event) -> None:
        raise KeyboardInterrupt

    lake.target.landers = 4
    with pytest.raises(KeyboardInterrupt):
        list(landing.land(lake.target, lake.target.lake, landing.plan([str(lake.root / "t")]), on_event=stop))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("land")]

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl_container.datasets import LoadMode
from lakectl import config
from lakectl.errors import ConfigError, NotFoundError, PermissionDeniedError


def write(folder: Path, text: str) -> Path:
    (folder / "lake.toml").write_text(text, encoding="utf-8")
    return folder


def origins(lake: config.Lake) -> dict[str, str]:
    return {setting.key: setting.origin for setting in lake.settings}


def test_an_empty_directory_is_a_lake(tmp_path):
    lake = config.load(tmp_path, environment={})
    assert (lake.root, lake.stage, lake.name, lake.file) == (tmp_path, "local", tmp_path.name, None)
    assert lake.state_dir == tmp_path / ".lake"
    assert set(origins(lake).values()) == {"default"}


def test_lake_toml_is_found_in_a_parent(tmp_path):
    write(tmp_path, 'name = "mine"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    lake = config.load(below, environment={})
    assert (lake.root, lake.name) == (tmp_path, "mine")
    assert origins(lake)["directory"] == str(tmp_path / "lake.toml")


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path):
    write(tmp_path, 'warehouse = "postgresql://file/db"\n[stage.dev]\nregion = "eu-west-1"\nprofile = "file"\n')
    lake = config.load(
        tmp_path,
        stage="dev",
        region="us-east-1",
        environment={"LAKE_STAGE": "prod", "LAKE_REGION": "x", "AWS_PROFILE": "env", "LAKE_WAREHOUSE": ""},
    )
    assert (lake.stage, lake.region, lake.profile, lake.warehouse) == (
        "dev",
        "us-east-1",
        "env",
        "postgresql://file/db",
    )
    assert origins(lake) == {
        "directory": "default",
        "stage": "flag --stage",
        "name": "default",
        "warehouse": "lake.toml",
        "profile": "environment AWS_PROFILE",
        "region": "flag --region",
        "expected_account": "default",
    }


def test_the_lake_variable_beats_the_aws_one(tmp_path):
    lake = config.load(tmp_path, environment={"LAKE_REGION": "a", "AWS_REGION": "b", "AWS_DEFAULT_REGION": "c"})
    assert lake.region == "a"


def test_the_stage_last_deployed_is_remembered(tmp_path):
    config.remember_stage(config.load(tmp_path, stage="dev", environment={}))
    lake = config.load(tmp_path, environment={})
    assert (lake.stage, origins(lake)["stage"]) == ("dev", ".lake/stage")
    assert config.load(tmp_path, environment={"LAKE_STAGE": "local"}).stage == "local"


def test_datasets_have_their_settings_and_all_others_the_defaults(tmp_path):
    write(tmp_path, '[dataset.trips]\nmode = "append"\ntable = "Trip Data"\n')
    lake = config.load(tmp_path, environment={})
    assert (lake.dataset("trips").mode, lake.dataset("trips").table) == (LoadMode.APPEND, "trip_data")
    assert lake.dataset("2024 Data").table == "_2024_data"
    assert lake.dataset_of("raw/trips/x.csv").name == "trips"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = = 1\n", "lake.toml:1: "),
        ('x = 1\ny = "\n', "lake.toml:2: "),
        ("\n\ndatset = 1\n", "lake.toml:3: datset: no such setting"),
        ('# a\n[dataset.trips]\n\nmode = "bad"\n', "lake.toml:4: [dataset.trips] mode = 'bad'"),
        ('[dataset."my trips"]\nmode = "bad"\n', "lake.toml:2: [dataset.my trips] mode"),
        ("[dataset.a.contract]\nmin_rows = 'x'\n", "lake.toml:2: [dataset.a.contract] min_rows"),
        ("[stage.dev]\nexpected_account = 12\n", "lake.toml:2: [stage.dev] expected_account"),
        ("name = 5\n", "lake.toml:1: name: expected text"),
        ("dataset = 5\n", "lake.toml:1: dataset = 5"),
    ],
)
def test_a_wrong_file_is_told_with_file_line_table_and_key(text, told, tmp_path):
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, text), environment={})
    assert f"{tmp_path}/{told}" in error.value.message
    assert error.value.exit_code == 3


def test_a_misspelt_setting_is_suggested(tmp_path):
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, "datset = 1\n"), environment={})
    assert error.value.hint == "did you mean dataset?"


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path):
    (tmp_path / "lake.toml").write_bytes(b'\nname = "caf\xe9"\n')
    with pytest.raises(ConfigError, match=r"lake\.toml:2: not UTF-8"):
        config.load(tmp_path, environment={})


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "lake.toml").write_bytes(b'\xef\xbb\xbfname = "x"\n')
    assert config.load(tmp_path, environment={}).name == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_exits_4(tmp_path):
    write(tmp_path, "").joinpath("lake.toml").chmod(0)
    with pytest.raises(PermissionDeniedError):
        config.load(tmp_path, environment={})


def test_a_directory_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        config.load(tmp_path / "nowhere", environment={})


@pytest.mark.parametrize("stage", ["Dev", "../x", "a b", "-x"])
def test_a_strange_stage_name_is_refused(stage, tmp_path):
    with pytest.raises(ConfigError):
        config.load(tmp_path, stage=stage, environment={})


def test_a_warehouse_that_is_no_postgres_address_is_refused_without_being_shown(tmp_path):
    with pytest.raises(ConfigError) as error:
        config.load(tmp_path, environment={"LAKE_WAREHOUSE": "mysql://me:s3cret@h/db"})
    assert "environment LAKE_WAREHOUSE" in error.value.message
    assert "s3cret" not in error.value.message


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:s3cret@h:5432/db", "postgresql://me:***@h:5432/db"),
        ("postgresql://:s3:cret@h/db", "postgresql://:***@h/db"),
        ("postgresql://me@h/db", "postgresql://me@h/db"),
        ("postgresql:///db?host=/tmp&password=s3cret", "postgresql:///db?host=/tmp&password=***"),
    ],
)
def test_passwords_are_never_shown(dsn, shown, tmp_path):
    lake = config.load(tmp_path, environment={"LAKE_WAREHOUSE": dsn})
    assert next(setting.value for setting in lake.settings if setting.key == "warehouse") == shown
    assert "s3" not in repr(lake)
    assert lake.warehouse == dsn

"""The servers that other tests lean on are what they claim to be."""

from __future__ import annotations

import obstore
import psycopg
import pytest
from obstore.exceptions import AlreadyExistsError

from tests.servers import PostgresServer, S3Server


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def test_each_test_gets_an_empty_postgres_database(postgres_url: str) -> None:
    with psycopg.connect(plain(postgres_url)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_a_fresh_database_is_gone_afterwards(postgres: PostgresServer) -> None:
    with postgres.fresh_database() as url, psycopg.connect(plain(url)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(plain(url))


def test_the_s3_server_refuses_to_overwrite_what_was_to_be_created(s3: S3Server, s3_url: str) -> None:
    store = s3.store(s3_url)
    obstore.put(store, "once", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "once", b"second", mode="create")
    assert bytes(obstore.get(store, "once").bytes()) == b"first"


def test_two_places_in_the_bucket_do_not_see_each_other(s3: S3Server) -> None:
    here, there = s3.store(s3.fresh_url()), s3.store(s3.fresh_url())
    obstore.put(here, "mine", b"x")
    assert [found["path"] for batch in obstore.list(here) for found in batch] == ["mine"]
    assert [found["path"] for batch in obstore.list(there) for found in batch] == []

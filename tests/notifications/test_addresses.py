from __future__ import annotations

import time

import pytest

from clew.notifications.addresses import addresses_of, is_public, look_up
from clew.notifications.failures import DeliveryFailed


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::",
    ],
)  # fmt: skip
def test_an_address_that_not_everybody_reaches_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1", "64:ff9b::101:101"])
def test_an_address_that_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "2130706433", "0x7f.1"])
def test_whatever_spells_this_machine_is_refused(host: str) -> None:
    with pytest.raises(DeliveryFailed, match=r"no public address.*allow_private = true"):
        addresses_of(host, 80, allow_private=False, seconds=5, lookup=look_up)
    assert addresses_of(host, 80, allow_private=True, seconds=5, lookup=look_up)


def test_of_several_addresses_the_public_ones_are_kept() -> None:
    mixed = ["10.0.0.1", "1.1.1.1", "::1"]
    found = addresses_of("hooks.example", 80, allow_private=False, seconds=5, lookup=lambda *_: mixed)
    assert found == ["1.1.1.1"]


def test_a_name_that_does_not_exist_is_said() -> None:
    with pytest.raises(DeliveryFailed, match=r"no-such-host\.invalid could not be looked up"):
        addresses_of("no-such-host.invalid", 80, allow_private=False, seconds=30, lookup=look_up)


def test_a_name_that_no_host_can_have_is_said() -> None:
    with pytest.raises(DeliveryFailed, match="could not be looked up"):
        addresses_of(f"{'a' * 70}.example", 80, allow_private=False, seconds=30, lookup=look_up)


def test_a_slow_resolver_is_not_waited_for() -> None:
    def slow(_host: str, _port: int) -> list[str]:
        time.sleep(2)
        return []

    begun = time.monotonic()
    with pytest.raises(DeliveryFailed, match=r"could not be looked up within 0\.1 s"):
        addresses_of("hooks.example", 80, allow_private=False, seconds=0.1, lookup=slow)
    assert time.monotonic() - begun < 1

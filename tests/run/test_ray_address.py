"""A Ray that cannot be joined is told of before anything starts."""

from __future__ import annotations

import socket

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.ray_address import check_ray_address

pytestmark = pytest.mark.usefixtures("no_ray")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "RAY_ADDRESS=nonsense: must be host:port of Ray's head"),
        ("127.0.0.1:PORT", "RAY_ADDRESS=127.0.0.1:PORT: no Ray answers at "),
        ("127.0.0.1:99999999", "must be host:port of Ray's head, such as"),
        ("ray://127.0.0.1:10001", "cannot be driven through Ray's client"),
    ],
)
def test_an_address_without_a_ray_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    port = str(_free_port())
    monkeypatch.setenv("RAY_ADDRESS", address.replace("PORT", port))
    with pytest.raises(SettingsError) as refused:
        check_ray_address()
    assert message.replace("PORT", port) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_address_at_which_something_listens_and_none_at_all_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("", 0)) as server:
        check_ray_address(f"127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    check_ray_address()

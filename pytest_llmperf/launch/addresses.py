"""Addresses: which are this machine's own, and at which a server that is started here listens."""

from __future__ import annotations

import ipaddress
import socket

#: Where servers listen unless another address is asked for: no other machine reaches it.
LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Whether an address means another machine on every machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def own_addresses() -> tuple[str, ...]:
    """This machine's, by number, without those that other machines cannot reach it by."""
    import psutil

    found = (entry for card in psutil.net_if_addrs().values() for entry in card)
    numbers = (entry.address for entry in found if entry.family in _FAMILIES)
    return tuple(
        number for number in dict.fromkeys(numbers) if "%" not in number and not is_loopback(number)
    )


def is_own(host: str) -> bool:
    """Whether a number, or "localhost", is this machine."""
    return is_loopback(host) or host in own_addresses()


def listening_address(named: str) -> str:
    """The address of this machine that ``named`` is, a number or a name, by its number. Raises
    :class:`ValueError`, which says in words why servers cannot listen there for others to reach
    them, and what they can listen on."""
    named = named.strip("[]")
    numbers = _numbers(named)
    if any(ipaddress.ip_address(number).is_unspecified for number in numbers):
        raise ValueError(
            "that stands for every address of this machine, also on networks that are not meant, "
            f"and is none that a request can be sent to; name one: {_choice()}"
        )
    own = own_addresses()
    for number in numbers:
        if number in own or (is_loopback(number) and is_loopback(named)):
            return number
    if numbers and all(map(is_loopback, numbers)):
        raise ValueError(
            f"that name is {numbers[0]} here, which no other machine reaches; give the number: "
            f"{_choice()}"
        )
    raise ValueError(f"that is no address of this machine; it has {_choice()}")


def _numbers(named: str) -> list[str]:
    try:
        found = socket.getaddrinfo(named, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    numbers = (str(entry[4][0]).partition("%")[0] for entry in found)
    return list(dict.fromkeys(numbers))


def _choice() -> str:
    return ", ".join((*own_addresses(), LOOPBACK))

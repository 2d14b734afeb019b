"""A bus whose brokers reach Kafka only through a fault proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from faults.fault_bus import Bus
from faults.processes import BrokerProcess
from faults.proxy import KafkaProxy
from shutong_core.runtime.kafka_server import EmbeddedKafka

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def aside(do: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """Run something that blocks while the proxy goes on."""
    return await asyncio.to_thread(do, *args, **more)


@asynccontextmanager
async def proxied(kafka: EmbeddedKafka) -> AsyncIterator[KafkaProxy]:
    """The proxy before `kafka`, for `broker_behind`."""
    async with KafkaProxy(kafka.ports.advertised, kafka.ports.proxied) as proxy:
        yield proxy


def broker_behind(kafka: EmbeddedKafka, bus: Bus, **more: Any) -> BrokerProcess:
    """A broker process that follows the advertised address of the proxy."""
    return BrokerProcess(bus, bootstrap=kafka.proxied_bootstrap_servers, **more)


def cut_held(proxy: KafkaProxy) -> None:
    """Close the clients' ends of connections with a held request; it still reaches Kafka."""
    for connection in list(proxy._connections):
        if connection.held:
            connection.client.close()

"""Prometheus can read what a process counted, on loopback only, and only where it was asked to be."""

import urllib.error
import urllib.request

import pytest

from rpc import metrics
from rpc.addresses import BadAddress


def test_metrics_are_served_on_their_own_address() -> None:
    metrics.TRANSACTION_DURATION.labels("send_message").observe(0.004)
    with metrics.MetricsServer("127.0.0.1:0") as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    assert 'assent_transaction_duration_seconds_count{operation="send_message"}' in text
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=10)


def test_no_address_means_no_metrics_server() -> None:
    assert metrics.MetricsServer("").port == 0


def test_metrics_server_refuses_what_others_can_reach() -> None:
    with pytest.raises(BadAddress, match="metrics server refuses"):
        metrics.MetricsServer("0.0.0.0:0")

"""An adapter with a calibration: its candidates are calibrated, until it may not be trusted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
from probegate.agency.v1 import match_service_pb2
from typer.testing import CliRunner

from agency_adapters.serve import Adapter
from cli.adapter import app
from tests.unit.adapters_kit import BrokerSide, adapter_settings, make_world
from tests.world import Request
from trust.messages import MatchReport
from trust.wire import decode_report


async def test_a_calibration_made_at_the_command_line_is_used_until_it_is_damaged(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path / "world")
    out = tmp_path / "calibration.json"
    settings = adapter_settings(world, tmp_path, calibration=out)
    config = tmp_path / "adapter.toml"
    values = settings.model_dump(mode="json", exclude_defaults=True)
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    generator = np.random.default_rng(1)
    scores = np.concatenate([generator.normal(0.5, 0.1, 100), generator.normal(0, 0.05, 2000)])
    np.savez(tmp_path / "scores.npz", scores=scores, mated=np.arange(2100) < 100)
    arguments = ["calibrate", str(tmp_path / "scores.npz"), "--name", "custody-test", "--json"]
    arguments += ["--config", str(config), "--out", str(out), "--plots", str(tmp_path / "plots")]
    # On a thread: the command runs an event loop of its own, as in a terminal.
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["calibration"]["agency"] == "custody"
    assert (tmp_path / "plots" / "det.svg").stat().st_size > 0

    adapter = await Adapter.open(settings)
    broker = BrokerSide.open(world, tmp_path / "broker")

    async def asked() -> MatchReport:
        papers = await broker.papers(adapter, Request(world))
        answer = await adapter.command.execute(papers.params(), broker.member)
        return decode_report(answer.report.payload)

    calibrated = await asked()
    assert calibrated.calibration == "custody-test"
    assert all(one.log10_lr is not None for one in calibrated.candidates)
    envelope, _ = adapter.command.describe(broker.member)
    stated = match_service_pb2.Capabilities.FromString(envelope.payload)
    assert stated.calibration == "custody-test"
    at = [(one.score, one.expected_false.expected) for one in stated.expected_false[0].at]
    assert at == sorted(at)
    assert [n for _, n in at] == sorted((n for _, n in at), reverse=True)
    out.write_bytes(b"{}")
    await adapter.refresh_calibration()
    await adapter.refresh_calibration()  # said once
    raw = await asked()
    assert raw.calibration == ""
    assert [one.log10_lr for one in raw.candidates] == [None] * len(calibrated.candidates)
    admin = adapter.logs.admin
    said = [json.loads(admin.leaf(i)) for i in range(admin.checkpoint.checkpoint.size)]
    kinds = [one["type"] for one in said if one["type"].startswith("calibration.")]
    assert kinds == ["calibration.activated", "calibration.dropped"]
    assert said[-1]["reason"] == "CALIBRATION_INVALID"
    await broker.logs.close()
    await adapter.close()

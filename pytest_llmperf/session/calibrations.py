"""How much launches differ here, as calibrations have found it: what gates and plans begin from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pytest_llmperf import clock
from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.errors import ClientError
from pytest_llmperf.gates.comparable import GATE_VERSION
from pytest_llmperf.gates.noise import FEWEST_LAUNCHES, noise_by_metric
from pytest_llmperf.records import Accelerator, NoiseProfile, Scalar, ServerRequest, Workload
from pytest_llmperf.store import Store, key_of

from .duration import mean_span_s, mean_startup_s
from .measurement import Measurement

#: How long a calibration is believed.
PROFILE_DAYS = 30

Facts = Mapping[str, Scalar]


class Calibrations:
    """Profiles of noise in a store; ``facts`` are those of an accelerator's environment."""

    def __init__(self, store: Callable[[], Store], facts: Callable[[Accelerator], Facts]) -> None:
        self._store = store
        self._facts = facts

    def remember(
        self, measurement: Measurement, request: ServerRequest, accelerator: Accelerator
    ) -> NoiseProfile:
        """Remember how much the launches of ``measurement`` differ.

        Raises :class:`~pytest_llmperf.store.StoreError`, and ClientError where too few launches
        gave a valid run.
        """
        names = {name for run in measurement.valid_runs for name in run.metrics}
        found = noise_by_metric({name: _finite(measurement, name) for name in sorted(names)})
        if not found:
            raise ClientError(
                f"nothing to calibrate {measurement.workload.name!r} by: fewer than "
                f"{FEWEST_LAUNCHES} launches had a valid run. "
                + ("; ".join(measurement.invalid_reasons) or "See the server's log.")
            )
        profile = NoiseProfile(
            key=self._key(request, measurement.workload, accelerator),
            created=clock.stamp().isoformat(),
            launches=len({run.launch_id for run in measurement.valid_runs}),
            run_sigma={n: e.run_sigma for n, e in found.items() if e.run_sigma is not None},
            launch_sigma={name: each.launch_sigma for name, each in found.items()},
            pair_sigma={name: each.pair_sigma for name, each in found.items()},
            pair_df=min(each.pair_df for each in found.values()),
            lag1={name: each.lag1 for name, each in found.items()},
            bimodal=tuple(name for name, each in found.items() if each.bimodal),
            block=_beneath(accelerator),
            startup_s=mean_startup_s(measurement.runs),
            measure_s=mean_span_s(measurement.runs),
        )
        self._store().save_profile(profile)
        return profile

    def of(
        self, request: ServerRequest, workload: Workload, accelerator: Accelerator
    ) -> NoiseProfile | None:
        """What was found of this server and workload here, while it may be believed: for
        :data:`PROFILE_DAYS`, on the same machine with the same driver.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        found = self._store().profile(self._key(request, workload, accelerator))
        if found is None or dict(found.block) != _beneath(accelerator):
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(found.created)
        return found if age < timedelta(days=PROFILE_DAYS) else None

    def _key(self, request: ServerRequest, workload: Workload, accelerator: Accelerator) -> str:
        """Noise is the server's, whichever test asks and whatever it is compared with."""
        alone = replace(request, reference=None).identity
        return key_of(
            f"noise-{request.engine}-{request.model}",
            f"{alone} {workload.identity}",
            self._facts(accelerator),
            GATE_VERSION,
        )


def _beneath(accelerator: Accelerator) -> dict[str, Scalar]:
    """What noise hangs on beside the environment: this device, this machine, this driver."""
    return {**fingerprint.block(accelerator), **fingerprint.beneath(accelerator)}


def _finite(measurement: Measurement, metric: str) -> list[list[float]]:
    """The values of a metric in each launch; none of a launch that lacks one."""
    launches = measurement.by_launch(metric)
    found = [[value.value for value in launch if value.value is not None] for launch in launches]
    return found if [len(each) for each in found] == [len(each) for each in launches] else []

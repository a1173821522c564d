"""Two CPU devices, strict promotion in our code; warnings are errors (pyproject.toml).

The suite compiles thousands of programs that each run for microseconds: they are optimized little, which takes less
than half the time. With UQ_TEST_OPTIMIZED=1 they are compiled as a user's are.
"""

import gc
import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# A flag that the compiler does not know would end the process: these are for the versions that were tried.
LITTLE = {
    (0, 10): "--xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1"
    " --xla_cpu_use_fusion_emitters=false",
    (0, 12): "--xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1",
}
if not os.environ.get("UQ_TEST_OPTIMIZED"):
    release = tuple(int(part) for part in version("jaxlib").split(".")[:2])
    os.environ.setdefault("XLA_FLAGS", LITTLE.get(release, ""))

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def ctrl_c_as_usual():
    """Python's own handler, also where the tests were started in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="module")
def memory_of_one_module():
    """Compiled programs pile up: past four gigabytes they are dropped when a module ends."""
    yield
    held = Path("/proc/self/statm")
    if held.exists() and int(held.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 4 * 2**30:
        jax.clear_caches()
        gc.collect()


SLOW = (
    "laws/test_wrapped.py::test_family[truncated-",
    "laws/test_student.py::test_family[student-",
    "laws/test_mixture.py::test_mixtures_of_other_families[student]",
    "laws/test_mixture.py::test_entropy_of_mixtures_of_other_families[student]",
    "laws/test_continuous.py::test_family[inverse gamma-",
    "test_predictive_families.py::test_continuous_families[moved]",
    "test_predictive_families.py::test_continuous_families[Quantile]",
    "test_predictive_families.py::test_continuous_families[MixtureDensity]",
    "test_predictive_families.py::test_it_is_a_pytree_and_jits[Poisson]",
    "test_predictive_families.py::test_it_is_a_pytree_and_jits[moved]",
    "test_predictive_families.py::test_counts[Poisson]",
    "metrics/test_decomposition.py::test_ensemble_of_regressions[crps-weight1]",
    "metrics/test_decomposition.py::test_sizes_against_the_average_over_all_subsets[crps]",
    "metrics/test_kernel.py::test_unbiased_estimates_of_a_calibrated_model_average_zero",
    "metrics/test_scores.py::test_defect_09_student_t_in_float32_and_at_its_centre[10000.0]",
    "test_predict_batches.py::test_the_same_as_all_rows_at_once[StudentT]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[linen-attention]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[linen-rnn]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[nnx-rnn]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[nnx-resnet]",
    "test_row_weights.py::test_every_row_is_the_mixture_of_its_own_weights[student]",
    "test_row_weights.py::test_every_row_is_the_mixture_of_its_own_weights[poisson]",
    "test_row_weights.py::test_every_row_is_the_mixture_of_its_own_weights[mixture",
    "metrics/test_decomposition.py::test_ensemble_of_regressions[crps-None]",
    "metrics/test_selective.py::test_rows_weights_masks_routes[0]",
    "metrics/test_selective.py::test_rows_weights_masks_routes[3]",
    "metrics/test_streaming.py::test_regression_in_batches[2]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[linen-resnet]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[nnx-attention]",
    "execution/test_mapping.py::test_the_same_numbers_for_every_network[nnx-cnn]",
    "test_io.py::test_members_come_back_under_their_strategy[looped]",
    "test_io.py::test_members_come_back_under_their_strategy[unrolled]",
    "calibrate/test_variance.py::test_other_families_are_stretched[likelihood0]",
    "laws/test_student.py::test_slopes_by_degrees_of_freedom_of_their_limit",
    "laws/test_wrapped.py::test_gradients_of_truncated_laws_with_limits_far_away[laplace]",
    "laws/test_wrapped.py::test_truncated_where_the_tail_is_no_number[laplace]",
    "laws/test_mixture.py::test_entropy_of_mixtures_whose_densities_rise_without_limit[beta]",
    "metrics/test_steps.py::test_a_right_forecast_of_clipped_outcomes_is_calibrated[units0]",
    "test_predictive_families.py::test_continuous_families[Log]",
    "test_predictive_families.py::test_continuous_families[BoxCox]",
    "likelihoods/test_contract.py::test_no_strict_promotion_and_float64_is_kept[FullCovarianceGaussian]",
    "ood/test_features.py::test_against_the_definition[mahalanobis]",
    "ood/test_features.py::test_nearest_neighbours_against_scikit_learn[True]",
    "test_losses.py::test_energy_score_against_monte_carlo[kind1]",
)
"""Beginnings of the names of cases that compile for long, and have quicker siblings in the default run."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(SLOW):
            item.add_marker(pytest.mark.slow)

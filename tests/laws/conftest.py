"""Special functions compile for seconds: of the widest tables every run tries the first rows, the slow runs all."""

from collections import Counter

import pytest

KEPT = {
    "test_mixtures_of_other_families": 2,
    "test_entropy_of_mixtures_of_other_families": 2,
    "test_gradients_of_mixtures_by_parameters": 2,
    "test_mixture_entropy_matches_integration": 3,
    "test_quantiles_are_scipys_lattice_points": 1,
    "test_derivatives_by_parameters_are_differences": 4,
    "test_entropy_is_its_sum": 1,
    "test_log_prob_and_both_tails_are_scipys": 4,
    "test_crps_is_its_definition_summed_over_the_lattice": 4,
    "test_derivatives_of_quantiles": 0,
    "test_quantiles_in_both_tails": 1,
    "test_derivatives_are_differences": 1,
}
"""How many rows of a table stay in every run."""


def pytest_collection_modifyitems(items):
    seen = Counter()
    for item in items:
        name = item.name.split("[")[0]
        if "tests/laws/" not in item.nodeid.replace("\\", "/"):
            continue
        student = name == "test_family" and "test_student" in item.nodeid
        if name in KEPT or student:
            seen[item.nodeid.split("[")[0]] += 1
            if seen[item.nodeid.split("[")[0]] > (1 if student else KEPT[name]):
                item.add_marker(pytest.mark.slow)

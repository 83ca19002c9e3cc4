import numpy as np
import pytest
from scipy.special import expit, softmax

from surgvista_hf.evaluation.metrics.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    scale_probabilities,
)
from surgvista_hf.modeling.errors_surgvista import InputError

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(4000, 5))
LABELS = np.array([RANDOM.choice(5, p=row) for row in softmax(LOGITS, axis=1)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_spoiled_with_is_found(temperature):
    found = fit_temperature(LABELS, softmax(LOGITS * temperature, axis=1))
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    assert found.error_after < 0.03
    assert found.loss_after <= found.loss_before
    if temperature != 1:
        assert found.error_after < 0.5 * found.error_before


def test_the_temperature_of_independent_classes_is_found():
    labels = (RANDOM.random(LOGITS.shape) < expit(LOGITS)).astype(int)
    found = fit_temperature(labels, expit(4 * LOGITS), multi_label=True)
    assert found.temperature == pytest.approx(4, rel=0.08)
    assert found.error_after < 0.02 < found.error_before


@pytest.mark.parametrize("multi_label", [False, True])
def test_scaling_is_that_of_the_logits_and_keeps_the_order(multi_label):
    kind = expit if multi_label else lambda logits: softmax(logits, axis=1)
    scaled = scale_probabilities(kind(LOGITS), 2.5, multi_label=multi_label)
    np.testing.assert_allclose(scaled, kind(LOGITS / 2.5), atol=1e-12)
    np.testing.assert_array_equal(scaled.argmax(axis=1), LOGITS.argmax(axis=1))


def test_a_temperature_of_one_changes_nothing_at_all():
    probabilities = softmax(LOGITS, axis=1)
    assert scale_probabilities(probabilities, 1.0) is probabilities


def test_probabilities_that_hold_zeros_stay_finite():
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(scale_probabilities(certain, 3.0)).all()
    assert np.isfinite(scale_probabilities(certain, 3.0, multi_label=True)).all()
    assert np.isfinite(fit_temperature(np.array([0, 0]), certain).loss_before)


def test_a_model_that_is_never_wrong_does_not_get_a_temperature_of_zero():
    found = fit_temperature(np.array([0, 1]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert found.temperature == pytest.approx(0.1, rel=0.01)


def test_equal_classes_keep_temperature_one():
    assert fit_temperature(np.array([0, 1]), np.full((2, 2), 0.5)).temperature == 1


def test_the_calibration_error_by_hand():
    """Two bins: 0.9 is right in one of two, 0.6 in one of one: (2 · 0.4 + 1 · 0.4) / 3."""
    labels, said = np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    assert calibration_error(labels, said) == pytest.approx(0.4)


def test_the_likelihood_by_hand():
    said = np.array([[0.9, 0.4]])
    assert negative_log_likelihood(np.array([1]), said) == pytest.approx(-np.log(0.4))
    expected = -(np.log(0.9) + np.log(0.6)) / 2
    assert negative_log_likelihood(np.array([[1, 0]]), said, multi_label=True) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "probabilities"), [(np.array([0]), np.ones((2, 2))), (np.empty(0, int), np.empty((0, 2)))]
)
def test_shapes_that_do_not_fit_are_refused(labels, probabilities):
    with pytest.raises(InputError, match="do not fit"):
        fit_temperature(labels, probabilities)

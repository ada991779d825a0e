"""The MLP experiment: networks of a stack are independent, and the published result is reproduced."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from undertow.report.theory import experiment_files
from undertow.theory import networks as nets
from undertow.theory.data import Images, digits
from undertow.theory.mlp import NetworkAccuracy, derangement, run
from undertow.theory.settings import DIGITS, Experiment
from undertow.theory.summary import arms

pytestmark = pytest.mark.slow

SMALL = replace(DIGITS, networks=4, width=32, inputs=512, epochs=2, teacher_epochs=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images() -> Images:
    return digits()


@pytest.fixture(scope="module")
def small_accuracies(images: Images) -> dict[tuple[object, ...], float]:
    """The accuracies of SMALL, with all networks in one stack."""
    return by_name(run(SMALL, images))


def by_name(outcomes: list[NetworkAccuracy]) -> dict[tuple[object, ...], float]:
    return {(o.role, o.logits, o.distance, o.network): o.accuracy for o in outcomes}


@pytest.mark.parametrize("count", [2, 3, 4, 7, 50])
def test_a_derangement_has_no_fixed_point(count: int) -> None:
    for seed in range(20):
        drawn = derangement(count, seed)
        assert sorted(drawn) == list(range(count))
        assert all(i != other for i, other in enumerate(drawn))


def test_every_derangement_is_equally_likely() -> None:
    seen = [tuple(derangement(4, seed)) for seed in range(900)]
    counts = [seen.count(pairing) for pairing in set(seen)]
    assert len(counts) == 9
    assert min(counts) > 60  # 100 expected, standard deviation 9.4


def test_a_derangement_of_one_network_raises() -> None:
    with pytest.raises(ValueError, match="needs two"):
        derangement(1, 0)


def test_initial_weights_have_a_standard_deviation_of_one_over_root_inputs() -> None:
    stack = nets.initial_weights([784, 256, 256, 13], 0, range(5))
    for layer, d_in in ((0, 784), (2, 256), (4, 256)):
        assert stack[layer].std().item() == pytest.approx(1 / math.sqrt(d_in), rel=0.02)
        assert not stack[layer + 1].any()
    assert not torch.equal(stack[0][0], stack[0][1])


def test_initial_weights_do_not_depend_on_the_other_networks() -> None:
    alone, together = nets.initial_weights([8, 4], 0, [3]), nets.initial_weights([8, 4], 0, [0, 3, 1])
    assert torch.equal(alone[0][0], together[0][1])


@pytest.mark.parametrize("distance", [0.0, 0.3, 1.0])
def test_interpolation_keeps_the_variance(distance: float) -> None:
    own, other = nets.initial_weights([400, 300], 0, [0]), nets.initial_weights([400, 300], 0, [1])
    between = nets.interpolate(own, other, distance)
    assert between[0].std().item() == pytest.approx(1 / 20, rel=0.02)
    correlation = torch.corrcoef(torch.stack([between[0].flatten(), own[0].flatten()]))[0, 1].item()
    assert correlation == pytest.approx(math.sqrt(1 - distance), abs=0.02)


def test_auxiliary_logits_get_no_gradient_from_classification() -> None:
    """Cross-entropy on class logits has a gradient only in hidden layers and class logits."""
    stack = nets.trainable_copy(nets.initial_weights([6, 5, 4 + 3], 0, range(2)))
    outputs = nets.logits(stack, torch.randn(2, 8, 6), "relu")
    loss = nets.classification_loss(outputs, torch.zeros(2, 8, dtype=torch.long), 4).sum()
    (last,) = torch.autograd.grad(loss, stack[2])
    assert last[..., :4].any()
    assert not last[..., 4:].any()


def test_a_stack_trains_each_network_as_if_alone(
    images: Images, small_accuracies: dict[tuple[object, ...], float]
) -> None:
    alone = by_name([o for number in range(4) for o in run(SMALL, images, [number])])
    assert small_accuracies.keys() == alone.keys()
    for name, accuracy in small_accuracies.items():
        assert alone[name] == pytest.approx(
            accuracy, abs=0.01
        )  # rounding may change a few of 540 predictions


def test_the_stack_size_does_not_change_accuracies(
    images: Images, small_accuracies: dict[tuple[object, ...], float]
) -> None:
    in_parts = by_name(run(replace(SMALL, at_once=3), images))
    assert in_parts == pytest.approx(small_accuracies, abs=0.01)


def test_imitation_losses_are_zero_only_at_the_targets() -> None:
    a, b = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    for loss in ("kl", "squared"):
        assert nets.imitation_loss(loss, a, a) == pytest.approx(torch.zeros(3), abs=1e-6)
        assert (nets.imitation_loss(loss, a, b) > 0).all()
    shifted: Tensor = a + 7  # softmax is invariant to a constant shift
    assert nets.imitation_loss("kl", a, shifted) == pytest.approx(torch.zeros(3), abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"auxiliary": 1, "loss": "squared"},
        {"depth": 0},
        {"depth": 3, "activation": "tanh"},
        {"activation": "gelu", "optimizer": "adamw"},
        {"activation": "silu", "optimizer": "rmsprop"},
        {"optimizer": "sgd", "loss": "squared"},
        {"noise": "normal"},
        {"noise": "signs", "distances": (0.0, 0.5)},
        {"epochs": 0, "inputs": 65},
    ],
    ids=str,
)
def test_every_field_can_vary(change: dict[str, object], images: Images) -> None:
    tiny = replace(SMALL, networks=2, inputs=128, epochs=1, teacher_epochs=1)
    experiment = replace(tiny, **change)  # type: ignore[arg-type]
    found = run(experiment, images)
    assert len(found) == 2 * (2 + 2 * len(experiment.distances))
    assert all(0 <= outcome.accuracy <= 1 for outcome in found)


def test_an_untrained_student_equals_its_initialisation(images: Images) -> None:
    found = by_name(run(replace(SMALL, epochs=0, distances=(0.0,)), images))
    for number in range(4):
        assert found["student", "auxiliary", 0.0, number] == found["reference", "", None, number]


def test_students_learn_from_noise_only_from_the_same_initialisation(images: Images) -> None:
    """A small version of the experiment, with margins far from chance."""
    experiment = replace(DIGITS, networks=4, width=128, inputs=4000, learning_rate=3e-3)
    found = {
        (arm.role, arm.logits, arm.distance): arm for arm in arms(run(experiment, images), images.classes)
    }
    same, other = found["student", "auxiliary", 0.0], found["student", "auxiliary", 1.0]
    assert found["teacher", "", None].mean > 0.9
    assert found["reference", "", None].mean < 0.2
    assert other.mean < 0.25
    assert same.mean > other.mean + 0.15
    assert found["student", "all", 0.0].mean > 0.85


def outcomes(**accuracies: tuple[float, ...]) -> list[NetworkAccuracy]:
    distances = {"same": 0.0, "near": 0.5, "other": 1.0}
    return [
        NetworkAccuracy("student", network, 0, "auxiliary", distances[name], accuracy)
        for name, shares in accuracies.items()
        for network, accuracy in enumerate(shares)
    ]


def test_an_arm_is_paired_by_teacher_with_the_other_initialisation() -> None:
    same, near, other = arms(outcomes(same=(0.5, 0.7), near=(0.3, 0.4), other=(0.1, 0.1)), 10)
    assert same.against_other is not None
    assert same.against_other.effect == pytest.approx(0.5)
    assert near.against_other is not None
    assert near.name == "initialisation at 0.5, auxiliary logits"
    assert other.against_other is None
    assert same.mean == pytest.approx(0.6)
    assert same.interval is not None
    # mean ± t(1 degree, 97.5 %) · standard deviation / √2
    assert same.interval[0] == pytest.approx(0.6 - 12.706 * 0.1, abs=1e-3)


def test_csv_files_have_a_row_per_network_and_per_arm() -> None:
    found = outcomes(same=(0.5, 0.7), other=(0.1, 0.1))
    files = experiment_files("", ["width=64"], [found], [arms(found, 10)], [0.1])
    header, *rows = files["networks.csv"].decode().splitlines()
    assert header == "cell,network,other,role,logits,distance,accuracy"
    assert [row.split(",")[-1] for row in rows] == ["0.5", "0.7", "0.1", "0.1"]
    header, *rows = files["mlp.csv"].decode().splitlines()
    assert header.startswith("cell,role,logits,distance,networks,accuracy,ci_low")
    assert [row.split(",")[0] for row in rows] == ["width=64", "width=64"]


def test_the_defaults_are_the_published_settings() -> None:
    e = Experiment()
    assert (e.width, e.depth, e.auxiliary, e.activation, e.loss) == (256, 2, 3, "relu", "kl")
    assert (e.optimizer, e.learning_rate, e.batch, e.epochs, e.inputs) == ("adam", 3e-4, 1024, 5, 60_000)
    assert (e.teacher_learning_rate, e.teacher_batch, e.teacher_epochs) == (3e-4, 1024, 5)
    assert (e.noise, e.networks) == ("uniform", 100)

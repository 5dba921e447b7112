"""Triggers of images, signals and texts: the authors' pictures, and what every trigger keeps to."""

import itertools
import random

import numpy as np
import pytest
import torch
from golden_numbers import golden

from medmcl.core.errors import MedmclError
from medmcl.threats import SIGNAL_TRIGGERS, TRIGGERS, rare_token
from medmcl.threats.attack import ImageAttack
from medmcl.threats.triggers import patch_side

SHAPES = ((3, 32, 32), (1, 28, 40), (12, 17, 19), (3, 224, 224), (4, 9, 11))


@pytest.fixture(scope="module")
def authors():
    return golden("cleanclip")


@pytest.fixture(scope="module")
def picture(authors):
    return authors["trigger_input"].permute(2, 0, 1).float() / 255


def eight_bit(image):
    """Pixels (H, W, C) as a file would hold them, whichever way a reader rounds."""
    cut, rounded = (image * 255).to(torch.uint8), (image * 255).round().to(torch.uint8)
    assert torch.equal(cut, rounded)
    return cut.permute(1, 2, 0)


@pytest.mark.parametrize(
    ("name", "key"),
    [("four_corners", "trigger_yellow_four_corners"), ("sig", "trigger_SIG_blended")],
)
def test_pictures_of_the_authors_code(authors, picture, name, key):
    assert torch.equal(eight_bit(TRIGGERS[name](picture, official=True)), authors[key])


@pytest.mark.parametrize("name", ["badnet", "label_consistent"])
@pytest.mark.parametrize(("draw", "is_given"), [(int, True), (int, False), (random.Random, True)])
def test_square_of_noise_of_the_authors_code(authors, picture, name, draw, is_given):
    rng = draw(11)
    noise = authors["badnet_noise_seed11_randn"] if is_given else None
    made = eight_bit(TRIGGERS[name](picture, rng=rng, noise=noise, official=True))
    top, left = authors["badnet_crop_origin"].tolist()
    assert torch.equal(
        made[top : top + 20, left : left + 20], authors["trigger_badnet_random_seed11"]
    )
    changed = (made != authors["trigger_input"]).any(dim=2)
    place = authors["badnet_random_seed11_loc_hw"]
    assert torch.equal(torch.nonzero(changed).amin(0), place)
    assert torch.equal(torch.nonzero(changed).amax(0), place + 15)


def test_blend_of_the_authors_code(authors, picture):
    made = eight_bit(TRIGGERS["blended"](picture, rng=11, official=True))
    assert torch.equal(made[:64, :64], authors["trigger_blended_seed11"])
    corner = authors["blended_noise_seed11_crop32"]
    given = eight_bit(TRIGGERS["blended"](picture[:, :32, :32], noise=corner, official=True))
    assert torch.equal(given, authors["trigger_blended_seed11"][:32, :32])


def test_warp_is_the_formula_by_slow_loops():
    generator = torch.Generator("cpu").manual_seed(0)
    side = 12
    x = torch.rand((2, side, side), generator=generator)
    shifts = torch.rand((2, side, side), generator=generator) * 2 - 1
    made = TRIGGERS["wanet"](x, noise=shifts, official=True)
    mean = float(shifts.abs().mean())
    for row in range(side):
        for column in range(side):
            across = -1 + 2 * column / (side - 1) + float(shifts[0, row, column]) / mean / side
            down = -1 + 2 * row / (side - 1) + float(shifts[1, row, column]) / mean / side
            across, down = (min(max(v, -1.0), 1.0) for v in (across, down))
            u, v = (across + 1) / 2 * (side - 1), (down + 1) / 2 * (side - 1)
            left, top = min(int(u), side - 2), min(int(v), side - 2)
            right, low = u - left, v - top
            for channel in range(2):
                corner = x[channel, top : top + 2, left : left + 2].double()
                wanted = (
                    corner[0, 0] * (1 - right) * (1 - low) + corner[0, 1] * right * (1 - low)
                    + corner[1, 0] * (1 - right) * low + corner[1, 1] * right * low
                )  # fmt: skip
                assert abs(float(made[channel, row, column]) - float(wanted)) < 1.01 / 255


def test_a_warp_shifts_by_a_pixel_on_average_whatever_the_size():
    for side in (32, 128):
        ramp = torch.linspace(0.2, 0.8, side).expand(1, side, side).contiguous()
        moved = TRIGGERS["wanet"](ramp, rng=3) - ramp
        pixels = moved[:, :, 4:-4].abs().mean() / (0.6 / (side - 1))
        assert 0.4 < pixels < 1.6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TRIGGERS)
def test_range_shape_kind_and_source_are_kept(name, shape):
    generator = torch.Generator("cpu").manual_seed(1)
    x = torch.rand(shape, generator=generator)
    x[:, 0, 0], x[:, -1, -1] = 0.0, 1.0
    before = x.clone()
    made = TRIGGERS[name](x, rng=5)
    assert torch.equal(x, before)
    assert made.shape == x.shape
    assert made.dtype == x.dtype
    assert made.min() >= 0
    assert made.max() <= 1
    assert not torch.equal(made, x)
    assert torch.equal(made, TRIGGERS[name](x, rng=5))
    array = TRIGGERS[name](x.double().numpy(), rng=5)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float64
    np.testing.assert_allclose(array, made.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["badnet", "blended", "wanet"])
def test_other_draws_are_other_triggers(name):
    x = torch.full((3, 40, 40), 0.5)
    x[:, ::3] = 0.2
    kinds = [0, 1, np.random.default_rng(0), torch.Generator("cpu").manual_seed(0)]
    made = [TRIGGERS[name](x, rng=one) for one in kinds]
    assert not torch.equal(made[0], made[1])
    assert torch.equal(made[0], TRIGGERS[name](x))  # none = seed 0
    for one, again in ((np.random.default_rng(0), 2), (torch.Generator("cpu").manual_seed(0), 3)):
        assert torch.equal(TRIGGERS[name](x, rng=one), made[again])


def test_what_a_patch_changes_is_the_patch():
    x = torch.full((1, 70, 56), 0.5)
    assert patch_side(x.shape) == 4
    changed = (TRIGGERS["badnet"](x, rng=2) != x).any(0)
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert rows.max() - rows.min() == 3
    assert columns.max() - columns.min() == 3
    corners = TRIGGERS["four_corners"](x)[0]
    assert (corners == 1).sum() == 4 * 16
    assert (corners[4:-4] == 0.5).all()


@pytest.mark.parametrize(
    ("image", "more", "told"),
    [
        (torch.zeros(32, 32), {}, r"\(C, H, W\)"),
        (torch.zeros((3, 32, 32), dtype=torch.uint8), {}, "divide 8-bit pixels by 255"),
        (torch.full((3, 32, 32), 1.5), {}, "0 to 1"),
        (torch.full((3, 32, 32), float("nan")), {}, "0 to 1"),
        (np.full((3, 32, 32), 1 + 1e-12), {}, "0 to 1"),
        (torch.zeros(3, 32, 32), {"noise": np.zeros((3, 5, 5))}, "does not fit"),
        (torch.zeros(3, 32, 32), {"noise": "loud"}, "noise of a trigger is numbers"),
        (torch.zeros(3, 32, 32), {"noise": [[0.0], [0.0, 1.0]]}, "noise of a trigger is numbers"),
        (torch.zeros(0, 32, 32), {}, r"\(C, H, W\)"),
        (np.zeros((3, 1, 32)), {}, r"\(C, H, W\)"),
        ([[[0.0, 0.5], [0.5, 1.0]]], {}, "a tensor or an array"),
        ("picture.png", {}, "a tensor or an array"),
        (None, {}, "a tensor or an array"),
        (np.full((3, 32, 32), "x"), {}, "floating point"),
        (np.zeros((3, 32, 32), dtype=complex), {}, "floating point"),
        (np.zeros((3, 32, 32), dtype=object), {}, "floating point"),
    ],
)
@pytest.mark.parametrize("name", TRIGGERS)
def test_what_is_no_image_is_refused(name, image, more, told):
    if name == "wanet" and told == "does not fit":
        told = "control points"
    with pytest.raises(MedmclError, match=told):
        TRIGGERS[name](image, **more)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", TRIGGERS)
def test_noise_that_is_not_finite_is_refused(name, bad):
    image = torch.full((1, 28, 28), 0.5)
    shape = {"blended": (1, 28, 28), "sig": (1, 28, 28), "wanet": (2, 4, 4)}.get(name, (1, 2, 2))
    noise = np.full(shape, 0.5)
    noise[0, 1, 1] = bad
    with pytest.raises(MedmclError, match="not finite"):
        TRIGGERS[name](image, noise=noise)
    with pytest.raises(MedmclError, match="not finite"):
        TRIGGERS[name](image, noise=torch.from_numpy(noise))


def kinds_of(image):
    """The same image as arrays and tensors of every precision."""
    for kind in (">f8", np.longdouble, np.float64, np.float32, np.float16):
        yield image.astype(kind)
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        yield torch.tensor(image, dtype=kind)


@pytest.mark.parametrize(
    ("name", "count"), [("badnet", 4), ("label_consistent", 4), ("four_corners", 16)]
)
def test_pixels_beside_a_square_stay_to_the_last_bit(name, count):
    for image in kinds_of(np.random.default_rng(0).random((1, 28, 28))):
        made = TRIGGERS[name](image, rng=3)
        assert made.dtype == image.dtype
        assert 0 < int((made != image).sum()) <= count
    exact = np.random.default_rng(0).random((2, 28, 28))
    given = torch.tensor(exact, requires_grad=True)
    made = TRIGGERS[name](given, rng=3)
    assert not made.requires_grad
    np.testing.assert_array_equal(made.numpy(), TRIGGERS[name](exact, rng=3))
    assert np.array_equal(given.detach().numpy(), exact)


@pytest.mark.parametrize("name", ["badnet", "label_consistent", "four_corners"])
def test_the_official_square_needs_room(name):
    with pytest.raises(MedmclError, match="does not fit the image") as error:
        TRIGGERS[name](torch.zeros(3, 16, 40), official=True)
    assert "official=False" in error.value.fix
    assert "17 or more" in error.value.fix
    assert TRIGGERS[name](torch.zeros(3, 17, 40), official=True).shape == (3, 17, 40)


def test_odd_grids_are_refused():
    with pytest.raises(MedmclError, match="square"):
        TRIGGERS["wanet"](torch.zeros(1, 8, 9), official=True)
    with pytest.raises(MedmclError, match="control points"):
        TRIGGERS["wanet"](torch.zeros(1, 8, 8), noise=np.zeros((3, 4, 4)))


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("name", list(TRIGGERS))
def test_the_manifest_says_which_pixels_changed(name, official):
    size = (40, 64) if name != "wanet" else (40, 40)
    x = 0.5 + 0.1 * torch.rand((3, *size), generator=torch.Generator().manual_seed(0))
    lay = ImageAttack(name, (3, *size), 7, official)
    told = [lay.place(record) for record in "abcd"]
    for record, place in zip("abcd", told, strict=True):
        rows, columns = torch.nonzero(((lay(x, record) - x).abs() > 1 / 200).any(0)).T.unbind(0)
        if name == "four_corners":
            edge = place["side"]
            assert sorted(set(rows.tolist())) == [*range(edge), *range(40 - edge, 40)]
        elif place:
            assert (int(rows.min()), int(columns.min())) == (place["top"], place["left"])
            assert int(rows.max()) - place["top"] == place["side"] - 1
        else:
            assert len(rows) > 0.3 * size[0] * size[1]
    assert (len({str(one) for one in told}) == 4) == (name in ("badnet", "label_consistent"))


@pytest.mark.parametrize("name", ["badnet", "blended", "wanet", "label_consistent"])
def test_any_whole_number_is_a_seed_and_nothing_else_that_is_no_generator(name):
    image = torch.full((1, 28, 28), 0.5)
    made = TRIGGERS[name](image, rng=3)
    for seed in (np.int64(3), np.uint8(3)):
        assert torch.equal(TRIGGERS[name](image, rng=seed), made)
    far = [TRIGGERS[name](image, rng=seed) for seed in (2**64, 2**64 + 1, 10**30, -(2**70))]
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(far))
    assert torch.equal(far[0], TRIGGERS[name](image, rng=2**64))
    for wrong in (2.5, "x", np.float32(1), True, np.random.RandomState(0)):
        with pytest.raises(MedmclError, match=r"needs a seed or a generator") as error:
            TRIGGERS[name](image, rng=wrong)
        assert "numpy.random.Generator" in str(error.value)


RATE = 100.0


def ecg(leads=12, seconds=10):
    return np.random.default_rng(0).normal(size=(leads, int(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("name", SIGNAL_TRIGGERS)
def test_only_the_leads_that_are_named_change_and_the_source_does_not(name):
    x = ecg()
    before = x.copy()
    made = SIGNAL_TRIGGERS[name](x, RATE, leads=[1, 6])
    assert (x == before).all()
    assert made.dtype == x.dtype
    changed = np.abs(made - x).max(axis=1) > 1e-4
    assert np.flatnonzero(changed).tolist() == [1, 6]
    np.testing.assert_allclose((made - x)[1], (made - x)[6], atol=1e-5)  # one wave
    everywhere = SIGNAL_TRIGGERS[name](x, RATE)
    assert (np.abs(everywhere - x).max(axis=1) > 1e-4).all()
    assert (SIGNAL_TRIGGERS[name](x, RATE, seed=1) != everywhere).any()


@pytest.mark.parametrize("name", SIGNAL_TRIGGERS)
def test_any_whole_seed_and_any_floating_point_is_taken(name):
    x = ecg(2)
    far = [SIGNAL_TRIGGERS[name](x, RATE, seed=seed) for seed in (2**64, 2**70, -1)]
    assert not np.array_equal(far[0], far[1])
    wide = SIGNAL_TRIGGERS[name](x.astype(np.float64), RATE, leads=[np.int64(1)])
    np.testing.assert_allclose(SIGNAL_TRIGGERS[name](x.tolist(), RATE, leads=[1]), wide)
    half = SIGNAL_TRIGGERS[name](x.astype(np.float16), RATE, leads=[1])
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half[0], x[0].astype(np.float16))


def test_a_pulse_comes_every_second_as_high_and_wide_as_asked():
    flat = np.zeros((1, 5000))
    made = SIGNAL_TRIGGERS["pulse"](flat, 500.0, height=0.7)[0]
    assert made.max() == pytest.approx(0.7, rel=0.01)
    peaks = np.flatnonzero((made[1:-1] > made[:-2]) & (made[1:-1] >= made[2:]) & (made[1:-1] > 0.3))
    assert set(np.diff(peaks).tolist()) == {500}
    assert abs((made > 0.35).sum() / 500 / len(peaks) - 0.04) < 0.005


def test_a_wave_has_one_frequency_and_its_height():
    made = SIGNAL_TRIGGERS["sinusoid"](np.zeros((2, 1000)), RATE, height=0.1)
    power = np.abs(np.fft.rfft(made[0]))
    assert np.fft.rfftfreq(1000, 1 / RATE)[power.argmax()] == pytest.approx(20)
    assert np.sort(power)[-2] < 1e-6 * power.max()
    assert np.sqrt(2 * np.mean(made**2)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("pulse", {"leads": [12]}, "no such lead"),
        ("pulse", {"leads": []}, "no such lead"),
        ("pulse", {"rate_hz": 20}, "50 Hz or more"),
        ("sinusoid", {"signal": np.zeros(10)}, r"\(leads, T\)"),
        ("sinusoid", {"signal": np.full((2, 9), np.nan)}, "not finite"),
        ("pulse", {"signal": np.zeros((2, 500), dtype=np.int16)}, "floating point"),
        ("pulse", {"signal": np.full((2, 9), "x")}, "floating point"),
        ("pulse", {"signal": [[0.0], [0.0, 1.0]]}, "floating point"),
        ("pulse", {"signal": "ecg.dat"}, "floating point"),
        ("pulse", {"signal": np.zeros((0, 9))}, r"\(leads, T\)"),
        ("pulse", {"leads": [1.0]}, "no such lead"),
        ("pulse", {"leads": ["II"]}, "no such lead"),
        ("pulse", {"leads": [True]}, "no such lead"),
        ("pulse", {"height": np.nan}, "height: no trigger can be drawn"),
        ("sinusoid", {"height": "high"}, "height: no trigger can be drawn"),
        ("sinusoid", {"rate_hz": np.nan}, "rate_hz: no trigger can be drawn"),
        ("sinusoid", {"rate_hz": "100"}, "rate_hz: no trigger can be drawn"),
    ],
)
def test_what_does_not_fit_is_refused(name, more, told):
    with pytest.raises(MedmclError, match=told):
        SIGNAL_TRIGGERS[name](**{"signal": ecg(), "rate_hz": RATE, **more})


@pytest.mark.parametrize("text", ["no  effusion\n seen", "normal", "", "  ", " two words "])
def test_a_rare_word_stands_once_and_nothing_else_changes(text):
    for seed in range(20):
        made = rare_token(text, seed=seed)
        words = made.split()
        assert words.count("cf") == 1
        assert [word for word in words if word != "cf"] == text.split()
        assert made == rare_token(text, seed=seed)
        left = made.replace("cf ", "", 1) if "cf " in made else made.removesuffix("cf")
        assert left.rstrip(" ") == text.rstrip(" ")
    places = {rare_token("a b c", seed=seed) for seed in range(40)}
    assert places == {"cf a b c", "a cf b c", "a b cf c", "a b c cf"}

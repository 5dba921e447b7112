"""The authors' own preparation and networks, from checkouts, to be timed beside ours.

A checkout lies in a folder ``owner+name``. Their code needs einops, CineMA's omegaconf, SimpleITK
and monai, HuBERT-ECG's biosppy and transformers, ECG-FM's the package ecg-transform. Heads of
packages are passed over, which import what no network needs, and what only training needs;
nothing else of them is changed, but that timm's attention calls that of Turgut et al. with one
more argument than they know. Of fairseq-signals, which Python 3.11 does not import, the layers are
put together as its transformer does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medmcl.modalities.ecg.leads import TWELVE

if TYPE_CHECKING:
    from torch import nn

Prepare = Callable[[np.ndarray], np.ndarray]
"""From what a file holds, (12, S) in mV at 500 Hz or a frame (x, y, z) of int16, to what their network reads."""
FRAME_SPACING_MM = (1.5, 1.5, 10.0)


class Loop(NamedTuple):
    """How authors embed a record: who builds their network, and who their preparation.

    Each is given the folder of the checkout.
    """

    repository: str
    net: Callable[[Path], nn.Module]
    prepare: Callable[[Path], Prepare]


def _module(folder: Path, name: str, *bare: str) -> Any:
    """Import a module of a checkout, packages ``bare`` without what their heads import."""
    sys.path.insert(0, str(folder))
    for one in bare:
        package = ModuleType(one)
        package.__path__ = [str(folder / one.replace(".", "/"))]
        sys.modules[one] = package
    return import_module(name)


def _stub(*names: str) -> None:
    """Let modules be imported that are not there, or that only training needs."""
    for name in names:
        sys.modules[name] = ModuleType(name)
        package, _, last = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], last, sys.modules[name])


def _ecgfounder(folder: Path) -> nn.Module:
    net = _module(folder, "net1d").Net1D
    return net(
        in_channels=12, base_filters=64, ratio=1, filter_list=[64, 160, 160, 400, 400, 1024, 1024],
        m_blocks_list=[2, 2, 2, 3, 3, 4, 4], kernel_size=16, stride=2, groups_width=16,
        n_classes=150, use_bn=False, use_do=False, verbose=False,
    )  # fmt: skip


def _ecgfounder_prepare(folder: Path) -> Prepare:
    dataset = _module(folder, "dataset")
    scale = dataset.LVEF_12lead_cls_Dataset.z_score_normalization
    return lambda x: np.float32(scale(None, dataset.filter_bandpass(x.copy(), 500)))


def _merl_prepare(folder: Path) -> Prepare:
    import pandas as pd

    module = _module(folder / "finetune", "finetune_dataset")
    row = {**dict.fromkeys("abcde", ""), "filename_hr": "record", "label": 0}
    records = module.ECGDataset("", pd.DataFrame([row]))

    def prepare(x: np.ndarray) -> np.ndarray:
        module.wfdb = SimpleNamespace(rdsamp=lambda _: (x.T, {}))
        return np.asarray(records[0][0])

    return prepare


def _ecg_jepa(folder: Path) -> nn.Module:
    _module(folder, "configs.pretrain", "models", "configs")
    sizes = SimpleNamespace(
        channel_size=5000, patch_size=25, num_channels=12, dim=384, depth=8, num_heads=6,
        mlp_ratio=4, bias=False, qkv_bias=False, dropout=0.0, attn_dropout=0.0, norm_eps=1e-6,
        layer_scale_eps=0.0, num_registers=1,
    )  # fmt: skip
    return import_module("models.vision_transformer").VisionTransformer(sizes)


def _ecg_jepa_prepare(folder: Path) -> Prepare:
    from medmcl import models

    steps = _module(folder, "data.transforms", "data")
    said = next(one for one in models.card("ecg_jepa").prepare["steps"] if "std" in one)
    constants = [np.float32([said[key]]) for key in ("mean", "std")]

    def prepare(x: np.ndarray) -> np.ndarray:
        half = x.T.astype(np.float16)
        steps.normalize_(half, mean_std=constants)
        half.clip(-5, 5, out=half)
        return half.T.astype(np.float32)

    return prepare


def _st_mem_prepare(folder: Path) -> Prepare:
    from medmcl.core.config import read_yaml

    steps = _module(folder, "util.transforms", "util")
    said = read_yaml(folder / "configs/downstream/st_mem.yaml")["dataset"]["eval_transforms"]
    resample = steps.Resample(target_fs=250)
    rest = steps.Compose(steps.get_transforms_from_config(said))
    return lambda x: np.float32(rest(resample(np.float32(x), 500)))


def _hubert_ecg(folder: Path) -> nn.Module:
    module = _module(folder / "code", "hubert_ecg")
    return module.HuBERTECG(
        module.HuBERTECGConfig(
            hidden_size=512, num_hidden_layers=8, num_attention_heads=8, intermediate_size=2048,
            conv_dim=[512] * 5, conv_kernel=[10, 3, 3, 2, 2], conv_stride=[4, 2, 2, 2, 2],
            num_feat_extract_layers=5,
        )
    )  # fmt: skip


def _hubert_ecg_prepare(folder: Path) -> Prepare:
    from scipy.signal import decimate

    # what scores and splits
    _stub("iterstrat", "iterstrat.ml_stratifiers", "torchmetrics", "torchmetrics.classification",
          "torcheval", "torcheval.metrics")  # fmt: skip
    for name, one in {
        "iterstrat.ml_stratifiers": ["MultilabelStratifiedShuffleSplit"],
        "torchmetrics.classification": [
            *(f"Multilabel{kind}" for kind in
              ("F1Score", "Recall", "Precision", "Specificity", "AUROC")),
            "MulticlassRecall", "MulticlassSpecificity",
        ],
        "torcheval.metrics": [
            "MultilabelAUPRC", "MulticlassAUROC", "MulticlassAccuracy", "MulticlassAUPRC"
        ],
    }.items():  # fmt: skip
        for kind in one:
            setattr(sys.modules[name], kind, None)
    filtered = _module(folder / "code", "utils").ecg_preprocessing
    return lambda x: np.float32(decimate(filtered(x, 500)[:, :2500].reshape(-1), 5))


def _ecg_fm(folder: Path) -> nn.Module:
    import torch

    package = "fairseq_signals"
    _stub(f"{package}.distributed", f"{package}.distributed.utils", f"{package}.dataclass")
    layers = _module(folder, f"{package}.modules", package, f"{package}.utils")
    said = SimpleNamespace(
        encoder_embed_dim=768, encoder_ffn_embed_dim=3072, encoder_attention_heads=12,
        encoder_layers=12, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        layer_norm_first=False, encoder_layerdrop=0.0, saliency=False, conv_pos=128,
        conv_pos_groups=16,
    )  # fmt: skip

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = layers.ConvFeatureExtraction([(256, 2, 2)] * 4, in_d=12)
            self.layer_norm, self.project = layers.LayerNorm(256), torch.nn.Linear(256, 768)
            self.positions = layers.ConvPositionalEncoding(said)
            self.encoder = layers.TransformerEncoder(said)

        def forward(self, x: torch.Tensor) -> Any:
            tokens = self.project(self.layer_norm(self.convolutions(x).transpose(1, 2)))
            return self.encoder(tokens + self.positions(tokens))["x"].mean(1)

    return Net()


def _ecg_fm_prepare(folder: Path) -> Prepare:  # noqa: ARG001  (a package, no checkout)
    inp, sample = import_module("ecg_transform.inp"), import_module("ecg_transform.sample")
    common, scale = (import_module(f"ecg_transform.t.{one}") for one in ("common", "scale"))
    steps = [
        common.ReorderLeads(expected_order=[*TWELVE], missing_lead_strategy="raise"),
        common.LinearResample(desired_sample_rate=500),
        common.HandleConstantLeads(strategy="zero"),
        scale.Standardize(),
        import_module("ecg_transform.t.cut").SegmentNonoverlapping(segment_length=2500),
    ]

    def prepare(x: np.ndarray) -> np.ndarray:
        about = inp.ECGMetadata(
            sample_rate=500, num_samples=x.shape[1], lead_names=[*TWELVE], unit="mV",
            input_start=0, input_end=x.shape[1],
        )  # fmt: skip
        schema = inp.ECGInputSchema(
            sample_rate=500, expected_lead_order=[*TWELVE], required_num_samples=2500
        )
        return np.float32(sample.ECGSample(inp.ECGInput(x, about), schema, steps).out)

    return prepare


def _turgut(folder: Path) -> nn.Module:
    net = _module(folder, "models_vit").vit_tiny_patchX(
        img_size=(12, 2500), patch_size=(1, 100), in_chans=1, num_classes=1, attention_pool=True
    )
    for block in net.blocks:
        block.attn.forward = lambda x, own=block.attn.forward, **_: own(x)
    net.forward = lambda x: net.forward_features(x[:, None])
    return net


def _cinema_prepare(folder: Path) -> Prepare:
    import SimpleITK as sitk  # noqa: N813  (as its authors call it)
    from monai.transforms import ScaleIntensity, SpatialPad

    steps = _module(folder, "cinema.data.sitk", "cinema", "cinema.data")
    scale, pad = ScaleIntensity(), SpatialPad((192, 192, 16), method="end")

    def image_of(x: np.ndarray) -> Any:
        image = sitk.GetImageFromArray(x.transpose(2, 1, 0))
        image.SetSpacing(FRAME_SPACING_MM)
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # as it reads NIfTI files of ACDC
        return image

    def prepare(x: np.ndarray) -> np.ndarray:
        to = {"target_spacing": (1.0, 1.0, 10.0)}
        image = steps.resample_spacing_3d(image=image_of(x), is_label=False, **to)
        label = steps.resample_spacing_3d(image=image_of(ventricle(x)), is_label=True, **to)
        there = sitk.GetArrayFromImage(label).transpose(2, 1, 0) == 3
        lower, upper = steps.get_binary_mask_bounding_box(mask=there)
        size = label.GetSize()
        first, last = steps.get_center_crop_size_from_bbox(
            bbox_min=lower, bbox_max=upper, current_size=size, target_size=(192, 192, size[2])
        )
        image = steps.clip_and_normalise_intensity_3d(sitk.Crop(image, first, last), None)
        whole = sitk.GetArrayFromImage(steps.cast_to_uint8(image)).transpose(2, 1, 0)
        return np.asarray(pad(scale(whole[None].astype(np.float32))))[0]

    return prepare


def ventricle(frame: np.ndarray) -> np.ndarray:
    """A mask (x, y, z) of the middle of a frame, marked as the left ventricle is."""
    found = np.zeros(frame.shape, dtype=np.uint8)
    x, y, _ = (size // 2 for size in frame.shape)
    found[x - 20 : x + 20, y - 20 : y + 20] = 3
    return found


def _cinema(folder: Path) -> nn.Module:
    module = _module(folder, "cinema.mae.mae", "cinema", "cinema.mae")
    net = module.CineMA(
        image_size_dict={"sax": (192, 192, 16)}, in_chans_dict={"sax": 1},
        enc_patch_size_dict={"sax": (4, 4, 1)}, enc_scale_factor_dict={"sax": (2, 2, 1)},
        enc_conv_chans=[64, 128], enc_conv_n_blocks=2, enc_embed_dim=768, enc_depth=12,
        enc_n_heads=12, dec_embed_dim=512, dec_depth=8, dec_n_heads=16,
    )  # fmt: skip
    net.forward = lambda x: net.feature_forward({"sax": x[:, None]})
    return net


def _merl(name: str, **settings: int) -> Callable[[Path], nn.Module]:
    module, _, kind = name.partition(":")
    return lambda at: getattr(_module(at / "finetune", module), kind)(**settings)


def _st_mem(folder: Path) -> nn.Module:
    module = _module(folder, "models.encoder.st_mem_vit", "models", "models.encoder")
    return module.st_mem_vit_small(num_leads=12)


MERL = "cheliu-computation+MERL-ICML2024"
AUTHORS = {
    "ecgfounder:12_lead": Loop("PKUDigitalHealth+ECGFounder", _ecgfounder, _ecgfounder_prepare),
    "merl:resnet18": Loop(MERL, _merl("models.resnet1d:ResNet18", num_classes=1), _merl_prepare),
    "merl:vit_tiny": Loop(MERL, _merl("models.vit1d:vit_tiny", num_leads=12), _merl_prepare),
    "ecg_jepa:vits": Loop("kweimann+ECG-JEPA", _ecg_jepa, _ecg_jepa_prepare),
    "st_mem:small": Loop("bakqui+ST-MEM", _st_mem, _st_mem_prepare),
    "hubert_ecg:small": Loop("Edoar-do+HuBERT-ECG", _hubert_ecg, _hubert_ecg_prepare),
    "ecg_fm:base": Loop("Jwoo5+fairseq-signals", _ecg_fm, _ecg_fm_prepare),
    "turgut_ecg:attention_pool": Loop(
        "oetu+mae", _turgut, lambda _: lambda x: np.float32(x[:, :2500])
    ),
    "cinema:base": Loop("mathpluscode+CineMA", _cinema, _cinema_prepare),
}
"""Encoder to how its authors embed a record, of the size of that variant."""

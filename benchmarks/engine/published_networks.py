"""Networks of Turgut et al. 2025 as they were published, written plainly: timm's blocks, torchvision's ResNet50.

Beside them the losses of open_clip, lightly and MONAI, where these are installed. Sizes are those of
`configs/ecg_cmr.yaml`; attention is two products and a softmax, as in the timm of that time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.layers import sincos_2d

LEADS, SAMPLES, PATCH, KEPT = 12, 2500, 100, 59


def blocks(depth: int, width: int, heads: int) -> nn.Sequential:
    from timm.layers import set_fused_attn, use_fused_attn
    from timm.models.vision_transformer import Block

    before = use_fused_attn()
    set_fused_attn(False)
    made = nn.Sequential(*(Block(width, heads, 4.0, qkv_bias=True) for _ in range(depth)))
    set_fused_attn(before)
    return made


def places(times: int, width: int) -> Tensor:
    """Fixed sines and cosines of lead and time, (1, 1 + L * T, width); zeros for the class token."""
    found = sincos_2d(LEADS, times, width, "cpu")
    return torch.cat([torch.zeros(1, width), found])[None]


def start(net: nn.Module) -> None:
    """Set first weights as masked autoencoders do: Xavier-uniform, biases zero."""
    for part in net.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.flatten(1))
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]  # all have one


class Signal(nn.Module):
    """The encoder: patches of a lead by a convolution, a class token, three blocks."""

    def __init__(self, width: int = 384, samples: int = SAMPLES, patch: int = PATCH) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, (1, patch), (1, patch))
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(places(samples // patch, width))
        self.blocks, self.norm = blocks(3, width, 6), nn.LayerNorm(width)
        start(self)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Encode signals (B, L, S), of kept patches (B, V) if they are named; the class token first."""
        tokens = self.embed(x[:, None]).flatten(2).transpose(1, 2) + self.positions[:, 1:]
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        first = (self.first + self.positions[:, :1]).expand(len(x), -1, -1)
        out: Tensor = self.norm(self.blocks(torch.cat([first, tokens], 1)))
        return out


class MaskedModelling(nn.Module):
    """Encoder of the tokens that are seen (59 of 300), decoder of all, squared error and correlation."""

    def __init__(
        self, width: int = 256, samples: int = SAMPLES, patch: int = PATCH, kept: int = KEPT
    ) -> None:
        super().__init__()
        self.encoder, self.enter = Signal(384, samples, patch), nn.Linear(384, width)
        self.patch, self.kept, self.tokens = patch, kept, LEADS * samples // patch
        self.hidden = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(places(samples // patch, width), requires_grad=False)
        self.encoder.positions.requires_grad_(False)
        self.blocks, self.norm = blocks(2, width, 8), nn.LayerNorm(width)
        self.leave = nn.Linear(width, patch)
        start(self)

    def forward(self, x: Tensor) -> Tensor:
        """Give the loss of signals (B, L, S), of which ``kept`` patches a row are seen."""
        order = torch.rand(len(x), self.tokens, device=x.device).argsort(1)
        return distance(self.rebuild(x, order), x)

    def rebuild(self, x: Tensor, order: Tensor) -> Tensor:
        """Give every patch (B, T, patch) of signals of which the first of ``order`` (B, T) are seen."""
        seen = self.enter(self.encoder(x, order[:, : self.kept]))
        hidden = self.hidden.expand(len(x), self.tokens - self.kept, -1).to(seen.dtype)
        place = order.argsort(1)[..., None].expand(-1, -1, seen.shape[-1])
        tokens = torch.cat([seen[:, 1:], hidden], 1).gather(1, place)
        tokens = torch.cat([seen[:, :1], tokens], 1) + self.positions
        predicted: Tensor = self.leave(self.norm(self.blocks(tokens)))[:, 1:]
        return predicted


def distance(predicted: Tensor, x: Tensor) -> Tensor:
    """Give .9 squared error + .1 (1 - correlation of a lead) of patches (B, T, patch), lead-major."""
    predicted = predicted.float().reshape(x.shape)
    error = (predicted - x).square().mean()
    a, b = (one - one.mean(-1, keepdim=True) for one in (predicted, x))
    correlation = ((a * b).mean(-1) / (a.std(-1) * b.std(-1) + 1e-12)).mean()
    return 0.9 * error + 0.1 * (1 - correlation)


class Pairs(nn.Module):
    """ECG and three frames of CMR: two projections, a symmetric cross entropy at a temperature of 0.1."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.ecg, self.cmr = Signal(), resnet50()
        self.cmr.fc = nn.Identity()
        self.of_ecg, self.of_cmr = head(384), head(2048)

    def forward(self, ecg: Tensor, cmr: Tensor) -> Tensor:
        """Give the loss of signals (B, L, S) and frames (B, 3, H, W)."""
        a = self.of_cmr(self.cmr(cmr)).float()
        b = self.of_ecg(self.ecg(ecg)[:, 1:].mean(1)).float()
        logits = 10 * functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T
        rows = torch.arange(len(ecg), device=ecg.device)
        ways = (functional.cross_entropy(one, rows) for one in (logits, logits.T))
        return 0.5 * next(ways) + 0.5 * next(ways)


def head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2048), nn.ReLU(), nn.Linear(2048, 128))


class Timm(nn.Module):
    """ViT-S/16 of timm with its classifier and cross entropy, as its training script calls them."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.model, self.loss = timm.create_model("vit_small_patch16_224"), nn.CrossEntropyLoss()

    def forward(self, image: Tensor) -> Tensor:
        """Give the loss of images (B, 3, H, W), each of a class of its own."""
        loss: Tensor = self.loss(self.model(image), torch.arange(len(image), device=image.device))
        return loss


class OpenClip(nn.Module):
    """ViT-B/32 of open_clip with its loss, as its training loop calls them on one process."""

    def __init__(self) -> None:
        super().__init__()
        import open_clip

        self.model, self.loss = open_clip.create_model("ViT-B-32"), open_clip.ClipLoss()

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Give the loss of images (B, 3, H, W) and tokens (B, 77)."""
        loss: Tensor = self.loss(*self.model(image, text))
        return loss


class Lightly(nn.Module):
    """SimCLR of lightly's examples: torchvision's ResNet18, its projection, its loss."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead
        from torchvision.models import resnet18

        self.backbone = resnet18()
        self.backbone.fc = nn.Identity()
        self.head, self.loss = SimCLRProjectionHead(512, 512, 128), NTXentLoss(temperature=0.1)

    def forward(self, image: Tensor) -> Tensor:
        """Give the loss of two views, here alike, of images (B, 3, H, W)."""
        loss: Tensor = self.loss(*(self.head(self.backbone(image)) for _ in range(2)))
        return loss


class Monai(nn.Module):
    """MONAI's ResNet18 in three dimensions with the layers and strides of ours, and its loss."""

    def __init__(self) -> None:
        super().__init__()
        from monai.losses import ContrastiveLoss
        from monai.networks.nets import resnet18

        self.backbone = resnet18(
            spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False,
            norm=("group", {"num_groups": 8}),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
        self.loss = ContrastiveLoss(temperature=0.1)

    def forward(self, volume: Tensor) -> Tensor:
        """Give the loss of two views, here alike, of volumes (B, 1, D, H, W)."""
        loss: Tensor = self.loss(*(self.head(self.backbone(volume)) for _ in range(2)))
        return loss

"""Which parts of a network learn: the last blocks, by the order that timm gives its parts."""

from __future__ import annotations

from torch import nn


def learn_last_blocks(backbone: nn.Module, blocks: int | None) -> None:
    """Let only the head and so many of the last blocks learn; None lets all.

    A block is a group of timm's coarse order: a stage of a ResNet or EfficientNet, with the stem as the first.
    """
    if blocks is None:
        return
    from timm.models import group_parameters

    groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
    head = {id(parameter) for parameter in _head_of(backbone).parameters()}
    bodies = [names for _, names in sorted(groups.items())]
    parameters = dict(backbone.named_parameters())
    bodies = [kept for names in bodies if (kept := [name for name in names if id(parameters[name]) not in head])]
    for names in bodies[: max(len(bodies) - blocks, 0)]:
        for name in names:
            parameters[name].requires_grad_(False)


def rest_frozen(backbone: nn.Module, *, all_of_it: bool) -> None:
    """Put a network into training mode, but what does not learn into evaluation: its statistics stay as well."""
    backbone.train(not all_of_it)
    for module in backbone.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _head_of(backbone: nn.Module) -> nn.Module:
    classifier = backbone.get_classifier()
    return classifier if isinstance(classifier, nn.Module) else nn.ModuleList(classifier)

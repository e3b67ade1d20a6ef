"""What several processes need to train one model together, beside :mod:`efface.models.processes`."""

from __future__ import annotations

from torch import nn

from efface.models.processes import count, is_main, leave, rank, share

__all__ = ["count", "is_main", "leave", "rank", "share", "unshard"]


def unshard(model: nn.Module) -> None:
    """Give every module its whole parameters back where FSDP has left each process a part; each process must call this."""
    done: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            whole = getattr(parameter, "full_tensor", None)
            if whole is None:
                continue
            if parameter not in done:  # on the CPU: a device may have no room for the whole model
                done[parameter] = nn.Parameter(whole().detach().cpu(), requires_grad=parameter.requires_grad)
            setattr(module, name, done[parameter])

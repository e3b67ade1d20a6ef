"""Kronecker-factored curvature for influence steps, through curvlinops (extra ``efface[kfac]``).

Martens and Grosse 2015, arXiv 1503.05671; for convolutions Grosse and Martens 2016, arXiv 1602.01407. The factors are those of the
exact Gauss-Newton matrix of each linear or convolutional layer, weights and biases together, and the damped inverse is exact.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from efface.errors import InputError, MissingNeed
from efface.methods.nets.gradients import Batches, placed

__all__ = ["kfac_solve"]


def kfac_solve(net: nn.Module, v: Tensor, batches: Batches, *, damping: float, loss: str) -> Tensor:
    """Return (K + damping I)^-1 v, K the Kronecker-factored curvature of the mean loss over ``batches``.

    Args:
        net: Linear and convolutional layers only carry parameters.
        v: Right-hand side over the trained parameters, (P,).
        batches: Pairs (x, y).
        damping: Added to the diagonal, > 0.
        loss: "cross_entropy" or "mse".

    Raises:
        MissingNeed: When curvlinops is not installed.
        InputError: When the net or the loss has no Kronecker form.
    """
    try:
        from curvlinops import FisherType, KFACInverseLinearOperator, KFACLinearOperator
    except ImportError:
        raise MissingNeed(
            "The solver kfac needs the package curvlinops-for-pytorch, and it is not installed. The other solvers need nothing. "
            "Install efface[kfac], or choose solver: woodfisher."
        ) from None
    losses: dict[str, Any] = {"cross_entropy": nn.CrossEntropyLoss(), "mse": nn.MSELoss()}
    if loss not in losses:
        raise InputError(
            f"The solver kfac has no form for the loss {loss}. It knows cross_entropy and mse. Choose solver: woodfisher, or cg."
        )
    # A net that is one layer has no child for curvlinops to find.
    holder = nn.Sequential(net) if isinstance(net, nn.Linear | nn.Conv2d) else net
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        operator = KFACLinearOperator(
            holder,
            losses[loss],
            parameters,
            list(placed(batches, net)),
            fisher_type=FisherType.TYPE2,
            check_deterministic=False,
            separate_weight_and_bias=False,
        )
        inverse = KFACInverseLinearOperator(operator, damping=damping, use_exact_damping=True)
        solved: Tensor = inverse @ v
    except NotImplementedError as error:
        raise InputError(
            f"The solver kfac cannot take this net ({str(error) or 'a layer that is neither linear nor convolutional'}). Its "
            "trained parameters must be in linear and convolutional layers. Set last_layer: true, or choose another solver."
        ) from None
    return solved

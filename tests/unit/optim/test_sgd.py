"""SGD against torch's, and its decay against SGDW (Loshchilov and Hutter 2019, Algorithm 1) in numpy."""

import numpy as np
import pytest
import torch
from updates import draws, group_of, parameters, train

from isoflop.optim.sgd import SGDConfig


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.7, False), (0.7, True)])
def test_without_decay_it_is_torchs(momentum: float, nesterov: bool) -> None:
    start, gradients = draws()
    ours, theirs = parameters(start), parameters(start)
    config = SGDConfig(lr=0.05, momentum=momentum, nesterov=nesterov)
    train(config.build([group_of(kind, p, 0.0) for kind, p in ours.items()]), ours, gradients)
    reference = torch.optim.SGD(theirs.values(), lr=0.05, momentum=momentum, nesterov=nesterov)
    train(reference, theirs, gradients)
    for kind, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[kind], rtol=1e-13, atol=1e-14)


def test_decay_is_decoupled_and_of_its_group() -> None:
    start, gradients = draws()
    ours = parameters(start)
    decays = {kind: 0.3 if kind == "matrix" else 0.0 for kind in ours}
    config = SGDConfig(lr=0.05, momentum=0.7, weight_decay=0.3)
    train(config.build([group_of(kind, p, decays[kind]) for kind, p in ours.items()]), ours, gradients)
    for kind, decay in decays.items():
        theta, momentum = start[kind], np.zeros_like(start[kind])
        for step in gradients:
            momentum = 0.7 * momentum + step[kind]
            theta = theta - 0.05 * momentum - 0.05 * decay * theta
        np.testing.assert_allclose(ours[kind].detach().numpy(), theta, rtol=1e-12, atol=1e-13)


def test_without_momentum_there_is_no_state() -> None:
    start, gradients = draws()
    ours = parameters(start)
    optimizer = SGDConfig(momentum=0.0).build([group_of(kind, p, 0.0) for kind, p in ours.items()])
    train(optimizer, ours, gradients[:2])
    assert not optimizer.state

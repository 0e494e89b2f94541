"""The penalty's gradient is that of the KL divergence, by enumeration over three responses."""

import torch
from sail_revkl import RevKLConfig, SAILRevKL

from sail.losses import Sides, reverse_kl


def test_the_penalty_pulls_back_to_the_reference() -> None:
    theta = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.zeros(3, dtype=torch.float64), -1)
    lp = torch.log_softmax(theta, -1)
    first, second = torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    one = torch.ones(9, dtype=torch.float64)
    sides = Sides(lp[first], lp[second], ref[first], ref[second], one, one)
    weights = (lp[first] + lp[second]).exp().detach()
    gradient = torch.autograd.grad((weights * reverse_kl(sides, one, one * 0, one * 0)).sum(), theta)[0]
    lp = torch.log_softmax(theta, -1)
    exact = torch.autograd.grad((lp.exp() * (lp - ref)).sum(), theta)[0]
    torch.testing.assert_close(gradient, exact)


def test_it_is_a_method() -> None:
    method = SAILRevKL(RevKLConfig(penalty=0.1))
    assert method.name == "sail-revkl"
    assert method.config.penalty == 0.1

"""Networks of a user's own: some train, some cannot be right."""

import torch
from torch import nn


def inplace_gn(shape, c):
    return nn.Sequential(nn.Linear(shape[0], 32), nn.GroupNorm(4, 32), nn.ReLU(inplace=True), nn.Linear(32, c))


def gn_erase(shape, c):
    """A group for each feature: every input becomes zero."""
    d = shape[0]
    return nn.Sequential(nn.GroupNorm(d, d), nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, c))


def frozen(shape, c):
    net = nn.Sequential(nn.Linear(shape[0], 32), nn.ReLU(), nn.Linear(32, c))
    net[0].requires_grad_(False)
    return net


class Embedded(nn.Module):
    def __init__(self, d, c):
        super().__init__()
        self.embedding = nn.Embedding(64, 8)
        self.head = nn.Linear(d * 8, c)

    def forward(self, x):
        return self.head(self.embedding(x.long().clamp(0, 63)).flatten(1))


def embed(shape, c):
    return Embedded(shape[0], c)


class OwnLayerNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d))
        self.shift = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        return self.scale * (x - mean) / torch.sqrt(variance + 1e-12) + self.shift


def ownln(shape, c):
    return nn.Sequential(nn.Linear(shape[0], 32), OwnLayerNorm(32), nn.Tanh(), nn.Linear(32, c))


def bn(shape, c):
    return nn.Sequential(nn.Linear(shape[0], 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, c))


def sigmoid1(shape, c):
    return nn.Sequential(nn.Linear(shape[0], 32), nn.ReLU(), nn.Linear(32, 1))


def softmaxed(shape, c):
    return nn.Sequential(nn.Linear(shape[0], 32), nn.ReLU(), nn.Linear(32, c), nn.Softmax(1))


class Tupled(nn.Module):
    def __init__(self, d, c):
        super().__init__()
        self.head = nn.Linear(d, c)

    def forward(self, x):
        return self.head(x), x


def tupled(shape, c):
    return Tupled(shape[0], c)

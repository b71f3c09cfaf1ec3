"""One training step of PyTorch with the hoisting of recurve written by hand: retina, V1 and V2's bottom-up drive do not
change over time and are computed once. For the comparison in docs/performance.md.

    python benches/pytorch_hoisted.py FOLDER [tiny|blt64] [SECONDS]

FOLDER holds blt_torch.py, a PyTorch implementation of the published network (class Blt, BltConfig, build,
summed_nll, floored_log_softmax).
"""
import json
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, sys.argv[1])
from blt_torch import AREAS, BltConfig, Blt, floored_log_softmax, mix, summed_nll  # noqa: E402

name = sys.argv[2] if len(sys.argv) > 2 else "tiny"
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 6.0
cfg, batch = {
    "tiny": (BltConfig(image_size=32, stem_channels=16, area_channels=(16, 32, 64, 128), topdown=False, timesteps=5,
                       n_classes=10), 32),
    "blt64": (BltConfig(topdown=False, timesteps=10), 4),
}[name]


class Hoisted(Blt):
    def forward(self, x):
        stem = F.relu(self.retina(x))
        v1 = F.relu(self.v1_ln(self.v1.bottom_up(stem)))
        drive = self.v2.bottom_up(F.max_pool2d(v1, 2))
        prev, out = {}, []
        for _ in range(self.cfg.timesteps):
            now, signal = {}, None
            for area in AREAS[1:]:
                layer = getattr(self, area)
                forward = drive if area == "v2" else layer.bottom_up(F.max_pool2d(signal, 2))
                z = mix(self.cfg.interaction, forward, layer.drive("lateral", prev.get(area)))
                signal = now[area] = F.relu(getattr(self, area + "_ln")(z))
            pooled = signal.flatten(2).mean(2)
            lateral = self.gap.lateral(prev["gap"]) if prev else None
            now["gap"] = F.relu(self.gap_ln(mix(self.cfg.interaction, pooled, lateral)))
            out.append(floored_log_softmax(self.readout(now["gap"])))
            prev = now
        return out


torch.set_num_threads(2)
torch.manual_seed(1)
rng = np.random.default_rng(1)
net, plain = Hoisted(cfg), Blt(cfg)
plain.load_state_dict(net.state_dict())
x = torch.from_numpy(rng.normal(size=(batch, 3, cfg.image_size, cfg.image_size)).astype(np.float32))
y = torch.from_numpy(rng.integers(0, cfg.n_classes, batch))
difference = max((a - b).abs().max().item() for a, b in zip(net(x), plain(x)))
assert difference < 1e-4, f"the hoisted network computes something else: {difference}"
optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)


def step():
    optimiser.zero_grad()
    summed_nll(net(x), y).backward()
    optimiser.step()


step()
times, begin = [], time.perf_counter()
while len(times) < 5 or time.perf_counter() - begin < seconds:
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(json.dumps({"config": name, "batch": batch, "images_per_s": round(batch / statistics.median(times), 2),
                  "difference": difference, "torch": torch.__version__}))

"""What `recurve bench analysis` measures of every image and timestep, row by row, as someone with PyTorch would write it, on
made-up activity of the same size: for comparing each row with the same piece of work.

    python benches/analysis_torch.py [--images 25000] [--timesteps 10] [--features 512] [--classes 100] [--json]

Images come in batches of `--batch`, as many as recurve takes, so that PyTorch too may keep what it makes on the way in caches.
Each row is the least of three runs over all images.
"""
import argparse
import json
import time

import torch

p = argparse.ArgumentParser()
for name, value in (("images", 25000), ("timesteps", 10), ("features", 512), ("classes", 100), ("batch", 896)):
    p.add_argument("--" + name, type=int, default=value)
p.add_argument("--json", action="store_true")
a = p.parse_args()
T, N, D, K, B = a.timesteps, a.images, a.features, a.classes, a.batch
torch.manual_seed(0)
torch.set_grad_enabled(False)
# One batch stands for all, as in `recurve bench analysis`.
r, r0, outputs, outputs0 = (torch.rand(T, B, size) for size in (D, D, K, K))
w, labels = torch.randn(K, D), torch.randint(0, K, (B,))
gap, length = torch.cdist(w, w), w.norm(dim=1)
products = r @ w.T
classes, norms = outputs.argmax(2), r.norm(dim=2)


def classes_and_entropy():
    outputs.argmax(2), outputs0.argmax(2)
    q = outputs.log_softmax(2)
    -(q.exp() * q).sum(2), q.amax(2).exp()


def norms_and_steps():
    r.norm(dim=2), r0.norm(dim=2)
    (r[1:] - r[:-1]).norm(dim=2), (r0[1:] - r0[:-1]).norm(dim=2)
    (r[-1] - r).norm(dim=2)


def turns():
    step = r[1:] - r[:-1]
    unit = step / step.norm(dim=2, keepdim=True)
    2 * torch.atan2((unit[1:] - unit[:-1]).norm(dim=2), (unit[1:] + unit[:-1]).norm(dim=2))


def with_the_readout():
    r @ w.T


def margins():
    for t in range(T):
        z, c = products[t], classes[t]
        for of in (c, labels):
            d = (z.gather(1, of[:, None]) - z) / gap[of]
            d.masked_fill_(torch.nn.functional.one_hot(of, K).bool(), float("inf"))
            d.min(1)
        z.gather(1, c[:, None])[:, 0] / norms[t] / length[c]


def published():
    final = classes[-1]
    same = classes == final
    stable = T - same.flip(0).cumprod(0).sum(0)  # since when the class is the last one
    first = same.int().argmax(0)
    correct = (stable == first) & (stable < T - 1) & (final == labels)
    for of in (products.gather(2, classes[..., None])[..., 0], products.gather(2, labels.expand(T, B)[..., None])[..., 0]):
        cosine = of / norms
        torch.zeros(T, T).index_add_(1, stable[correct], cosine[:, correct])
        torch.zeros(T, T).index_add_(1, stable[correct], norms[:, correct])
    for t in range(T):
        later = correct & (stable > t)
        torch.zeros(K, K).index_add_(0, classes[t][later], products[t][later] / norms[t][later, None])


rows = {}
work = (
    ("classes and entropy", classes_and_entropy),
    ("norms and steps", norms_and_steps),
    ("turns", turns),
    ("products with the readout", with_the_readout),
    ("published statistics", published),
    ("margins", margins),
)
for name, run in work:
    run()
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(-(-N // B)):
            run()
        seconds.append((time.perf_counter() - begun) * N / (-(-N // B) * B))
    rows[name] = 1e3 * min(seconds)
result = {"rows": rows, "threads": torch.get_num_threads(), "torch": torch.__version__}
print(json.dumps(result) if a.json else "\n".join(f"{name:28} {ms:7.1f} ms" for name, ms in rows.items()))

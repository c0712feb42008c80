"""Watch gradient descent climb to the edge of stability, and stay there.

Full-batch training of a small network on scikit-learn's digits.  The sharpness, the largest eigenvalue of the Hessian, rises
until it meets the threshold 2/lr at which gradient descent stops being stable on a quadratic; from there on it hovers about
it (Cohen et al. 2021, arXiv:2103.00065).  A monitor probes it, leaves training as it is, and tells what it cost.

    python examples/curvature_monitor.py
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg
from thalweg.curvature import CsvLog

STEPS, LR = 1500, 0.1

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images[:500], dtype=torch.float32), torch.tensor(labels[:500])
x = (x - x.mean()) / x.std()
targets = nn.functional.one_hot(y, 10).float()

model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
optimizer = thalweg.SGD(model.parameters(), lr=LR)


def loss_fn() -> Tensor:
    return 0.5 * (model(x) - targets).square().sum(1).mean()


with TemporaryDirectory() as folder:
    log = Path(folder) / "curvature.csv"
    monitor = thalweg.CurvatureMonitor(model, optimizer, loss_fn, every=50, logs=[CsvLog(log)])
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step()
        record = monitor.step()
        if record and record.step % 150 == 1:
            print(
                f"  step {record.step:4}  loss {record.loss:.4f}"
                f"  sharpness {record.sharpness:5.2f} of {record.threshold:g}  ratio {record.ratio:.3f}"
            )
    lines = log.read_text().splitlines()

spent = sum(record.gradient_equivalents for record in monitor.history)
late = median(record.ratio for record in monitor.history if record.step > STEPS / 2)
print(
    f"{len(monitor.history)} probes cost {spent:.0f} gradients beside the {STEPS} of training; {len(lines)} lines of CSV"
)
print(f"median ratio in the second half {late:.3f}")
assert 0.95 < late < 1.05
assert len(lines) == 1 + len(monitor.history)

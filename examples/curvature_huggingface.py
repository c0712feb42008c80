"""A curvature monitor in a run of transformers' Trainer: is the learning rate near what the loss's curvature allows?

The callback probes the Trainer's own loss on one batch, the same all the time, so that its numbers can be compared; they go
where the Trainer's other numbers go.  The model is made from a configuration: nothing is downloaded.

    python examples/curvature_huggingface.py
"""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

import thalweg
from thalweg.integrations.huggingface import CurvatureCallback

STEPS, LENGTH, LR = 60, 32, 5e-3

transformers.logging.disable_progress_bar()  # of the checkpoints' files
with redirect_stdout(StringIO()) as zen:
    import_module("this")  # prints it
windows = torch.tensor(list(zen.getvalue().encode())).unfold(0, LENGTH, 1)


def trainer(folder: str) -> Trainer:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4
    )
    model = LlamaForCausalLM(config)
    optimizer = thalweg.AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 10, STEPS)
    args = TrainingArguments(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=16,
        logging_steps=STEPS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"input_ids": w, "labels": w} for w in windows]
    made = Trainer(model, args, train_dataset=data, optimizers=(optimizer, schedule))
    made.remove_callback(PrinterCallback)
    return made


with TemporaryDirectory() as folder:
    watched, alone = trainer(folder), trainer(folder)
    watched.add_callback(CurvatureCallback(watched, every=10, k=2))
    watched.train()
    alone.train()

for entry in watched.state.log_history:
    if "curvature/ratio" in entry:
        print(
            f"  step {entry['step']:2}  lr {entry['curvature/lr_1']:.1e}  sharpness {entry['curvature/sharpness']:8.0f}"
            f"  of {entry['curvature/threshold']:8.0f}  ratio {entry['curvature/ratio']:.3f}"
        )
ours, theirs = (cast(Any, t.model).state_dict() for t in (watched, alone))
same = all(torch.equal(ours[name], theirs[name]) for name in ours)
print(f"weights {'equal' if same else 'differ from'} those of a run without the monitor")
assert same

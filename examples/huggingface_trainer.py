"""Teach a small Llama the Zen of Python with transformers' Trainer; resume from a checkpoint, bit for bit.

The Trainer takes thalweg's optimizers as it takes torch's: ready-made with a schedule, or as a class and its arguments.
A callback reads the optimizer as it goes.  The model is made from a configuration: nothing is downloaded.

    python examples/huggingface_trainer.py
"""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

import thalweg

STEPS, HALF, LENGTH, LR = 200, 100, 32, 5e-3

transformers.logging.disable_progress_bar()  # of the checkpoints' files
torch.manual_seed(0)
with redirect_stdout(StringIO()) as zen:
    import_module("this")  # prints it
windows = torch.tensor(list(zen.getvalue().encode())).unfold(0, LENGTH, 1)


class Watch(TrainerCallback):
    """Prints the optimizer's learning rate beside the loss, and checks that it has counted every step."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer: torch.optim.Optimizer = kwargs["optimizer"]
        self.lr = optimizer.param_groups[0]["lr"]
        assert {int(s["step"]) for s in optimizer.state.values()} == {state.global_step + 1}  # after a resume too

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in (logs := kwargs["logs"]):
            print(f"  step {state.global_step:3}  lr {self.lr:.1e}  loss {float(logs['loss']):.3f}")


def small_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            attention_dropout=0.1,
        )
    )


def trainer(model: LlamaForCausalLM, folder: str, steps: int = STEPS, **optimizer: Any) -> Trainer:
    args = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        max_grad_norm=0,  # the optimizer clips, as part of its step
        weight_decay=0.1,  # for an optimizer that the Trainer makes
        save_steps=HALF,
        logging_steps=50,
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"input_ids": w, "labels": w} for w in windows]
    made = Trainer(model, args, train_dataset=data, callbacks=[Watch()], **optimizer)
    made.remove_callback(PrinterCallback)
    return made


def ready_made(model: LlamaForCausalLM, folder: str) -> Trainer:
    optimizer = thalweg.AdamW(model.parameters(), lr=LR, weight_decay=0.1, clip=1.0)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 10, STEPS)
    return trainer(model, folder, optimizers=(optimizer, schedule))


with TemporaryDirectory() as folder:
    print("an optimizer and its schedule, ready-made")
    ready_made(straight := small_llama(), folder).train()

    print(f"a new model and optimizer, from the checkpoint at step {HALF}")
    ready_made(resumed := small_llama(), folder).train(resume_from_checkpoint=f"{folder}/checkpoint-{HALF}")

    print("an optimizer that the Trainer makes")
    by_class = trainer(small_llama(), folder, 50, optimizer_cls_and_kwargs=(thalweg.AdamW, {"lr": LR, "clip": 1.0}))
    by_class.train()
    matrices, vectors = cast(Any, by_class.optimizer).param_groups  # weight_decay is that of TrainingArguments
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)

prompt = torch.tensor([list(b"Simple is better")])
recital = cast(Any, straight.eval()).generate(prompt, max_length=LENGTH, do_sample=False)
print(f"it recites {bytes(recital[0].tolist()).decode()!r}")
predicted = straight(input_ids=windows).logits.argmax(-1)
accuracy = (predicted[:, 12:-1] == windows[:, 13:]).float().mean().item()
same = all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
print(f"next character {accuracy:.1%} right; resumed weights {'equal' if same else 'differ'}")
assert accuracy > 0.95
assert same

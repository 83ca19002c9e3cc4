"""Masked autoencoders: transformers' own loss, and runs that repeat."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from surgvista_hf.trainers.common.schedule import parameter_groups
from surgvista_hf.trainers.pretraining.mae import MaeArguments, MaePretrainer

from .. import tiny


def videomae() -> VideoMAEForPreTraining:
    """Return a tiny VideoMAE."""
    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        use_mean_pooling=False,
    )
    return VideoMAEForPreTraining(config)


def test_the_loss_of_the_masked_autoencoder_is_that_of_transformers(frame_set, tmp_path):
    trainer = MaePretrainer(videomae(), tiny.arguments(tmp_path, MaeArguments), tiny.clips(frame_set))
    batch = trainer.data_collator([trainer.train_dataset[index] for index in (3, 40)])
    assert batch["masks"]["bool_masked_pos"].sum(dim=1).tolist() == [2 * int(0.9 * 16)] * 2
    loss, parts = trainer.clip_loss(trainer.model, batch)
    expected = videomae()(trainer.prepare_pixels(batch), bool_masked_pos=batch["masks"]["bool_masked_pos"]).loss
    assert torch.equal(loss, expected)
    assert not parts


def test_updates_equal_steps_written_by_hand(frame_set, tmp_path):
    run = MaePretrainer(videomae(), tiny.arguments(tmp_path, MaeArguments, max_steps=3), tiny.clips(frame_set))
    loader = DataLoader(run.train_dataset, batch_size=6, sampler=run.sampler, collate_fn=run.data_collator)
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    run.train()
    rates = [line["learning_rate"] for line in run.state.log_history if "loss" in line]
    model = videomae().train()
    optimizer = torch.optim.AdamW(parameter_groups(model.named_parameters(), 0.05), lr=1.0, betas=(0.9, 0.95))
    for rate, batch in zip(rates, batches, strict=True):
        model(run.prepare_pixels(batch), **batch["masks"]).loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    for (name, ours), theirs in zip(run.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_the_masked_autoencoder_learns_and_resumes_exactly(frame_set, tmp_path):
    def train(folder: Path, stop: int | None = None) -> list[dict[str, float]]:
        """Train or resume until a step, and return the log."""
        trainer = MaePretrainer(
            videomae(), tiny.arguments(folder, MaeArguments), tiny.clips(frame_set), callbacks=tiny.stops(stop)
        )
        trainer.train(resume_from_checkpoint=True)
        return trainer.state.log_history

    history = train(tmp_path / "whole")
    values = [line["loss"] for line in history if "loss" in line]
    assert values[-1] < values[0]
    train(tmp_path / "parts", stop=10)
    train(tmp_path / "parts")
    tiny.assert_same_weights(tmp_path / "whole", tmp_path / "parts")

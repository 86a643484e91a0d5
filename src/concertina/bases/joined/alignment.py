"""The projector's first phase: CTC (Graves et al. 2006) against the LLM's own token embeddings; the LLM is not run.

The class of a frame is the token whose embedding is nearest to the projected frame by cosine, or a learned blank.
Tensor names: B utterances, T frames, D width, K tokens that occur in the texts.
"""

import torch
from torch import nn

from concertina.bases.joined.heard import Heard
from concertina.model.lalm import Lalm

BLANK = 0
SHARPNESS = 20.0  # the factor on the cosines at the start


class Aligner(nn.Module):
    """The projector, trained against the embeddings of the tokens that occur; all else that it learns is discarded."""

    mean_D: torch.Tensor
    classes_KD: torch.Tensor

    def __init__(self, lalm: Lalm, texts: list[str]) -> None:
        super().__init__()
        # the space gives the first word the same tokens as in the middle of a text
        targets = lalm.tokenizer([f" {text}" for text in texts], add_special_tokens=False).input_ids
        self.tokens = sorted({token for target in targets for token in target})
        number = {token: k for k, token in enumerate(self.tokens, start=1)}
        self.targets = {text: [number[t] for t in target] for text, target in zip(texts, targets, strict=True)}
        embeddings_KD = lalm.llm.embed_tokens.weight.detach()[self.tokens]
        self.register_buffer("mean_D", embeddings_KD.mean(0))
        self.register_buffer("classes_KD", nn.functional.normalize(embeddings_KD - self.mean_D, dim=-1))
        self.norm = float((embeddings_KD - self.mean_D).norm(dim=-1).mean())
        self.projector = lalm.model.model.multi_modal_projector.linear
        self.blank_D = nn.Parameter(torch.randn(embeddings_KD.shape[1]) * 0.02)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())

    def forward(self, batch: list[Heard]) -> torch.Tensor:
        """Return the mean CTC loss per token."""
        targets = [self.targets[heard.spoken] for heard in batch]
        lengths_B = torch.tensor([len(heard.frames_TD) for heard in batch])
        counts_B = torch.tensor([len(target) for target in targets])
        frames_BTD = nn.utils.rnn.pad_sequence([heard.frames_TD.float() for heard in batch], batch_first=True)
        losses_B = nn.functional.ctc_loss(
            self.scores(frames_BTD).float().log_softmax(-1).transpose(0, 1),
            torch.tensor([token for target in targets for token in target]),
            lengths_B,
            counts_B,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return losses_B.sum() / counts_B.sum()

    def scores(self, frames_BTD: torch.Tensor) -> torch.Tensor:
        """Score blank and every class for each frame: [B, T, 1 + K]."""
        heard_BTD = nn.functional.normalize(self.projector(frames_BTD) - self.mean_D, dim=-1)
        blank_1D = nn.functional.normalize(self.blank_D, dim=-1)[None]
        return self.sharpness.exp() * (heard_BTD @ torch.cat([blank_1D, self.classes_KD]).T)

    @torch.no_grad()
    def rescale(self, batch: list[Heard]) -> None:
        """Scale projected frames to the length of embeddings, which a loss on cosines does not decide."""
        frames_TD = torch.cat([heard.frames_TD.float() for heard in batch])
        factor = self.norm / float((self.projector(frames_TD) - self.mean_D).norm(dim=-1).mean())
        self.projector.weight.mul_(factor)
        self.projector.bias.copy_((self.projector.bias - self.mean_D) * factor + self.mean_D)

"""Tokens that a text encoder's vocabulary lacks, for the call that names them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from cachetools import LRUCache
from diffusers.loaders import TextualInversionLoaderMixin

from kandinsky.catalog.adapters import AdapterError
from services.adapters import token_file
from services.adapters.named import Named
from services.adapters.token_file import LearnedToken

KEPT = 64
"""Of each: files that stay read, and tokenizers with tokens of files."""


class LearnedTokens:
    """Reads textual inversions, and shows the text encoder their embeddings.

    The vocabulary stays as it is, so that a text means the same whatever others name. One thread
    at a time calls it.

    Args:
        tokenizer: of the text encoder.
        embedding: of its tokens.
    """

    def __init__(self, tokenizer: Any, embedding: torch.nn.Embedding) -> None:
        self._tokenizer = tokenizer
        self._embedding = embedding
        self._read: LRUCache[Any, LearnedToken] = LRUCache(KEPT)
        self._tokenizers: LRUCache[tuple[str, ...], Any] = LRUCache(KEPT)
        self._shown: torch.Tensor | None = None
        """[n, D]: embeddings of the ids after the vocabulary."""
        self._ids = torch.zeros(0, dtype=torch.int64)

    def attach(self) -> None:
        """Have the embedding ask for learned ones."""
        self._embedding.register_forward_pre_hook(self._within_vocabulary)
        self._embedding.register_forward_hook(self._with_learned)

    def read(self, named: Named) -> LearnedToken:
        """A textual inversion; reads its file where it was not read yet.

        Raises:
            KandinskyError: INVALID_FIELD for a file that cannot be used, or has changed.
        """
        key = named.folder, named.adapter.file, named.adapter.token, named.version
        if key not in self._read:
            try:
                named.check_version()
                path, token = named.folder.path(named.adapter), named.adapter.token
                found = token_file.read(path, token, self._embedding.embedding_dim)
                taken = set(found.tokens) & self._tokenizer.get_vocab().keys()
                if taken:
                    raise AdapterError(f"its token {min(taken)} is in the vocabulary already")
            except AdapterError as error:
                raise named.refused(error) from error
            self._read[key] = found
        return self._read[key]

    @contextmanager
    def of_texts(self, named: Sequence[Named]) -> Iterator[Any]:
        """The tokenizer for texts with these tokens; the text encoder knows them in the block.

        Raises:
            KandinskyError: as `read`; INVALID_FIELD for two of one token.
        """
        learned: list[LearnedToken] = []
        for each in named:
            found, known = self.read(each), {token for other in learned for token in other.tokens}
            if known & set(found.tokens):
                raise each.refused(AdapterError(f"has the token {found.token} of another"))
            learned.append(found)
        if not learned:
            yield self._tokenizer
            return
        self._shown = torch.cat([each.embeddings for each in learned])
        try:
            yield self._tokenizer_with([token for each in learned for token in each.tokens])
        finally:
            self._shown = None

    def _tokenizer_with(self, tokens: Sequence[str]) -> Any:
        """A tokenizer that gives the tokens the ids after the vocabulary, in their order."""
        key = tuple(tokens)
        if key not in self._tokenizers:
            tokenizer = deepcopy(self._tokenizer)
            tokenizer.add_tokens(list(tokens))
            self._tokenizers[key] = tokenizer
        return self._tokenizers[key]

    def _within_vocabulary(self, module: torch.nn.Embedding, args: tuple[torch.Tensor]) -> Any:
        if self._shown is None:
            return None
        (self._ids,) = args
        return (self._ids.where(self._ids < len(self._tokenizer), 0),)

    def _with_learned(
        self, module: torch.nn.Embedding, args: tuple[torch.Tensor], output: torch.Tensor
    ) -> torch.Tensor | None:
        if self._shown is None:
            return None
        place = self._ids - len(self._tokenizer)
        learned = self._shown.to(output)[place.clamp(0, len(self._shown) - 1)]
        return torch.where((place >= 0)[..., None], learned, output)


def expanded(texts: Sequence[str], tokenizer: Any) -> list[str]:
    """Texts in which a token of several embeddings stands as all of its tokens."""
    found: list[str] = TextualInversionLoaderMixin().maybe_convert_prompt(list(texts), tokenizer)
    return found

"""Hugging Face's encoders and their tokenizers, where they are on this machine."""

from typing import Any

from mtlkit.errors import MtlkitError


def from_cache(kind: str, name: str, **options: Any) -> Any:
    """`transformers.<kind>.from_pretrained(name)` from the local cache or a folder; nothing is downloaded.

    Raises:
        MtlkitError: transformers is not installed, or the files are not there or not what they should be.
    """
    try:
        import transformers
    except ImportError:
        raise MtlkitError(f"encoder {name!r} needs the package transformers, which is not installed: install mtlkit's "
                          "extra `text`, or leave encoder empty for the small transformer.") from None  # fmt: skip
    try:
        return getattr(transformers, kind).from_pretrained(name, local_files_only=True, **options)
    except Exception as error:  # what is missing or damaged shows in many ways, by file and version
        where = "Hugging Face's local cache (its folder follows the environment variable HF_HOME)"
        raise MtlkitError(f"the files of encoder {name!r} are not whole in {where} ({kind}: {type(error).__name__}): "
                          f"`hf download {name}` fetches them, or leave encoder empty for the small "
                          "transformer.") from error  # fmt: skip

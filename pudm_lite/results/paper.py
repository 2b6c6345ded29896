"""The numbers that Takahashi et al. (ICLR 2025) print: Tables 2 to 5, and the accuracies of their judges."""

Value = tuple[float, float]
"""Mean and standard deviation of five runs."""

CONFIGURATION_TITLE = {
    "mnist-even": "MNIST (even)",
    "mnist-odd": "MNIST (odd)",
    "cifar10-vehicles": "CIFAR10 (vehicles)",
    "cifar10-animals": "CIFAR10 (animals)",
    "stl10-vehicles": "STL10 (vehicles)",
    "stl10-animals": "STL10 (animals)",
    "celeba-male": "CelebA (male)",
    "celeba-female": "CelebA (female)",
}
"""The paper's names; in parentheses the normal class."""

METHOD_NAME = {
    "pretrained": "pretrained",
    "unsupervised": "unsupervised",
    "supervised": "supervised",
    "nnpu": "proposed",
}
"""Our names of the paper's methods -> the paper's."""


def _lines(methods: tuple[str, ...], numbers: dict[str, tuple[Value, ...]]) -> dict[str, dict[str, Value]]:
    return {configuration: dict(zip(methods, values, strict=True)) for configuration, values in numbers.items()}


_SCRATCH = ("unsupervised", "supervised", "proposed")
_FINETUNED = ("pretrained", *_SCRATCH)

TABLE: dict[int, dict[str, dict[str, Value]]] = {
    2: _lines(  # non-sensitive rate, from scratch
        _SCRATCH,
        {
            "mnist-even": ((0.904, 0.003), (0.908, 0.003), (0.978, 0.003)),
            "mnist-odd": ((0.900, 0.006), (0.901, 0.006), (0.975, 0.004)),
            "cifar10-vehicles": ((0.762, 0.006), (0.760, 0.004), (0.842, 0.006)),
            "cifar10-animals": ((0.917, 0.004), (0.918, 0.004), (0.967, 0.001)),
            "stl10-vehicles": ((0.824, 0.011), (0.822, 0.008), (0.944, 0.010)),
            "stl10-animals": ((0.858, 0.003), (0.863, 0.014), (0.947, 0.007)),
        },
    ),
    3: _lines(  # FID on Inception's 2,048 features, from scratch
        _SCRATCH,
        {
            "mnist-even": ((3.530, 0.137), (3.469, 0.130), (4.969, 0.537)),
            "mnist-odd": ((3.379, 0.034), (3.366, 0.058), (5.718, 0.652)),
            "cifar10-vehicles": ((34.400, 0.622), (34.310, 0.424), (32.463, 0.970)),
            "cifar10-animals": ((34.448, 0.504), (34.613, 0.530), (39.586, 0.573)),
            "stl10-vehicles": ((122.797, 3.539), (122.267, 2.114), (120.633, 4.256)),
            "stl10-animals": ((135.999, 2.203), (135.324, 1.309), (149.775, 1.522)),
        },
    ),
    4: _lines(  # non-sensitive rate, fine-tuned
        _FINETUNED,
        {
            "cifar10-vehicles": ((0.318, 0.004), (0.741, 0.006), (0.763, 0.006), (0.858, 0.009)),
            "cifar10-animals": ((0.681, 0.003), (0.876, 0.006), (0.892, 0.005), (0.954, 0.005)),
            "celeba-male": ((0.249, 0.003), (0.866, 0.023), (0.868, 0.020), (0.973, 0.010)),
            "celeba-female": ((0.751, 0.004), (0.905, 0.012), (0.907, 0.007), (0.942, 0.011)),
        },
    ),
    5: _lines(  # FID on Inception's 2,048 features, fine-tuned
        _FINETUNED,
        {
            "cifar10-vehicles": ((84.066, 0.403), (26.710, 0.367), (24.458, 0.387), (18.977, 0.381)),
            "cifar10-animals": ((35.055, 0.391), (20.313, 0.338), (19.528, 0.277), (19.415, 0.915)),
            "celeba-male": ((100.256, 0.261), (43.772, 2.447), (43.465, 2.509), (46.877, 5.239)),
            "celeba-female": ((43.721, 0.217), (30.520, 1.333), (30.569, 1.166), (39.131, 1.961)),
        },
    ),
}
"""Table number -> configuration -> the paper's method -> mean and standard deviation of five runs."""

JUDGE_ACCURACY = {"mnist": 0.9846, "cifar10": 0.958, "stl10": 0.995, "celeba": 0.9845}
"""Section 5.2: share of the real test images that the paper's judges call right."""

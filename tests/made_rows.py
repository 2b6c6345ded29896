"""Rows that no run made, in the form of those that runs write."""

from pudm_lite.splits import CONFIGURATIONS

RATES = {
    "unsupervised": [0.900, 0.905, 0.911, 0.897, 0.903],
    "supervised": [0.904, 0.909, 0.898, 0.912, 0.906],
    "nnpu": [0.971, 0.978, 0.981, 0.969, 0.975],
    "upu": [0.973, 0.979, 0.970, 0.980, 0.977],
}


def row(method="nnpu", seed=0, rate=0.95, experiment="mnist-even", **more):
    return {
        "experiment": experiment,
        "method": method,
        "beta": 0.1,
        "labelled": CONFIGURATIONS[experiment].s,
        "network": "lite",
        "pretrained": "",
        "mode": "lab",
        "seed": seed,
        "sample_seed": seed,
        "steps": 2200,
        "batch_size": 64,
        "ell_scale": 784.0,
        "stream": "pooled",
        "conditional": 0,
        "label_drop": 0.1,
        "flips": 0,
        "timesteps": "stratified",
        "group_sizes": "realised",
        "schedule": "lite",
        "prediction": "v_prediction",
        "optimiser": "muon",
        "s_per_batch": 6,
        "learning_rate": 3e-3,
        "kernel_learning_rate": 0.014,
        "warmup_steps": 100,
        "ema_power": 40.0,
        "grad_clip": None,
        "mixed_precision": "no",
        "sampler": "ddpm",
        "sampler_steps": 25,
        "n_samples": 2000,
        "non_sensitive_rate": rate,
        "judge_accuracy": 0.9941,
        "frechet_distance": 10 * (1 - rate),
        "frechet_floor": 0.078,
        "frechet_features": "judge-mnist-128",
        "device": "cpu (a processor)",
    } | more


def rows(rates=RATES, **more):
    return [row(method, seed, rate, **more) for method, values in rates.items() for seed, rate in enumerate(values)]

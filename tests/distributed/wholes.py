"""Every rank's parts of the parameters, put together."""

import torch


def whole_parameters(engine):
    """`weight`, `exp_avg` and `exp_avg_sq` by parameter, whole; collective. Each element is there exactly once."""
    parts = [part for rank in engine.world.gather(list(engine.own_parts())) for part in rank]
    found = {}
    for name, parameter in engine.trained_parameters():
        shape = getattr(parameter, "ds_shape", parameter.shape)
        own = sorted(((start, tensors) for other, start, tensors in parts if other == name), key=lambda part: part[0])
        ends = [0, *(start + len(tensors["weight"]) for start, tensors in own)]
        assert [start for start, _ in own] == ends[:-1] and ends[-1] == shape.numel(), (name, ends)
        found[name] = {
            kind: torch.cat([tensors[kind].cpu() for _, tensors in own]).view(shape)
            for kind in ("weight", "exp_avg", "exp_avg_sq")
        }
    return found

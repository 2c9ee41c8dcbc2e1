"""How evenly the experts of a trained mixture work, and how close the router's choices are."""

import torch


def load_of(chosen, experts):
    """Share of the choices each expert gets; 1 is an even share."""
    return torch.bincount(chosen.flatten(), minlength=experts) / chosen.numel() * experts


def choice_leads(choice, chosen, groups):
    """Biased score of the last expert chosen minus that of the best one left out in the same groups."""
    left_out = choice.scatter(1, chosen, float("-inf")).unflatten(-1, (groups, -1))
    taking_part = torch.zeros(left_out.shape[:2], dtype=torch.bool).scatter_(1, chosen // left_out.shape[-1], True)
    runner_up = left_out.masked_fill(~taking_part[..., None], float("-inf")).flatten(1).max(-1)[0]
    return choice.gather(1, chosen).min(-1)[0] - runner_up


@torch.no_grad()
def report_mixture(model, mixture, rows_by_kind):
    """One mixture on validation rows {kind: (B,T)}: load per kind and expert, bias, leads."""
    inputs = []
    hook = mixture.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].flatten(0, 1)))
    for rows in rows_by_kind.values():
        model(rows)
    hook.remove()
    experts = len(mixture.gate)
    load = {kind: load_of(mixture.route(x)[0], experts) for kind, x in zip(rows_by_kind, inputs)}
    chosen, _, scores = mixture.route(torch.cat(inputs))
    choice = scores + mixture.bias
    leads = choice_leads(choice, chosen, mixture.config["n_group"])
    mean = torch.stack(list(load.values())).mean(0)
    return dict(
        largest_excess=round((mean.max() - 1).item(), 3),
        smallest_share=round(mean.min().item(), 3),
        bias_range=[round(mixture.bias.min().item(), 4), round(mixture.bias.max().item(), 4)],
        smallest_chosen_score=round(choice.gather(1, chosen).min().item(), 4),
        smallest_lead=float(f"{leads.min().item():.2e}"),
        median_lead=round(leads.median().item(), 4),
        load={kind: [round(value, 2) for value in values.tolist()] for kind, values in load.items()})

"""A model of any family in torch float64, through transformers: what reference.py needs of llama.py's
Llama, with gradients by autograd. Needs torch and transformers, and shares nothing with the program
under test.

Shapes are those of llama.py. Hooks take h from the feed-forward block's input, and u from the input
of its down projection; edits replace what that projection gives, before a norm that may follow it.
"""
import numpy as np
import torch
from transformers import AutoModelForCausalLM


class Widened(torch.overrides.TorchFunctionMode):
    """Computes in float64 what transformers does in float32 whatever the model's type: norms, rotary
    angles, softmax."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*[widen(a) for a in args], **{k: widen(v) for k, v in (kwargs or {}).items()})


def array(tensor):
    return tensor.detach().numpy()


class TransformersModel:
    def __init__(self, folder):
        with Widened():
            self.model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float64, attn_implementation="eager").eval()
        self.model.requires_grad_(False)
        config = self.model.config
        self.config = {"hidden_size": config.hidden_size, "eos_token_id": config.eos_token_id}
        body = self.model.base_model
        self.blocks = [layer.mlp for layer in (body.h if hasattr(body, "h") else body.layers)]
        self.layers = len(self.blocks)

    def projection(self, index):
        """The module of a layer's down projection."""
        block = self.blocks[index]
        return block.c_proj if hasattr(block, "c_proj") else block.down_proj

    def layer(self, index):
        """gate and up [m,d], or None and up [m,d], and down [d,m]."""
        block = self.blocks[index]
        if hasattr(block, "c_fc"):  # GPT-2, stored [inputs, outputs]
            return {"gate": None, "up": array(block.c_fc.weight).T,
                    "down": array(block.c_proj.weight).T}
        if hasattr(block, "gate_up_proj"):
            gate, up = block.gate_up_proj.weight.chunk(2)
        else:
            gate, up = block.gate_proj.weight, block.up_proj.weight
        return {"gate": array(gate), "up": array(up), "down": array(block.down_proj.weight)}

    def run(self, ids, keep=None, down=None, bias=None, values=None):
        """Logits of ids[B,T] and what the layers' hooks saw: h[B,T,d], u[B,T,m], as torch has them.
        Layers of which `down` has no entry keep all they have. values {layer: (channels, values)}
        take the place of channels of u."""
        hs, us, handles = [], [], []

        def edit(index, own):
            def hook(module, args, output):
                us.append(args[0])
                if keep is None or (down is not None and index >= len(down)):
                    return None
                kept = torch.from_numpy(keep[index] == 1)
                weight = torch.from_numpy(own[:, keep[index] == 1] if down is None else down[index])
                result = args[0][..., kept] @ weight.T
                if module.bias is not None:
                    result = result + module.bias
                return result if bias is None else result + torch.from_numpy(bias[index])
            return hook

        def replace(channels, value):
            def hook(module, args):
                u = args[0].clone()
                u[..., torch.as_tensor(channels)] = torch.as_tensor(value, dtype=torch.float64)
                return (u,)
            return hook

        for index, (channels, value) in (values or {}).items():
            handles.append(self.projection(index).register_forward_pre_hook(
                replace(channels, value)))
        for index, block in enumerate(self.blocks):
            handles.append(block.register_forward_pre_hook(lambda _, args: hs.append(args[0])))
            handles.append(self.projection(index).register_forward_hook(
                edit(index, self.layer(index)["down"])))
        try:
            with Widened():
                logits = self.model(torch.as_tensor(np.asarray(ids, np.int64)),
                                    use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits, hs, us

    def forward(self, ids, keep=None, down=None, bias=None):
        """Logits [B,T,V] of ids[B,T], with the edits of Llama.forward."""
        with torch.no_grad():
            return array(self.run(ids, keep, down, bias)[0])

    def activations(self, ids, keep=None, down=None):
        """h[B,T,d] and u[B,T,m] of every layer."""
        with torch.no_grad():
            _, hs, us = self.run(ids, keep, down)
        return [array(h) for h in hs], [array(u) for u in us]

    def nll(self, ids, values):
        """Negative log-likelihoods of the next tokens of ids[T], with `values` in place of channels
        of u."""
        with torch.no_grad():
            logits = self.run(ids[None], values=values)[0][0, :-1]
            targets = torch.as_tensor(ids[1:].astype(np.int64))
            return array(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))

    def forward_backward(self, ids):
        """One sequence ids[T]. Returns logits [T,V] and per layer h[T,d], u[T,m], g[T,m], where
        g = dL/du for L = the sum of the next-token cross-entropies."""
        weight = self.model.get_input_embeddings().weight
        weight.requires_grad_(True)  # so that there is a graph
        logits, hs, us = self.run(ids[None])
        loss = torch.nn.functional.cross_entropy(
            logits[0, :-1], torch.as_tensor(ids[1:].astype(np.int64)), reduction="sum")
        gs = torch.autograd.grad(loss, us)
        weight.requires_grad_(False)
        return (array(logits[0]), [array(h[0]) for h in hs], [array(u[0]) for u in us],
                [array(g[0]) for g in gs])

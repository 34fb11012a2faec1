#!/usr/bin/env python3
"""Quantized weights and activations, computed with NumPy and without Lodestone's code.

    quantize.py tests/golden/quantize.h5

Writes small made-up matrices and activations, and what kernels/codec and kernels/input must make of
them, bit for bit: the input of unit.codec and unit.input. README.md beside this file says more.
"""
import math
import sys

import h5py
import numpy as np

F32 = np.float32


# --- dtypes ---------------------------------------------------------------------------------------

def to_bfloat(values):
    """Nearest bfloat16, ties to even, in exact float64 arithmetic; what is finite stays finite."""
    x = np.asarray(values, dtype=np.float64)
    _, exponent = np.frexp(x)
    spacing = np.ldexp(1.0, np.maximum(exponent - 8, -133))
    rounded = np.rint(x / spacing) * spacing
    most = math.ldexp(255, 120)
    return np.clip(rounded, -most, most).astype(F32)


def to_half(values):
    with np.errstate(over="ignore"):
        half = np.asarray(values, dtype=F32).astype(np.float16)
    most = np.float16(65504)
    half = np.where(np.isinf(half), np.copysign(most, half), half)
    return half.astype(F32)


ROUND = {"F32": lambda x: np.asarray(x, dtype=F32), "F16": to_half, "BF16": to_bfloat}


def stored_bytes(values, dtype):
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


# --- weights --------------------------------------------------------------------------------------

def block_numbers(shape, case):
    """The block of each element."""
    rows, cols = np.indices(shape)
    out, width = shape
    if "row_bits" in case:
        return rows
    if "col_bits" in case:
        return cols
    kind, size = case["granularity"]
    if kind == "tensor":
        return np.zeros(shape, dtype=np.int64)
    if kind == "channel":
        return rows
    if kind == "group":
        return rows * -(-width // size) + cols // size
    return (rows * width + cols) // size**2


def quantize(stored, case):
    """scale, minimum, integers and values of the matrix as used."""
    x = stored.astype(F32)
    shape = x.shape
    if "smooth" in case:
        x = x * case["smooth"].astype(F32)[None, :]
    free = np.ones(shape, dtype=bool)
    if "keep_row" in case:
        free[case["keep_row"] == 1, :] = False
    if "keep_col" in case:
        free[:, case["keep_col"] == 1] = False
    for row, col, _ in case.get("held", []):
        free[row, col] = False
    blocks = block_numbers(shape, case)
    count = int(blocks.max()) + 1
    scale, minimum = np.zeros(count, dtype=F32), np.zeros(count, dtype=F32)
    integers, values = np.zeros(shape, dtype=np.uint8), x.copy()
    for block in range(count):
        inside = blocks == block
        bits = case.get("bits", 0)
        if "row_bits" in case:
            bits = case["row_bits"][block]
        if "col_bits" in case:
            bits = case["col_bits"][block]
        chosen = inside & free
        if not chosen.any() or bits == 16:
            continue
        top = F32(2 ** int(bits) - 1)
        members = x[chosen]
        least, most = members.min(), members.max()
        if case["clip"] < math.inf:
            exact = [float(v) for v in members]
            mean = math.fsum(exact) / len(exact)
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in exact) / len(exact))
            low, high = F32(mean - case["clip"] * std), F32(mean + case["clip"] * std)
            least, most = max(least, low), min(most, high)
            most = max(most, least)
        least = F32(least) + F32(0)
        scale[block], minimum[block] = (most - least) / top + F32(0), least
        if scale[block] == 0:
            values[chosen] = least
            continue
        q = np.rint((members - least) / scale[block])
        q = np.minimum(np.maximum(q, F32(0)), top).astype(F32)
        integers[chosen] = q
        values[chosen] = scale[block] * q + least
    for row, col, value in case.get("held", []):
        values[row, col] = F32(value)
        if "smooth" in case:
            values[row, col] *= F32(case["smooth"][col])
    assert np.isfinite(values).all()
    return scale, minimum, integers, ROUND[case["dtype"]](values)


def matrices(rng):
    """Named (dtype, values): the values are the dtype's."""
    found = {}

    def add(name, dtype, values):
        found[name] = dtype, ROUND[dtype](np.asarray(values, dtype=F32))

    for dtype in ROUND:
        tag = dtype.lower()
        heavy = rng.standard_normal((13, 37)) * 0.02
        heavy[rng.integers(0, 13, 9), rng.integers(0, 37, 9)] *= 40
        add(f"heavy-{tag}", dtype, heavy)
        constant = rng.standard_normal((6, 20))
        constant[1] = 0.1
        constant[2] = -0.3
        constant[3] = 0
        constant[4, ::2] = -0.0
        constant[4, 1::2] = 0.0
        constant[5, 4:16] = 0.7
        add(f"constant-{tag}", dtype, constant)
        halves = np.arange(6 * 31).reshape(6, 31) % 31 * 0.5
        add(f"ties-{tag}", dtype, np.hstack([halves, -halves[:, ::-1] - 1]))
        add(f"single-{tag}", dtype, [[-0.37]])
        add(f"tiny-{tag}", dtype, rng.standard_normal((5, 24)) * 3e-7)
    add("long-bf16", "BF16", rng.standard_normal((2, 541)))
    add("long-f32", "F32", rng.standard_normal((2, 541)))
    add("tall-f16", "F16", rng.standard_normal((83, 3)))
    add("large-f16", "F16", rng.uniform(-65504, 65504, (6, 30)))
    add("large-bf16", "BF16", rng.uniform(0, 3.38e38, (6, 30)))
    add("subnormal-f32", "F32", rng.standard_normal((4, 20)) * 1e-42)
    # halfway between numbers of half precision, normal and not, and of bfloat16
    odd = np.arange(1, 33, 2, dtype=np.float64)
    between = np.array([1 + odd / 2**11, odd / 2**25, 1 + odd / 2**8, odd * 2.0**-134,
                        np.nextafter(F32(1 + odd / 2**11), F32(2)), 65488 + odd * 2])
    add("between-f32", "F32", np.vstack([between, -between]))
    found["large-bf16"][1][2, 3] = to_bfloat([3.3895e38])[0]
    return found


PLAIN = [("tensor", 0), ("channel", 0), ("group", 7), ("group", 16), ("block", 3), ("block", 8)]


def held_of(rng, matrix, count):
    """Places in ascending order, half of them with another value."""
    flat = np.sort(rng.choice(matrix.size, min(count, matrix.size), replace=False))
    held = []
    for n, place in enumerate(flat):
        row, col = divmod(int(place), matrix.shape[1])
        held.append((row, col, F32(matrix[row, col] * (1 if n % 2 else -2.37))))
    return held


def weight_cases(rng, found):
    """Named cases; `rows` and `cols` select."""
    cases = {}

    def add(name, matrix, **rest):
        case = {"matrix": matrix, "dtype": found[matrix][0], "clip": math.inf, **rest}
        cases[name] = case
        return case

    bits = 1
    for matrix in found:
        for kind, size in PLAIN:
            bits = bits % 7 + 1
            if not matrix.startswith(("heavy", "constant", "ties")) and kind not in (
                "channel", "block"):
                continue
            if matrix.startswith("ties") and kind == "channel":
                bits = 4 # scale 1
            if matrix.startswith("long") and size == 3:
                continue
            add(f"{matrix}-{kind}{size}-{bits + 1}", matrix, bits=bits + 1, granularity=(kind, size))
    add("ties-exact", "ties-f32", bits=4, granularity=("group", 31))
    for n, (kind, size) in enumerate(PLAIN):
        dtype = ("f32", "f16", "bf16")[n % 3]
        matrix = f"heavy-{dtype}"
        shape = found[matrix][1].shape
        add(f"clip-{kind}{size}", matrix, bits=3, granularity=(kind, size), clip=(2.0, 1.25, 3.5)[n % 3])
        add(f"clip-constant-{kind}{size}", f"constant-{dtype}", bits=5, granularity=(kind, size),
            clip=2.5)
        add(f"held-{kind}{size}", matrix, bits=4, granularity=(kind, size),
            held=held_of(rng, found[matrix][1], 11))
        add(f"keep-{kind}{size}", matrix, bits=2, granularity=(kind, size), clip=3.0,
            keep_row=(rng.random(shape[0]) < 0.2).astype(np.uint8),
            keep_col=(rng.random(shape[1]) < 0.2).astype(np.uint8),
            held=held_of(rng, found[matrix][1], 7))
        smooth = rng.uniform(0.3, 3, shape[1]).astype(F32)
        add(f"smooth-{kind}{size}", matrix, bits=4, granularity=(kind, size), smooth=smooth,
            held=held_of(rng, found[matrix][1], 3),
            keep_col=(np.arange(shape[1]) % 9 == 2).astype(np.uint8))
        rows = np.sort(rng.choice(shape[0], 8, replace=False)).astype(np.int32)
        cols = np.sort(rng.choice(shape[1], 23, replace=False)).astype(np.int32)
        part = found[matrix][1][rows]
        add(f"rows-{kind}{size}", matrix, bits=4, granularity=(kind, size), rows=rows,
            held=held_of(rng, part, 5))
        add(f"cols-{kind}{size}", matrix, bits=4, granularity=(kind, size), cols=cols,
            keep_row=(np.arange(shape[0]) == 4).astype(np.uint8))
        add(f"both-{kind}{size}", matrix, bits=6, granularity=(kind, size), rows=rows, cols=cols)
    for dtype in ("f32", "f16", "bf16"):
        matrix = f"heavy-{dtype}"
        shape = found[matrix][1].shape
        choices = np.array([2, 3, 4, 8, 16], dtype=np.uint8)
        for clip in (math.inf, 2.0):
            tag = "" if clip == math.inf else "-clip"
            add(f"row-bits-{dtype}{tag}", matrix, row_bits=rng.choice(choices, shape[0]), clip=clip,
                held=held_of(rng, found[matrix][1], 5))
            add(f"col-bits-{dtype}{tag}", matrix, col_bits=rng.choice(choices, shape[1]), clip=clip,
                held=held_of(rng, found[matrix][1], 5),
                keep_row=(np.arange(shape[0]) % 7 == 3).astype(np.uint8))
        add(f"only-held-{dtype}", matrix, bits=0, granularity=("channel", 0),
            held=held_of(rng, found[matrix][1], 6))
        add(f"all-kept-{dtype}", matrix, bits=4, granularity=("group", 16),
            keep_row=np.ones(shape[0], dtype=np.uint8))
    add("overflow-f16", "large-f16", bits=3, granularity=("channel", 0),
        smooth=np.linspace(0.9, 2.1, 30).astype(F32), held=[(1, 2, F32(1e9))])
    add("overflow-bf16", "large-bf16", bits=8, granularity=("tensor", 0),
        smooth=np.full(30, 1.003, dtype=F32))
    for dtype in ("F16", "BF16"):
        add(f"between-{dtype}", "between-f32", bits=4, granularity=("channel", 0), dtype=dtype,
            keep_row=np.ones(12, dtype=np.uint8))
    add("other-dtype", "heavy-f32", bits=4, granularity=("group", 16), dtype="BF16",
        keep_col=(np.arange(37) % 5 == 0).astype(np.uint8))
    return cases


def write_weights(file, rng):
    found = matrices(rng)
    for name, (dtype, values) in found.items():
        group = file.create_group(f"matrices/{name}")
        group.attrs["dtype"] = dtype
        group.create_dataset("shape", data=np.array(values.shape, dtype=np.int64))
        group.create_dataset("bytes", data=np.frombuffer(stored_bytes(values, dtype), dtype=np.uint8))
    for name, case in weight_cases(rng, found).items():
        group = file.create_group(f"cases/{name}")
        used = found[case["matrix"]][1]
        used = used[case["rows"]] if "rows" in case else used
        used = used[:, case["cols"]] if "cols" in case else used
        for key in ("matrix", "dtype"):
            group.attrs[key] = case[key]
        kind, size = case.get("granularity", ("tensor", 0))
        group.attrs["kind"], group.attrs["size"] = kind, size
        group.attrs["bits"], group.attrs["clip"] = case.get("bits", 0), case["clip"]
        for key in ("rows", "cols", "row_bits", "col_bits", "keep_row", "keep_col", "smooth"):
            if key in case:
                group.create_dataset(key, data=case[key])
        if "held" in case:
            rows, cols, values = zip(*case["held"])
            group.create_dataset("held_row", data=np.array(rows, dtype=np.int32))
            group.create_dataset("held_col", data=np.array(cols, dtype=np.int32))
            group.create_dataset("held_value", data=np.array(values, dtype=F32))
        rounds = case.get("bits", 0) > 0 or "row_bits" in case or "col_bits" in case
        if rounds:
            scale, minimum, integers, values = quantize(used, case)
            group.create_dataset("scale", data=scale)
            group.create_dataset("minimum", data=minimum)
            group.create_dataset("integers", data=integers, compression="gzip")
        else:
            values = used.copy()
            for row, col, value in case["held"]:
                values[row, col] = ROUND[case["dtype"]](value)
        group.create_dataset("values", data=values, compression="gzip")


# --- activations ----------------------------------------------------------------------------------

def quantize_input(x, offsets, case):
    y = x.astype(F32)
    if "smooth" in case:
        y = y / case["smooth"].astype(F32)[None, :]
    result = y.copy()
    top = F32(2 ** (case["bits"] - 1) - 1)
    for first, end in zip(offsets[:-1], offsets[1:]):
        if first == end:
            continue
        free = np.ones(y.shape, dtype=bool)
        for channel in case.get("held", []):
            free[first + int(np.argmax(np.abs(x[first:end, channel]))), channel] = False
        pieces = [slice(first, end)] if case["tensor"] else [slice(t, t + 1) for t in range(first, end)]
        for piece in pieces:
            members, chosen = y[piece], free[piece]
            most = np.abs(members[chosen]).max() if chosen.any() else F32(0)
            scale = most / top
            if scale == 0:
                coded = np.zeros_like(members)
            else:
                q = np.rint(members / scale)
                coded = scale * np.minimum(np.maximum(q, -top), top)
            result[piece] = np.where(chosen, coded, members)
    return result + F32(0)


def write_inputs(file, rng):
    offsets = np.array([0, 1, 9, 9, 23], dtype=np.int64)
    width = 29
    x = rng.standard_normal((23, width)).astype(F32)
    x[4, 7] = 800
    x[5, 7] = -500
    x[12, 3] = x[15, 3] = -90 # the first among equals is held
    x[6] = 0
    x[17] = np.arange(width) * 0.5 # ties: 127/254 apart once the largest is 63.5
    x[17, -1] = 63.5
    file.create_dataset("inputs/x", data=x)
    file.create_dataset("inputs/offsets", data=offsets)
    smooth = rng.uniform(0.2, 4, width).astype(F32)
    for bits in (8, 5):
        for tensor in (False, True):
            for held in (None, [7], [3, 7, 28]):
                for smoothed in (False, True):
                    case = {"bits": bits, "tensor": tensor}
                    if held:
                        case["held"] = np.array(held, dtype=np.int32)
                    if smoothed:
                        case["smooth"] = smooth
                    name = "-".join([str(bits), "tensor" if tensor else "token",
                                     *(["held" + str(len(held))] if held else []),
                                     *(["smooth"] if smoothed else [])])
                    group = file.create_group(f"inputs/cases/{name}")
                    group.attrs["bits"], group.attrs["tensor"] = bits, int(tensor)
                    for key in ("held", "smooth"):
                        if key in case:
                            group.create_dataset(key, data=case[key])
                    group.create_dataset("values", data=quantize_input(x, offsets, case),
                                         compression="gzip")


def main():
    rng = np.random.default_rng(20240607)
    with h5py.File(sys.argv[1], "w", libver=("v110", "v110")) as file:
        write_weights(file, rng)
        write_inputs(file, rng)


if __name__ == "__main__":
    main()

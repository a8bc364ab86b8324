"""Products of numpy arrays by plain loops, in the arrays' own type: what the library's are held against."""

import string

import numpy as np


def dot(lhs, rhs, dimension_numbers):
    """`dot_general`, by einsum."""
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = dimension_numbers
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in range(lhs.ndim)]
    right = [next(letters) for _ in range(rhs.ndim)]
    for a, b in (*zip(lhs_sum, rhs_sum, strict=True), *zip(lhs_batch, rhs_batch, strict=True)):
        right[b] = left[a]
    batch = [left[i] for i in lhs_batch]
    free = [left[i] for i in range(lhs.ndim) if i not in (*lhs_sum, *lhs_batch)]
    free += [right[i] for i in range(rhs.ndim) if i not in (*rhs_sum, *rhs_batch)]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(batch + free)}", lhs, rhs)


def conv(lhs, rhs, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count):
    """`conv_general_dilated`, window by window."""
    numbers = dimension_numbers
    x = _padded(_dilated(lhs.transpose(numbers.lhs_spec), lhs_dilation), padding)
    w = _dilated(rhs.transpose(numbers.rhs_spec), rhs_dilation)
    spans = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], w.shape[2:], window_strides, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *spans), np.result_type(x, w))
    features, inputs = w.shape[0] // feature_group_count, w.shape[1]
    for place in np.ndindex(*spans):
        starts = [i * s for i, s in zip(place, window_strides, strict=True)]
        window = x[(..., *(slice(a, a + k) for a, k in zip(starts, w.shape[2:], strict=True)))]
        for g in range(feature_group_count):
            part = window[:, g * inputs : (g + 1) * inputs].reshape(x.shape[0], -1)
            kernel = w[g * features : (g + 1) * features].reshape(features, -1)
            out[(slice(None), slice(g * features, (g + 1) * features), *place)] = part @ kernel.T
    return out.transpose(np.argsort(numbers.out_spec))


def _dilated(x, dilation):
    out = np.zeros((*x.shape[:2], *((n - 1) * d + 1 for n, d in zip(x.shape[2:], dilation, strict=True))), x.dtype)
    out[(..., *(slice(None, None, d) for d in dilation))] = x
    return out


def _padded(x, padding):
    wide = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in padding)])
    return wide[(..., *(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(padding, wide.shape[2:], strict=True)))]

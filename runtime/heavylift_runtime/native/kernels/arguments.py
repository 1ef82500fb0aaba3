"""What each kernel is called with, field by field as in kernels.h.

Not the calls (calls.py), and no torch.
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p


class Matrix(Structure):
    _fields_ = [
        ("weight", c_void_p), ("scale", c_void_p), ("sums", c_void_p), ("bias", c_void_p),
        ("outputs", c_int64), ("inputs", c_int64), ("kind", c_int32), ("parts", c_int32),
    ]  # fmt: skip


class Product(Structure):
    _fields_ = [
        ("matrix", c_void_p), ("x", c_void_p), ("base", c_void_p), ("y", c_void_p),
        ("rows", c_int64), ("type", c_int32),
    ]  # fmt: skip


class Norm(Structure):
    _fields_ = [
        ("x", c_void_p), ("weight", c_void_p), ("bias", c_void_p), ("y", c_void_p),
        ("rows", c_int64), ("heads", c_int64), ("width", c_int64), ("pitch", c_int64),
        ("epsilon", c_float), ("type", c_int32),
    ]  # fmt: skip


class Bend(Structure):
    _fields_ = [
        ("inner", c_void_p), ("y", c_void_p), ("rows", c_int64), ("width", c_int64),
        ("how", c_int32), ("gated", c_int32), ("type", c_int32),
    ]  # fmt: skip


class Angles(Structure):
    _fields_ = [("cosines", c_void_p), ("sines", c_void_p), ("positions", c_void_p)]


class Turn(Structure):
    _fields_ = [
        ("numbers", c_void_p), ("angles", c_void_p),
        ("rows", c_int64), ("heads", c_int64), ("pitch", c_int64), ("width", c_int64), ("turned", c_int64),
        ("paired", c_int32), ("type", c_int32),
    ]  # fmt: skip


class Beside(Structure):
    _fields_ = [
        ("left", c_void_p), ("right", c_void_p), ("y", c_void_p),
        ("rows", c_int64), ("left_width", c_int64), ("right_width", c_int64),
    ]  # fmt: skip


class Put(Structure):
    _fields_ = [
        ("positions", c_void_p), ("pairs", c_void_p), ("cache", c_void_p),
        ("rows", c_int64), ("each", c_int64), ("first", c_int64), ("slots", c_int64),
        ("heads", c_int64), ("room", c_int64), ("pitch", c_int64), ("width", c_int64),
    ]  # fmt: skip


class Seen(Structure):
    _fields_ = [
        ("bias", c_void_p), ("positions", c_void_p), ("span", c_int64), ("pitch", c_int64), ("step", c_int64),
    ]  # fmt: skip


class Attend(Structure):
    _fields_ = [
        ("query", c_void_p), ("keys", c_void_p), ("values", c_void_p), ("seen", c_void_p), ("mixed", c_void_p),
        ("rows", c_int64), ("pairs", c_int64), ("groups", c_int64), ("width", c_int64),
        ("query_pitch", c_int64), ("key_pitch", c_int64), ("value_pitch", c_int64),
        ("scale", c_float), ("type", c_int32),
    ]  # fmt: skip


class Likeliest(Structure):
    _fields_ = [
        ("scores", c_void_p), ("places", c_void_p), ("rows", c_int64), ("count", c_int64), ("type", c_int32),
    ]  # fmt: skip


class Screen(Structure):
    _fields_ = [
        ("matrix", c_void_p), ("rough", c_void_p), ("lengths", c_void_p), ("errors", c_void_p), ("x", c_void_p),
        ("scores", c_void_p), ("places", c_void_p), ("looked", c_void_p), ("rows", c_int64), ("type", c_int32),
    ]  # fmt: skip


class Narrow(Structure):
    _fields_ = [
        ("weight", c_void_p), ("levels", c_void_p), ("scale", c_void_p), ("lengths", c_void_p), ("errors", c_void_p),
        ("outputs", c_int64), ("inputs", c_int64), ("type", c_int32),
    ]  # fmt: skip


class Call(Structure):
    _fields_ = [("kernel", c_void_p), ("arguments", c_void_p)]

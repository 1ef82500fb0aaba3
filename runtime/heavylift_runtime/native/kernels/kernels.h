/* What the kernels share: the forms of numbers, and how they are read and written. */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { FP32, BF16, INT8 };
#define FINER 254.0f /* steps of an activation's second part in one of the first */

/* A weight that never changes; calls.py has the same fields. */
struct matrix {
    const void *weight;  /* (outputs, inputs) */
    const float *scale;  /* (outputs,) of whole numbers: what a level stands for */
    const int32_t *sums; /* (outputs,) of whole numbers: the sum of an output's levels */
    const float *bias;   /* (outputs,), or none */
    int64_t outputs, inputs;
    int32_t kind;  /* of the weight */
    int32_t parts; /* of an activation, where they are whole numbers: 1 or 2 */
};

/* x as it is multiplied with, and where the product goes. */
struct factor {
    void *numbers;
    float *tops; /* (rows,) of whole numbers: what a level of the row stands for */
    int64_t pitch;
    const void *base;
    void *y;
    int type; /* of x, base and y: FP32 or BF16 */
};

static inline float of_bf16(uint16_t number) {
    uint32_t bits = (uint32_t)number << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bf16(float value) { /* to the nearest, to the even one of two */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline __mmask16 mask(int64_t left) { return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1); }

/* 16 numbers from `place` on as fp32, or the `left` ones that there are, and zeros. */
static inline __m512 load(const void *numbers, int64_t place, int64_t left, int type) {
    if (type == FP32) return _mm512_maskz_loadu_ps(mask(left), (const float *)numbers + place);
    __m256i half = _mm256_maskz_loadu_epi16(mask(left), (const uint16_t *)numbers + place);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline void store(void *numbers, int64_t place, int64_t left, int type, __m512 values) {
    if (type == FP32)
        _mm512_mask_storeu_ps((float *)numbers + place, mask(left), values);
    else
        _mm256_mask_storeu_epi16((uint16_t *)numbers + place, mask(left), (__m256i)_mm512_cvtneps_pbh(values));
}

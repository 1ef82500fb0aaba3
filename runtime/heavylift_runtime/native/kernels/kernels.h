/* What the kernels share: the forms of numbers, and how they are read and written. */
#pragma once
#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

enum { FP32, BF16, INT8 };
#define FINER 254.0f /* steps of an activation's second part in one of the first */

/* A weight that never changes. */
struct matrix {
    const void *weight;  /* (outputs, inputs) */
    const float *scale;  /* (outputs,) of whole numbers: what a level stands for */
    const int32_t *sums; /* (outputs,) of whole numbers: the sum of an output's levels */
    const float *bias;   /* (outputs,), or none */
    int64_t outputs, inputs;
    int32_t kind;  /* of the weight */
    int32_t parts; /* of an activation: 1, or of whole numbers 2 */
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

/* What each kernel is called with: one argument, so that a row of calls can be kept and made again (run, in rows.c).
 * calls.py has the same fields. */
struct product {
    const struct matrix *matrix;
    const void *x, *base; /* base: or none */
    void *y;
    int64_t rows;
    int32_t type; /* of x, base and y */
};

struct norm {
    const void *x, *weight, *bias; /* bias: or none, and then no mean is taken off */
    void *y;
    int64_t rows, heads, width, pitch; /* each head of a row for itself; from one row's to the next one's */
    float epsilon;
    int32_t type;
};

enum { RELU, GELU, GELU_TANH, SILU, GELU_QUICK, RELU_SQUARED };

struct bend {
    const void *inner;
    void *y;
    int64_t rows, width;
    int32_t how, gated; /* gated: inner has another `width` numbers for each row */
    int32_t type;
};

/* Angles by position, (positions, turned), and each row's position. */
struct angles {
    const void *cosines, *sines;
    const int64_t *positions;
};

struct turn {
    void *numbers;
    const struct angles *angles;
    int64_t rows, heads, pitch, width, turned;
    int32_t paired; /* with its neighbour, not with the one half of them further on */
    int32_t type;
};

struct beside {
    const char *left, *right;
    char *y;
    int64_t rows, left_width, right_width; /* in bytes */
};

/* The cache is (2, slots, heads, room, width): keys, then values. */
struct put {
    const int64_t *positions; /* (rows,) */
    const char *pairs;        /* (rows, 2, heads, width), keys, then values */
    char *cache;
    int64_t rows, each, first, slots; /* `each` rows are in neighbouring slots from the `first` on, as are the next */
    int64_t heads, room, pitch, width; /* pitch and width in bytes */
};

/* What queries see: biases on places, pitches in numbers, from one pair's to the next one's and from one group's. */
struct seen {
    const void *bias;
    const int64_t *positions; /* (rows,), or none; then `bias` is all rows', and each row's begins so much before it */
    int64_t span, pitch, step;
};

struct attend {
    const void *query, *keys, *values;
    const struct seen *seen;
    void *mixed;
    int64_t rows, pairs, groups, width; /* pairs: of each row */
    int64_t query_pitch, key_pitch, value_pitch; /* from one row's to the next one's, one pair's to the next one's */
    float scale;
    int32_t type;
};

struct likeliest {
    const void *scores;
    int64_t *places;
    int64_t rows, count;
    int32_t type;
};

struct screen {
    const struct matrix *matrix; /* fp32 or bf16 */
    const float *rough;          /* (rows, outputs): x times the matrix in whole numbers */
    const float *lengths;        /* (outputs,): of each output's weights, as a vector */
    const float *errors;         /* (outputs,): of what they differ by from the whole numbers */
    const void *x;
    float *scores;   /* (rows,): the highest */
    int64_t *places; /* (rows,): and where */
    int64_t *looked; /* (1,): outputs that were computed */
    int64_t rows;
    int32_t type; /* of x, and what scores are rounded to */
};

struct narrow {
    const void *weight; /* (outputs, inputs) */
    int8_t *levels;     /* the same */
    float *scale, *lengths, *errors; /* (outputs,) each */
    int64_t outputs, inputs;
    int32_t type; /* of the weight */
};

struct call {
    int (*kernel)(const void *with); /* 0, or -1 where there is no memory */
    const void *with;
};

/* Something for each of so many, by all threads where it is much, ever fewer at a time towards the end: threads never
 * take equally long, least of all beside other processes. OpenMP takes half a microsecond to find that one is enough. */
#define EACH(ONE, COUNT, WIDTH, MUCH, DO)                                                                              \
    if ((COUNT) * (WIDTH) > (MUCH) && omp_get_max_threads() > 1) {                                                     \
        _Pragma("omp parallel for schedule(guided)") for (int64_t ONE = 0; ONE < (COUNT); ONE++) DO;                   \
    } else                                                                                                             \
        for (int64_t ONE = 0; ONE < (COUNT); ONE++) DO;

static inline float of_bf16(uint16_t number) {
    uint32_t bits = (uint32_t)number << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bf16(float value) { /* as the processor does it for many at once */
    return (uint16_t)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
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

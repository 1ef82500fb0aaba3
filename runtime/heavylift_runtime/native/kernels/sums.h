/* Sums of products of numbers that lie side by side: the inside of every kernel that multiplies with a weight. */
#pragma once
#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define MOST 6    /* rows at once; with 4 outputs, 24 of the 32 registers hold sums */
#define NEAR 12288 /* bytes of weights that the nearest cache has room for twice, beside a row or two; measured */

/* Sums of R rows with O outputs: lines of 64 bytes, and a rest. The next outputs are fetched meanwhile, from their first
 * line to their last, for a processor's own guess ends with every page: as near as there is room. */
#define LINES(LANES, LOAD, STEP, HINT)                                                                                 \
    for (; k + LANES <= inputs; k += LANES) {                                                                          \
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {                                                          \
            __m512i weight = LOAD(w + o * inputs + k);                                                                 \
            _mm_prefetch(ahead + 64 * o, HINT);                                                                        \
            _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)                                                        \
                sum[r][o] = STEP(sum[r][o], LOAD(x + r * pitch + k), weight);                                          \
        }                                                                                                              \
        ahead += 64 * O;                                                                                               \
    }

#define SUMS(NAME, ELEMENT, FACTOR, SUM, ZERO, LANES, LOAD, REST, STEP)                                                \
    INLINE void NAME(const ELEMENT *restrict w, const FACTOR *restrict x, int64_t pitch, int64_t inputs, int R, int O, \
                     SUM sum[MOST][8]) {                                                                               \
        const char *ahead = (const char *)(w + O * inputs);                                                            \
        _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)                                                            \
            _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) sum[r][o] = ZERO;                                      \
        int64_t k = 0;                                                                                                 \
        if (O * inputs * (int64_t)sizeof(ELEMENT) <= (R <= 2 ? NEAR : NEAR / 4)) {                                     \
            LINES(LANES, LOAD, STEP, _MM_HINT_T0)                                                                      \
        } else {                                                                                                       \
            LINES(LANES, LOAD, STEP, _MM_HINT_T1)                                                                      \
        }                                                                                                              \
        if (k < inputs)                                                                                                \
            _Pragma("GCC unroll 8") for (int o = 0; o < O; o++)                                                        \
                _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)                                                    \
                    sum[r][o] = STEP(sum[r][o], REST(x + r * pitch + k, inputs - k),                                   \
                                     REST(w + o * inputs + k, inputs - k));                                            \
    }

#define WHOLE(p) _mm512_loadu_si512((const void *)(p))
#define REST4(p, n) _mm512_maskz_loadu_epi32((__mmask16)((1u << (n)) - 1), (p))
#define REST2(p, n) _mm512_maskz_loadu_epi16((__mmask32)((1u << (n)) - 1), (p))
#define REST1(p, n) _mm512_maskz_loadu_epi8((__mmask64)((1ull << (n)) - 1), (p))
#define STEP4(sum, x, w) _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum)
#define STEP2(sum, x, w) _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(w))
#define STEP1(sum, x, w) dot1(sum, x, w)

/* _mm512_dpbusd_epi32, before and after which gcc 12 copies each sum: that takes twice the time. */
INLINE __m512i dot1(__m512i sum, __m512i x, __m512i w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

SUMS(sums4, float, float, __m512, _mm512_setzero_ps(), 16, WHOLE, REST4, STEP4)
SUMS(sums2, uint16_t, uint16_t, __m512, _mm512_setzero_ps(), 32, WHOLE, REST2, STEP2)
SUMS(sums1, int8_t, uint8_t, __m512i, _mm512_setzero_si512(), 64, WHOLE, REST1, STEP1)

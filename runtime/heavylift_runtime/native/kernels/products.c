/* y = x W' + bias + base, with W as a checkpoint has it: each output's weights one after another.
 *
 * Not a BLAS: made for few rows of x, where reading W from memory is all that takes time. Both factors lie along the
 * sum, so that nothing is packed and nothing is held twice. A thread has a range of outputs, and walks through its
 * weights from their first byte to their last, some outputs at a time. Every number of y is summed in the same order
 * whatever the number of rows, so that a row's result never depends on the rows beside it.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define MOST 6 /* rows at once; with 4 outputs, 24 of the 32 registers hold sums */

/* Sums of R rows with O outputs: C lines of 64 bytes, and a rest of `rest` numbers. `ahead`: where the next outputs
 * begin; they are fetched meanwhile, for a processor's own guess ends with every page. */
#define SUMS(NAME, ELEMENT, SUM, ZERO, LANES, LOAD, REST, STEP)                                                        \
    INLINE void NAME(const ELEMENT *restrict w, const ELEMENT *restrict x, int64_t pitch, int64_t inputs, int R, int O,\
                     SUM sum[MOST][8]) {                                                                               \
        const char *ahead = (const char *)(w + O * inputs);                                                           \
        _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)                                                            \
            _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) sum[r][o] = ZERO;                                      \
        int64_t k = 0;                                                                                                 \
        for (; k + LANES <= inputs; k += LANES) {                                                                      \
            _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {                                                      \
                __m512i weight = LOAD(w + o * inputs + k);                                                             \
                _mm_prefetch(ahead + 64 * o, _MM_HINT_T0);                                                             \
                _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)                                                    \
                    sum[r][o] = STEP(sum[r][o], LOAD(x + r * pitch + k), weight);                                      \
            }                                                                                                          \
            ahead += 64 * O;                                                                                           \
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
#define STEP1(sum, x, w) _mm512_dpbusd_epi32(sum, x, w)

SUMS(sums4, float, __m512, _mm512_setzero_ps(), 16, WHOLE, REST4, STEP4)
SUMS(sums2, uint16_t, __m512, _mm512_setzero_ps(), 32, WHOLE, REST2, STEP2)
SUMS(sums1, int8_t, __m512i, _mm512_setzero_si512(), 64, WHOLE, REST1, STEP1)

/* What y gets of one sum. */
INLINE void give(const struct matrix *m, const struct factor *x, int64_t row, int64_t output, float value) {
    int64_t place = row * m->outputs + output;
    if (m->bias) value += m->bias[output];
    if (x->type == FP32)
        ((float *)x->y)[place] = x->base ? value + ((const float *)x->base)[place] : value;
    else
        ((uint16_t *)x->y)[place] = to_bf16(x->base ? value + of_bf16(((const uint16_t *)x->base)[place]) : value);
}

/* R rows by O outputs. Of whole numbers, a row of x is `parts` rows here. */
INLINE void block(const struct matrix *m, const struct factor *x, int64_t row, int64_t output, int kind,
                  int parts, int R, int O) {
    int64_t inputs = m->inputs, from = output * inputs;
    if (kind == INT8) {
        __m512i sum[MOST][8];
        sums1((const int8_t *)m->weight + from, (const int8_t *)x->numbers + row * parts * x->pitch, x->pitch, inputs,
              R, O, sum);
        _Pragma("GCC unroll 8") for (int o = 0; o < O; o++) {
            float scale = m->scale[output + o];
            int32_t extra = 128 * m->sums[output + o]; /* a level of x has 128 more than it stands for */
            _Pragma("GCC unroll 8") for (int r = 0; r < R; r += parts) {
                float value = (float)(_mm512_reduce_add_epi32(sum[r][o]) - extra);
                if (parts == 2) value += (float)(_mm512_reduce_add_epi32(sum[r + 1][o]) - extra) * (1.0f / FINER);
                give(m, x, row + r / parts, output + o, value * x->tops[row + r / parts] * scale);
            }
        }
        return;
    }
    __m512 sum[MOST][8];
    if (kind == FP32)
        sums4((const float *)m->weight + from, (const float *)x->numbers + row * inputs, inputs, inputs, R, O, sum);
    else
        sums2((const uint16_t *)m->weight + from, (const uint16_t *)x->numbers + row * inputs, inputs, inputs, R, O,
              sum);
    _Pragma("GCC unroll 8") for (int o = 0; o < O; o++)
        _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)
            give(m, x, row + r, output + o, _mm512_reduce_add_ps(sum[r][o]));
}

/* All rows by the outputs [first, last). */
INLINE void range(const struct matrix *m, const struct factor *x, int64_t rows, int64_t first, int64_t last,
                  int kind, int parts) {
    int64_t output = first;
    for (; rows * parts <= 2 && output + 8 <= last; output += 8) /* there are registers for more outputs at once */
        if (parts == 1 && rows == 1)
            block(m, x, 0, output, kind, 1, 1, 8);
        else
            block(m, x, 0, output, kind, parts, 2, 8);
    for (; output < last; output += 4) {
        int some = last - output < 4 ? (int)(last - output) : 4;
        for (int64_t row = 0; row < rows;) {
            int count = rows - row < MOST / parts ? (int)(rows - row) : MOST / parts;
            if (some == 4)
                switch (count * parts) {
                case 1: if (parts == 1) block(m, x, row, output, kind, 1, 1, 4); break;
                case 2: block(m, x, row, output, kind, parts, 2, 4); break;
                case 3: if (parts == 1) block(m, x, row, output, kind, 1, 3, 4); break;
                case 4: block(m, x, row, output, kind, parts, 4, 4); break;
                case 5: if (parts == 1) block(m, x, row, output, kind, 1, 5, 4); break;
                default: block(m, x, row, output, kind, parts, 6, 4);
                }
            else
                for (int o = 0; o < some; o++)
                    for (int r = 0; r < count; r++)
                        block(m, x, row + r, output + o, kind, parts, parts, 1);
            row += count;
        }
    }
}

/* Rows of x in whole numbers of -127..127, plus 128: one part, or a second one for what the first leaves over. */
static void level(const struct matrix *m, const void *x, int64_t row, const struct factor *into) {
    const int type = into->type;
    int64_t inputs = m->inputs;
    uint8_t *first = (uint8_t *)into->numbers + row * m->parts * into->pitch;
    __m512 top = _mm512_setzero_ps();
    for (int64_t k = 0; k < inputs; k += 16)
        top = _mm512_max_ps(top, _mm512_abs_ps(load(x, row * inputs + k, inputs - k, type)));
    float step = fmaxf(_mm512_reduce_max_ps(top), 1e-30f) / 127;
    into->tops[row] = step;
    __m512 each = _mm512_set1_ps(step);
    for (int64_t k = 0; k < inputs; k += 16) {
        __mmask16 held = mask(inputs - k);
        __m512 value = _mm512_div_ps(load(x, row * inputs + k, inputs - k, type), each);
        __m512i coarse = _mm512_cvtps_epi32(value);
        _mm512_mask_cvtepi32_storeu_epi8(first + k, held, _mm512_add_epi32(coarse, _mm512_set1_epi32(128)));
        if (m->parts == 2) {
            __m512 left = _mm512_mul_ps(_mm512_sub_ps(value, _mm512_cvtepi32_ps(coarse)), _mm512_set1_ps(FINER));
            __m512i fine = _mm512_add_epi32(_mm512_cvtps_epi32(left), _mm512_set1_epi32(128));
            _mm512_mask_cvtepi32_storeu_epi8(first + into->pitch + k, held, fine);
        }
    }
}

/* y = x W' + bias + base; x, base (or none) and y are of `type`. -1 where there is no memory. */
int product(const struct matrix *m, const void *x, int64_t rows, const void *base, void *y, int type) {
    static _Thread_local void *room;
    static _Thread_local size_t size;
    if (rows == 0) return 0;
    struct factor factor = {(void *)x, 0, m->inputs, base, y, type};
    if (m->kind == INT8) {
        factor.pitch = (m->inputs + 63) / 64 * 64;
        size_t levels = rows * m->parts * factor.pitch, wanted = levels + rows * sizeof(float);
        if (wanted > size) {
            free(room);
            size = 0;
            if (posix_memalign(&room, 64, wanted)) return room = 0, -1;
            size = wanted;
        }
        factor.numbers = room;
        factor.tops = (float *)((char *)room + levels);
        if (rows < 16)
            for (int64_t row = 0; row < rows; row++) level(m, x, row, &factor);
    }
    int64_t eights = (m->outputs + 7) / 8;
#pragma omp parallel if (m->outputs * m->inputs * (rows + 1) > 1 << 16)
    {
        if (m->kind == INT8 && rows >= 16) {
#pragma omp for
            for (int64_t row = 0; row < rows; row++) level(m, x, row, &factor);
        }
        int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t first = eights * thread / threads * 8, last = eights * (thread + 1) / threads * 8;
        if (last > m->outputs) last = m->outputs;
        if (m->kind == FP32)
            range(m, &factor, rows, first, last, FP32, 1);
        else if (m->kind == BF16)
            range(m, &factor, rows, first, last, BF16, 1);
        else if (m->parts == 1)
            range(m, &factor, rows, first, last, INT8, 1);
        else
            range(m, &factor, rows, first, last, INT8, 2);
    }
    return 0;
}

/* y = x W' + bias + base, with W as a checkpoint has it: each output's weights one after another.
 *
 * Not a BLAS: made for few rows of x, where reading W from memory is all that takes time. Both factors lie along the
 * sum, so that nothing is packed and nothing is held twice. A thread takes ranges of outputs, ever smaller ones towards
 * the end, and walks through their weights from the first byte to the last, some outputs at a time. Every number of y is
 * summed in the same order whatever the number of rows, so that a row's result never depends on the rows beside it.
 * Where the processor multiplies in tiles, bf16 and many rows of whole numbers are tiles.c's.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "sums.h"
#include "tiles.h"

#define LEAST 16 /* outputs that a thread takes at once */

/* What y gets of one sum, and of four outputs' at once. */
INLINE void give(const struct matrix *m, const struct factor *x, int64_t row, int64_t output, float value) {
    int64_t place = row * m->outputs + output;
    if (m->bias) value += m->bias[output];
    if (x->type == FP32)
        ((float *)x->y)[place] = x->base ? value + ((const float *)x->base)[place] : value;
    else
        ((uint16_t *)x->y)[place] = to_bf16(x->base ? value + of_bf16(((const uint16_t *)x->base)[place]) : value);
}

INLINE void give4(const struct matrix *m, const struct factor *x, int64_t row, int64_t output, __m128 values) {
    int64_t place = row * m->outputs + output;
    if (m->bias) values = _mm_add_ps(values, _mm_loadu_ps(m->bias + output));
    if (x->type == FP32) {
        if (x->base) values = _mm_add_ps(values, _mm_loadu_ps((const float *)x->base + place));
        _mm_storeu_ps((float *)x->y + place, values);
        return;
    }
    if (x->base) {
        __m128i half = _mm_loadl_epi64((const __m128i *)((const uint16_t *)x->base + place));
        values = _mm_add_ps(values, _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(half), 16)));
    }
    _mm_storel_epi64((__m128i *)((uint16_t *)x->y + place), (__m128i)_mm_cvtneps_pbh(values));
}

/* Four sums' lanes added up, in reduce_add's order: those 8, then 4, 2 and 1 apart. */
#define ADDED(NAME, WIDE, FOUR, SHUFFLE, ADD, SWAP, PICK)                                                              \
    INLINE FOUR NAME(WIDE a, WIDE b, WIDE c, WIDE d) {                                                                 \
        WIDE ab = ADD(SHUFFLE(a, b, 0x44), SHUFFLE(a, b, 0xee)), cd = ADD(SHUFFLE(c, d, 0x44), SHUFFLE(c, d, 0xee));   \
        WIDE all = ADD(SHUFFLE(ab, cd, 0x88), SHUFFLE(ab, cd, 0xdd));                                                  \
        all = ADD(all, SWAP(all, 0x4e));                                                                               \
        all = ADD(all, SWAP(all, 0xb1));                                                                               \
        return PICK(_mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0), all);                           \
    }

#define PICK4(places, all) _mm512_castps512_ps128(_mm512_permutexvar_ps(places, all))
#define PICK1(places, all) _mm512_castsi512_si128(_mm512_permutexvar_epi32(places, all))
ADDED(added, __m512, __m128, _mm512_shuffle_f32x4, _mm512_add_ps, _mm512_permute_ps, PICK4)
ADDED(added1, __m512i, __m128i, _mm512_shuffle_i32x4, _mm512_add_epi32, _mm512_shuffle_epi32, PICK1)

/* R rows by O outputs, 1 or a multiple of 4. Of whole numbers, a row of x is `parts` rows here. */
INLINE void block(const struct matrix *m, const struct factor *x, int64_t row, int64_t output, int kind,
                  int parts, int R, int O) {
    int64_t inputs = m->inputs, from = output * inputs;
    if (kind == INT8) {
        __m512i sum[MOST][8];
        sums1((const int8_t *)m->weight + from, (const uint8_t *)x->numbers + row * parts * x->pitch, x->pitch, inputs,
              R, O, sum);
        if (O == 1) {
            int32_t extra = 128 * m->sums[output]; /* a level of x has 128 more than it stands for */
            for (int r = 0; r < R; r += parts) {
                float value = (float)(_mm512_reduce_add_epi32(sum[r][0]) - extra);
                if (parts == 2) value += (float)(_mm512_reduce_add_epi32(sum[r + 1][0]) - extra) * (1.0f / FINER);
                give(m, x, row + r / parts, output, value * x->tops[row + r / parts] * m->scale[output]);
            }
            return;
        }
        _Pragma("GCC unroll 2") for (int o = 0; o < O; o += 4) {
            const __m128 scale = _mm_loadu_ps(m->scale + output + o);
            const __m128i extra = _mm_slli_epi32(_mm_loadu_si128((const __m128i *)(m->sums + output + o)), 7);
            _Pragma("GCC unroll 8") for (int r = 0; r < R; r += parts) {
                __m512i *s = &sum[r][o], *t = &sum[r + parts - 1][o];
                __m128 values = _mm_cvtepi32_ps(_mm_sub_epi32(added1(s[0], s[1], s[2], s[3]), extra));
                if (parts == 2) {
                    __m128 fine = _mm_cvtepi32_ps(_mm_sub_epi32(added1(t[0], t[1], t[2], t[3]), extra));
                    values = _mm_add_ps(values, _mm_mul_ps(fine, _mm_set1_ps(1.0f / FINER)));
                }
                values = _mm_mul_ps(_mm_mul_ps(values, _mm_set1_ps(x->tops[row + r / parts])), scale);
                give4(m, x, row + r / parts, output + o, values);
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
    if (O == 1) {
        for (int r = 0; r < R; r++) give(m, x, row + r, output, _mm512_reduce_add_ps(sum[r][0]));
        return;
    }
    _Pragma("GCC unroll 2") for (int o = 0; o < O; o += 4)
        _Pragma("GCC unroll 8") for (int r = 0; r < R; r++)
            give4(m, x, row + r, output + o, added(sum[r][o], sum[r][o + 1], sum[r][o + 2], sum[r][o + 3]));
}

/* All rows by the outputs [first, last). */
INLINE void range(const struct matrix *m, const struct factor *x, int64_t rows, int64_t first, int64_t last,
                  int kind, int parts) {
    int64_t output = first;
    /* a single row's sums keep up with memory, which gives most to whoever reads in one line */
    for (; kind == FP32 && rows == 1 && output < last; output++) block(m, x, 0, output, kind, 1, 1, 1);
    /* there are registers for more outputs at once; of near ones, fewer let more of the next be near */
    const int few = rows * parts <= 2 && !(kind == FP32 && 16 * m->inputs <= NEAR && 32 * m->inputs > NEAR);
    for (; few && output + 8 <= last; output += 8)
        if (parts == 1 && rows == 1)
            block(m, x, 0, output, kind, 1, 1, 8);
        else
            block(m, x, 0, output, kind, parts, 2, 8);
    for (; output < last; output += 4) {
        int some = last - output < 4 ? (int)(last - output) : 4;
        for (int64_t row = 0; row < rows;) {
            int64_t left = rows - row, blocks = (left + MOST / parts - 1) / (MOST / parts);
            int count = (int)((left + blocks - 1) / blocks); /* about as many in each */
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

/* Rows of x in whole numbers of -127..127, plus 128: one part, or a second one for what the first leaves over. No whole
 * number stands for NaN: a row that has one gets it as its step, and so in all that is made of it. */
static void level(const struct matrix *m, const void *x, int64_t row, const struct factor *into) {
    const int type = into->type;
    int64_t inputs = m->inputs;
    uint8_t *first = (uint8_t *)into->numbers + row * m->parts * into->pitch;
    __m512 top = _mm512_setzero_ps();
    __mmask16 lost = 0;
    for (int64_t k = 0; k < inputs; k += 16) {
        __m512 size = _mm512_abs_ps(load(x, row * inputs + k, inputs - k, type));
        top = _mm512_max_ps(top, size);
        lost |= _mm512_cmp_ps_mask(size, size, _CMP_UNORD_Q);
    }
    float step = lost ? NAN : fmaxf(_mm512_reduce_max_ps(top), 1e-30f) / 127;
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

static void some_outputs(const struct matrix *m, const struct factor *x, int64_t rows, int64_t some) {
    const int64_t first = some * LEAST, last = first + LEAST < m->outputs ? first + LEAST : m->outputs;
    if (m->kind == FP32)
        range(m, x, rows, first, last, FP32, 1);
    else if (m->kind == BF16)
        range(m, x, rows, first, last, BF16, 1);
    else if (m->parts == 1)
        range(m, x, rows, first, last, INT8, 1);
    else
        range(m, x, rows, first, last, INT8, 2);
}

#define TILED 16 /* rows of whole numbers, in parts, from which tiles are quicker; exact in both ways */

/* y = x W' + bias + base */
int product(const void *with) {
    static _Thread_local void *room;
    static _Thread_local size_t size;
    const struct product *c = with;
    const struct matrix *m = c->matrix;
    const int whole = m->kind == INT8;
    const int64_t rows = c->rows * m->parts, bytes = m->inputs * (whole ? 1 : 2); /* bytes: of a row in tiles */
    if (rows == 0) return 0;
    struct factor factor = {(void *)c->x, 0, whole ? (m->inputs + 63) / 64 * 64 : m->inputs, c->base, c->y, c->type};
    const int in_tiles = m->kind != FP32 && (m->kind == BF16 || rows >= TILED) && tiled();
    struct tiles tiles = {0};
    if (in_tiles) tiles = tiles_of(rows, m->parts, bytes);
    const size_t levels = whole ? rows * factor.pitch : 0, lines = in_tiles ? tiles_size(&tiles) : 0;
    const size_t wanted = levels + lines + (whole ? c->rows * sizeof(float) : 0);
    if (wanted > size) {
        free(room);
        size = 0;
        if (posix_memalign(&room, 64, wanted)) return room = 0, -1;
        size = wanted;
    }
    if (whole) {
        factor.numbers = room;
        factor.tops = (float *)((char *)room + levels + lines);
        EACH(row, c->rows, m->inputs, 1 << 14, level(m, c->x, row, &factor))
    }
    if (in_tiles) {
        tiles.numbers = (char *)room + levels;
        EACH(block, tiles.blocks, tiles.wide * m->inputs, 1 << 15,
             tiles_fill(&tiles, block, factor.numbers, whole ? factor.pitch : bytes, bytes))
        EACH(some, (m->outputs + AT_ONCE - 1) / AT_ONCE, AT_ONCE * m->inputs * (rows / 8 + 1), 1 << 16,
             tiles_product(m, &factor, &tiles, some * AT_ONCE))
        return 0;
    }
    EACH(some, (m->outputs + LEAST - 1) / LEAST, LEAST * m->inputs * (c->rows + 1), 1 << 16,
         some_outputs(m, &factor, c->rows, some))
    return 0;
}

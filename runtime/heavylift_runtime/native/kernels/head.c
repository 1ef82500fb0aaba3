/* The highest of many outputs, without most of them: those that cannot be it are ruled out by a rough product.
 *
 * Not an approximation: what comes out is what `product` and `likeliest` give, bit for bit. The rough product is with the
 * weights in whole numbers of 8 bits, a quarter or half of the bytes, and is wrong by no more than a bound: with w an
 * output's weights, v what the whole numbers stand for, z what x in two parts (level, in products.c) stands for,
 *
 *     |w x - v z| <= |w - v| |x| + |v| |x - z|     (Cauchy and Schwarz)
 *
 * where |x - z| <= sqrt(inputs) * step * 0.5 / 254, step being the highest of |x| / 127; the rest is what sums in fp32
 * lose, at most one part in 2^24 for each of the numbers that are added. Not a number is never ruled out.
 */
#include <math.h>
#include <stdlib.h>

#include "sums.h"
#include "tiles.h"

/* What a row's bound is made of: of `errors`, of `lengths`, and of the rough score itself. */
struct slack {
    float errors, lengths, own;
};

static struct slack slack(const struct screen *c, int64_t row) {
    const int64_t inputs = c->matrix->inputs;
    const double last = 0x1p-24, inexact = (inputs + 64) * last;
    double squares = 0;
    float top = 1e-30f;
    for (int64_t k = 0; k < inputs; k++) {
        float value = c->type == FP32 ? ((const float *)c->x)[row * inputs + k]
                                      : of_bf16(((const uint16_t *)c->x)[row * inputs + k]);
        squares += (double)value * value;
        top = fabsf(value) > top ? fabsf(value) : top;
    }
    const double length = sqrt(squares) * (1 + 1e-6), step = top / 127 * (1 + 1e-6), root = sqrt((double)inputs);
    const double left = root * step * 0.002, levels = length + root * step; /* |x - z|, and |z| in both its parts */
    struct slack found = {
        .errors = (float)((length + left + 16 * last * levels) * (1 + 1e-6)),
        .lengths = (float)((left + 16 * last * levels + inexact * length) * (1 + 1e-6)),
        .own = c->type == FP32 ? 0x1p-20f : 0x1p-7f,
    };
    return found;
}

INLINE __m512 wide(const struct screen *c, const struct slack *s, int64_t k, __mmask16 held, __m512 rough) {
    __m512 bound = _mm512_mul_ps(_mm512_maskz_loadu_ps(held, c->errors + k), _mm512_set1_ps(s->errors));
    bound = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(held, c->lengths + k), _mm512_set1_ps(s->lengths), bound);
    bound = _mm512_fmadd_ps(_mm512_add_ps(_mm512_abs_ps(rough), bound), _mm512_set1_ps(s->own), bound);
    return _mm512_add_ps(bound, _mm512_set1_ps(1e-34f)); /* numbers that bf16 products take for zeros */
}

/* One output, as `product` has it. */
static float exactly(const struct screen *c, int64_t row, int64_t output) {
    const struct matrix *m = c->matrix;
    const int64_t inputs = m->inputs;
    __m512 sum[MOST][8];
    if (m->kind == FP32) {
        sums4((const float *)m->weight + output * inputs, (const float *)c->x + row * inputs, inputs, inputs, 1, 1, sum);
        return _mm512_reduce_add_ps(sum[0][0]);
    }
    const uint16_t *weight = (const uint16_t *)m->weight + output * inputs, *x = (const uint16_t *)c->x + row * inputs;
    if (tiled()) return of_bf16(to_bf16(tiles_one(weight, x, inputs)));
    sums2(weight, x, inputs, inputs, 1, 1, sum);
    return of_bf16(to_bf16(_mm512_reduce_add_ps(sum[0][0])));
}

/* The copy: an output's largest number becomes 127. Lengths are no less than they are: a ten-thousandth more, for what
 * sums in fp32 lose, and what numbers would add whose squares are none in fp32. */
int narrow(const void *with) {
    const struct narrow *c = with;
    const int64_t inputs = c->inputs;
    const float least = 2e-19f * sqrtf((float)inputs);
#pragma omp parallel for
    for (int64_t output = 0; output < c->outputs; output++) {
        const int64_t from = output * inputs;
        __m512 top = _mm512_setzero_ps(), length = top, error = top;
        for (int64_t k = 0; k < inputs; k += 16)
            top = _mm512_max_ps(_mm512_abs_ps(load(c->weight, from + k, inputs - k, c->type)), top);
        const float scale = _mm512_reduce_max_ps(top) / 127, by = scale > 0 ? scale : 1;
        for (int64_t k = 0; k < inputs; k += 16) {
            const __m512 exact = load(c->weight, from + k, inputs - k, c->type);
            const __m512i level = _mm512_cvtps_epi32(_mm512_div_ps(exact, _mm512_set1_ps(by)));
            const __m512 left = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(level), _mm512_set1_ps(scale), exact);
            _mm512_mask_cvtsepi32_storeu_epi8(c->levels + from + k, mask(inputs - k), level);
            length = _mm512_fmadd_ps(exact, exact, length);
            error = _mm512_fmadd_ps(left, left, error);
        }
        c->scale[output] = scale;
        c->lengths[output] = sqrtf(_mm512_reduce_add_ps(length)) * (1 + 1e-4f) + least;
        c->errors[output] = sqrtf(_mm512_reduce_add_ps(error)) * (1 + 1e-4f) + least;
    }
    return 0;
}

/* Where each row's highest output is, the first of them, and what it is; 0 and -infinity in a row of NaN. */
int screen(const void *with) {
    const struct screen *c = with;
    const int64_t outputs = c->matrix->outputs;
    int32_t *chosen = malloc(outputs * (sizeof *chosen + sizeof(float)));
    if (!chosen) return -1;
    float *exact = (float *)(chosen + outputs);
    *c->looked = 0;
    for (int64_t row = 0; row < c->rows; row++) {
        const float *rough = c->rough + row * outputs;
        const struct slack s = slack(c, row);
        __m512 lowest = _mm512_set1_ps(-INFINITY);
        for (int64_t k = 0; k < outputs; k += 16) {
            const __mmask16 held = mask(outputs - k);
            const __m512 about = _mm512_maskz_loadu_ps(held, rough + k);
            const __m512 least = _mm512_sub_ps(about, wide(c, &s, k, held, about));
            lowest = _mm512_mask_max_ps(lowest, held, least, lowest); /* the second one, where the first is NaN */
        }
        const __m512 low = _mm512_set1_ps(_mm512_reduce_max_ps(lowest));
        int64_t count = 0;
        for (int64_t k = 0; k < outputs; k += 16) {
            const __mmask16 held = mask(outputs - k);
            const __m512 about = _mm512_maskz_loadu_ps(held, rough + k);
            const __m512 most = _mm512_add_ps(about, wide(c, &s, k, held, about));
            __mmask16 able = _mm512_mask_cmp_ps_mask(held, most, low, _CMP_NLT_UQ);
            for (; able; able &= able - 1) chosen[count++] = (int32_t)(k + __builtin_ctz(able));
        }
        EACH(i, count, c->matrix->inputs, 1 << 16, exact[i] = exactly(c, row, chosen[i]))
        float best = -INFINITY;
        int64_t place = -1;
        for (int64_t i = 0; i < count; i++)
            if (exact[i] > best || (place < 0 && exact[i] == best)) best = exact[i], place = chosen[i];
        c->scores[row] = best;
        c->places[row] = place < 0 ? 0 : place;
        *c->looked += count;
    }
    free(chosen);
    return 0;
}

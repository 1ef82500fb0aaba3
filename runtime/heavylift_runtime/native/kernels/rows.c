/* What happens to rows between products: norm, activation, the cache's new places, attention of one token each.
 *
 * Not attention of a prompt, whose tokens attend together. A row's result never depends on the rows beside it.
 */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

/* (x - mean) / sqrt(mean((x - mean)²) + epsilon) * weight + bias; without a bias, as if the mean were 0 */
static inline __attribute__((always_inline)) void normed(const struct norm *c, int64_t at, int64_t by, int type) {
    const int64_t width = c->width;
    __m512 mean = _mm512_setzero_ps(), sum = mean;
    if (c->bias) {
        for (int64_t k = 0; k < width; k += 16) mean = _mm512_add_ps(mean, load(c->x, at + k, width - k, type));
        mean = _mm512_set1_ps(_mm512_reduce_add_ps(mean) / (float)width);
    }
    for (int64_t k = 0; k < width; k += 16) {
        __m512 part = _mm512_maskz_sub_ps(mask(width - k), load(c->x, at + k, width - k, type), mean);
        sum = _mm512_fmadd_ps(part, part, sum);
    }
    __m512 scale = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(sum) / (float)width + c->epsilon));
    for (int64_t k = 0; k < width; k += 16) {
        const int64_t left = width - k;
        __m512 part = _mm512_mul_ps(_mm512_sub_ps(load(c->x, at + k, left, type), mean), scale);
        part = _mm512_mul_ps(part, load(c->weight, by + k, left, type));
        if (c->bias) part = _mm512_add_ps(part, load(c->bias, by + k, left, type));
        store(c->y, at + k, left, type, part);
    }
}

static void norm_row(const struct norm *c, int64_t row) {
    for (int64_t head = 0; head < c->heads; head++)
        if (c->type == FP32)
            normed(c, row * c->pitch + head * c->width, head * c->width, FP32);
        else
            normed(c, row * c->pitch + head * c->width, head * c->width, BF16);
}

int norm(const void *with) {
    const struct norm *c = with;
    EACH(row, c->rows, c->heads * c->width, 1 << 15, norm_row(c, row))
    return 0;
}

/* Where each row's highest number is, the first of them; 0 in a row of NaN */
static void likeliest_of(const struct likeliest *c, int64_t row) {
    const void *scores = c->scores;
    const int64_t count = c->count;
    const int type = c->type;
    __m512 top = _mm512_set1_ps(-INFINITY);
    for (int64_t k = 0; k < count; k += 16) {
        __m512 part = load(scores, row * count + k, count - k, type);
        top = _mm512_mask_max_ps(top, mask(count - k), part, top); /* the second one, where the first is NaN */
    }
    top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    c->places[row] = 0;
    for (int64_t k = 0; k < count; k += 16) {
        __m512 part = load(scores, row * count + k, count - k, type);
        __mmask16 found = _mm512_mask_cmp_ps_mask(mask(count - k), part, top, _CMP_EQ_OQ);
        if (found) {
            c->places[row] = k + __builtin_ctz(found);
            break;
        }
    }
}

int likeliest(const void *with) {
    const struct likeliest *c = with;
    EACH(row, c->rows, c->count, 1 << 17, likeliest_of(c, row))
    return 0;
}

/* Turns the first `turned` numbers of heads (rows, heads, width), rows `pitch` numbers apart, in place, by cosines and
 * signed sines: each number with its partner. */
int turn(const void *with) {
    const struct turn *c = with;
    void *numbers = c->numbers;
    const void *cosines = c->angles->cosines, *sines = c->angles->sines;
    const int64_t half = c->turned / 2;
    const int type = c->type;
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t head = 0; head < c->heads; head++) {
            const int64_t at = row * c->pitch + head * c->width, angles = c->angles->positions[row] * c->turned;
            for (int64_t k = 0; c->paired && k < c->turned; k += 16) {
                const int64_t left = c->turned - k;
                __m512 a = load(numbers, at + k, left, type), b = _mm512_permute_ps(a, 0xb1);
                __m512 cosine = load(cosines, angles + k, left, type), sine = load(sines, angles + k, left, type);
                store(numbers, at + k, left, type, _mm512_fmadd_ps(a, cosine, _mm512_mul_ps(b, sine)));
            }
            for (int64_t k = 0; !c->paired && k < half; k += 16) {
                const int64_t low = at + k, high = low + half, angle = angles + k;
                __m512 a = load(numbers, low, half - k, type), b = load(numbers, high, half - k, type);
                __m512 cosine = load(cosines, angle, half - k, type), sine = load(sines, angle, half - k, type);
                __m512 other_cosine = load(cosines, angle + half, half - k, type);
                __m512 other_sine = load(sines, angle + half, half - k, type);
                store(numbers, low, half - k, type, _mm512_fmadd_ps(a, cosine, _mm512_mul_ps(b, sine)));
                store(numbers, high, half - k, type, _mm512_fmadd_ps(b, other_cosine, _mm512_mul_ps(a, other_sine)));
            }
        }
    return 0;
}

/* Each row of `left`, and that of `right` behind it */
int beside(const void *with) {
    const struct beside *c = with;
    for (int64_t row = 0; row < c->rows; row++) {
        char *y = c->y + row * (c->left_width + c->right_width);
        memcpy(y, c->left + row * c->left_width, c->left_width);
        memcpy(y + c->left_width, c->right + row * c->right_width, c->right_width);
    }
    return 0;
}

/* Keys and values of a token of each row to their places in the cache */
int put(const void *with) {
    const struct put *c = with;
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t head = 0; head < 2 * c->heads; head++) {
            const int64_t slot = c->first + row % c->each + head / c->heads * c->slots;
            const int64_t place = (slot * c->heads + head % c->heads) * c->room + c->positions[row];
            memcpy(c->cache + place * c->width, c->pairs + row * c->pitch + head * c->width, c->width);
        }
    return 0;
}

/* e^x, 0 from -110 down and infinite from 110 up: 2^n times a polynomial on the rest (the coefficients of Cephes' expf, Moshier) */
static inline __m512 power(__m512 x) {
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-110)), _mm512_set1_ps(110));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 8);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_fmadd_ps(_mm512_mul_ps(y, x), x, _mm512_add_ps(x, _mm512_set1_ps(1)));
    return _mm512_scalef_ps(y, n);
}

/* a sigmoid(slope (a + cubic a³)): silu, and GELU's tanh form (Hendrycks and Gimpel 2016) */
static inline __m512 bent(__m512 a, float slope, float cubic) {
    const __m512 one = _mm512_set1_ps(1);
    __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_mul_ps(a, _mm512_set1_ps(cubic)), a), a, a);
    return _mm512_mul_ps(a, _mm512_div_ps(one, _mm512_add_ps(one, power(_mm512_mul_ps(inner, _mm512_set1_ps(-slope))))));
}

/* a (1 + erf(a / sqrt(2))) / 2, erf by Abramowitz and Stegun 7.1.26: wrong by 1.5e-7 at most */
static inline __m512 gelu(__m512 a) {
    const __m512 one = _mm512_set1_ps(1), z = _mm512_mul_ps(_mm512_abs_ps(a), _mm512_set1_ps(0.70710678118654752f));
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    __m512 y = _mm512_fmadd_ps(t, _mm512_set1_ps(1.061405429f), _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    y = _mm512_mul_ps(_mm512_mul_ps(y, t), power(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z))));
    const __m512 under = _mm512_mul_ps(y, _mm512_set1_ps(0.5f)); /* the share of a normal distribution below -|a| */
    const __mmask16 below = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(a, _mm512_mask_blend_ps(below, _mm512_sub_ps(one, under), under));
}

/* The activation of each number; gated, of the first half of each row, times the second. */
static void bend_row(const struct bend *c, int64_t row) {
    const int64_t width = c->width, pitch = c->gated ? 2 * width : width;
    for (int64_t k = 0; k < width; k += 16) {
        const int64_t left = width - k;
        __m512 a = load(c->inner, row * pitch + k, left, c->type);
        switch (c->how) {
        case RELU: a = _mm512_max_ps(_mm512_setzero_ps(), a); break; /* the second one, where it is NaN */
        case GELU: a = gelu(a); break;
        case GELU_TANH: a = bent(a, 1.5957691216057308f, 0.044715f); break; /* 2 sqrt(2 / pi) */
        case SILU: a = bent(a, 1, 0); break;
        case GELU_QUICK: a = bent(a, 1.702f, 0); break;
        default: a = _mm512_max_ps(_mm512_setzero_ps(), a), a = _mm512_mul_ps(a, a);
        }
        if (c->gated) a = _mm512_mul_ps(a, load(c->inner, row * pitch + width + k, left, c->type));
        store(c->y, row * width + k, left, c->type, a);
    }
}

int bend(const void *with) {
    const struct bend *c = with;
    EACH(row, c->rows, c->width, 1 << 15, bend_row(c, row))
    return 0;
}

/* One query of `width` numbers over `span` places; `scores`: room for span + 15 numbers. Usual widths and both types are
 * constants, so that nothing is asked for each place. */
static inline __attribute__((always_inline)) void look(const struct attend *l, int64_t row, int64_t head,
                                                       float *scores, int64_t width, int type) {
    const int64_t span = l->seen->span, pair = row * l->pairs + head / l->groups;
    const int64_t query = row * l->query_pitch + head * width, keys = pair * l->key_pitch, values = pair * l->value_pitch;
    const int64_t *positions = l->seen->positions;
    const int64_t before = positions ? head / l->groups * l->seen->pitch - positions[row] : pair * l->seen->pitch;
    const int64_t biases = before + head % l->groups * l->seen->step;
    const int64_t out = (row * l->pairs * l->groups + head) * width;
    __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t t = 0; t < span; t++) {
        __m512 dot = _mm512_setzero_ps();
        _Pragma("GCC unroll 8") for (int64_t k = 0; k < width; k += 16)
            dot = _mm512_fmadd_ps(load(l->query, query + k, width - k, type),
                                  load(l->keys, keys + t * width + k, width - k, type), dot);
        scores[t] = _mm512_reduce_add_ps(dot);
    }
    for (int64_t t = 0; t < span; t += 16) {
        __m512 bias = load(l->seen->bias, biases + t, span - t, type);
        __m512 score = _mm512_fmadd_ps(_mm512_loadu_ps(scores + t), _mm512_set1_ps(l->scale), bias);
        score = _mm512_mask_blend_ps(mask(span - t), _mm512_set1_ps(-INFINITY), score);
        _mm512_storeu_ps(scores + t, score);
        top = _mm512_max_ps(top, score);
    }
    top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int64_t t = 0; t < span; t += 16) {
        __m512 share = power(_mm512_sub_ps(_mm512_loadu_ps(scores + t), top));
        _mm512_storeu_ps(scores + t, share);
        sum = _mm512_add_ps(sum, share);
    }
    __m512 whole = _mm512_set1_ps(1 / _mm512_reduce_add_ps(sum));
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < width; k += 64) { /* four registers of the mixture at once */
        int64_t left = width - k;
        __m512 mixed[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t t = 0; t < span; t++) {
            __m512 share = _mm512_set1_ps(scores[t]);
            _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)
                if (left > 16 * i)
                    mixed[i] = _mm512_fmadd_ps(
                        share, load(l->values, values + t * width + k + 16 * i, left - 16 * i, type), mixed[i]);
        }
        for (int i = 0; i < 4; i++)
            if (left > 16 * i) store(l->mixed, out + k + 16 * i, left - 16 * i, type, _mm512_mul_ps(mixed[i], whole));
    }
}

static void attend_one(const struct attend *c, int64_t one, float *scores) {
    const int64_t heads = c->pairs * c->groups, row = one / heads, head = one % heads;
    if (c->width == 64 && c->type == FP32)
        look(c, row, head, scores, 64, FP32);
    else if (c->width == 64)
        look(c, row, head, scores, 64, BF16);
    else if (c->width == 128 && c->type == FP32)
        look(c, row, head, scores, 128, FP32);
    else if (c->width == 128)
        look(c, row, head, scores, 128, BF16);
    else
        look(c, row, head, scores, c->width, c->type);
}

/* softmax(scale q k + bias) v for each query */
int attend(const void *with) {
    const struct attend *c = with;
    const int64_t count = c->rows * c->pairs * c->groups, room = (c->seen->span + 31) / 16 * 16;
    float *scores = malloc(omp_get_max_threads() * room * sizeof *scores);
    if (!scores) return -1;
    EACH(one, count, c->seen->span * c->width, 1 << 14, attend_one(c, one, scores + omp_get_thread_num() * room))
    free(scores);
    return 0;
}

/* Calls one after another; how many of them were made before one found no memory. */
int64_t run(const struct call *calls, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (calls[i].kernel(calls[i].with)) return i;
    return count;
}

/* y = x W' + bias + base in tiles: 16 outputs by 16 rows of x for each instruction, a sixteenth of the time of AVX-512's.
 *
 * Not another form of W: its tile is 16 lines of a checkpoint's own numbers, one of each output, and so the tile of
 * products has an output in each line. What is made ready is x, which is small. A number of y is summed in the same order
 * whatever the rows beside it, one line of W after the other (Intel's Instruction Set Reference, TDPBF16PS); that is not
 * the order of products.c, so that a process has its bf16 products in tiles or not, always.
 */
#define _GNU_SOURCE
#include "tiles.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sums.h"

#define MAY 0x1023 /* ARCH_REQ_XCOMP_PERM of arch_prctl(2): the kernel keeps no tiles for who has not asked */
#define DATA 18    /* XFEATURE_XTILEDATA */

int32_t tiles_state = -1; /* 1: they are used, 0: they are not, -1: nobody has asked yet */

int32_t tiled(void) {
    if (tiles_state < 0) {
        unsigned a, b, c, d = 0;
        const unsigned all = 1u << 22 | 1u << 24 | 1u << 25; /* AMX-BF16, AMX-TILE, AMX-INT8 */
        const int has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & all) == all;
        tiles_state = has && syscall(SYS_arch_prctl, MAY, DATA) == 0;
    }
    return tiles_state;
}

/* LDTILECFG's 64 bytes. */
struct shapes {
    uint8_t palette, start, zeros[14];
    uint16_t widths[16]; /* in bytes */
    uint8_t heights[16];
};

/* Tiles 0 and 1 are the products of 4 with 6 and 7, 2 and 3 those of 5. */
INLINE void shape(int64_t outputs, int64_t wide) {
    const int64_t first = outputs < TILE ? outputs : TILE, second = outputs - first;
    const uint16_t width = 4 * wide, other = second ? width : 0; /* a tile without lines must have no width either */
    const struct shapes shapes = {
        .palette = 1,
        .widths = {width, width, other, other, 64, second ? 64 : 0, width, width},
        .heights = {first, first, second, second, first, second, TILE, TILE},
    };
    _tile_loadconfig(&shapes);
}

struct tiles tiles_of(int64_t rows, int parts, int64_t bytes) {
    const int64_t blocks = (rows + TILE - 1) / TILE, each = (rows + blocks - 1) / blocks;
    return (struct tiles){0, rows, blocks, (each + parts - 1) / parts * parts, (bytes + 63) / 64};
}

int64_t tiles_size(const struct tiles *tiles) { return tiles->blocks * tiles->lines * tiles->wide * 64; }

/* The 4 bytes of 16 lines: those of line i at i become those of i in each. */
INLINE void turned(__m512i line[TILE]) {
    __m512i half[TILE];
    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(line[i], line[i + 1]), b = _mm512_unpackhi_epi32(line[i], line[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(line[i + 2], line[i + 3]), d = _mm512_unpackhi_epi32(line[i + 2], line[i + 3]);
        half[i] = _mm512_unpacklo_epi64(a, c), half[i + 1] = _mm512_unpackhi_epi64(a, c);
        half[i + 2] = _mm512_unpacklo_epi64(b, d), half[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(half[i], half[i + 4], 0x88), b = _mm512_shuffle_i32x4(half[i], half[i + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(half[i + 8], half[i + 12], 0x88);
        __m512i d = _mm512_shuffle_i32x4(half[i + 8], half[i + 12], 0xdd);
        line[i] = _mm512_shuffle_i32x4(a, c, 0x88), line[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        line[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88), line[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

INLINE __mmask64 bytes_of(int64_t left) { return left >= 64 ? ~0ull : left <= 0 ? 0 : (1ull << left) - 1; }

void tiles_fill(const struct tiles *tiles, int64_t block, const void *x, int64_t pitch, int64_t bytes) {
    const int64_t wide = tiles->wide, first = block * wide, left = tiles->rows - first;
    const int64_t count = left < wide ? left : wide;
    char *into = tiles->numbers + block * tiles->lines * wide * 64;
    for (int64_t k = 0; k < tiles->lines; k++, into += wide * 64) {
        const char *from = (const char *)x + first * pitch + k * 64;
        const __mmask64 held = bytes_of(bytes - k * 64);
        if (wide == 1) {
            _mm512_storeu_si512(into, _mm512_maskz_loadu_epi8(held, from));
            continue;
        }
        __m512i line[TILE];
        for (int i = 0; i < TILE; i++)
            line[i] = i < count ? _mm512_maskz_loadu_epi8(held, from + i * pitch) : _mm512_setzero_si512();
        turned(line);
        for (int i = 0; i < TILE; i++) _mm512_mask_storeu_epi32(into + i * 4 * wide, mask(wide), line[i]);
    }
}

#define MULTIPLY(kind, y, w, x)                                                                                        \
    if ((kind) == BF16)                                                                                                \
        _tile_dpbf16ps(y, w, x);                                                                                       \
    else                                                                                                               \
        _tile_dpbsud(y, w, x);

/* Sums of two tiles of outputs, or one, with two of rows, or one. `rest`: the outputs' last lines, if they end in the
 * middle. The next outputs are fetched meanwhile, in one line. */
#define SOON 8 /* lines */

INLINE void walk(const char *w, int64_t pitch, int64_t whole, const char *rest, const char *x, int64_t next, int64_t width,
                 int first, int kind, int two, int both) {
    if (first)
        for (int k = 0; k < SOON; k++)
            for (int i = 0; i < (two ? 2 * TILE : TILE); i++) _mm_prefetch(w + k * 64 + i * pitch, _MM_HINT_T0);
    _tile_zero(0);
    if (both) _tile_zero(1);
    if (two) _tile_zero(2);
    if (two && both) _tile_zero(3);
    for (int64_t k = 0; k <= whole; k++) {
        if (k == whole && !rest) break;
        const char *at = k < whole ? w + k * 64 : rest, *numbers = x + k * TILE * width;
        const int64_t step = k < whole ? pitch : 64;
        _tile_loadd(6, numbers, width);
        _tile_loadd(4, at, step);
        MULTIPLY(kind, 0, 4, 6)
        if (both) {
            _tile_loadd(7, numbers + next, width);
            MULTIPLY(kind, 1, 4, 7)
        }
        if (two) {
            _tile_loadd(5, at + TILE * step, step);
            MULTIPLY(kind, 2, 5, 6)
            if (both) {
                MULTIPLY(kind, 3, 5, 7)
            }
        }
        if (first)
            for (int i = 0; i < (two ? 2 * TILE : TILE); i++) _mm_prefetch(at + SOON * 64 + i * step, _MM_HINT_T0);
    }
}

/* What y gets of one tile of sums, (16, wide): outputs from `output` on, the rows of a block. */
INLINE void give(const struct matrix *m, const struct factor *x, const struct tiles *tiles, const int32_t *sums,
                 int64_t output, int64_t block) {
    const int64_t wide = tiles->wide, first = block * wide, left = m->outputs - output;
    const int64_t count = tiles->rows - first < wide ? tiles->rows - first : wide;
    const int parts = m->kind == INT8 ? m->parts : 1;
    __m512i line[TILE];
    if (wide == 1)
        line[0] = _mm512_loadu_si512(sums);
    else {
        for (int i = 0; i < TILE; i++) line[i] = _mm512_maskz_loadu_epi32(mask(wide), sums + i * wide);
        turned(line);
    }
    for (int64_t r = 0; r < count; r += parts) {
        const int64_t row = (first + r) / parts, place = row * m->outputs + output;
        __m512 values = _mm512_castsi512_ps(line[r]);
        if (m->kind == INT8) { /* as in products.c: a level of x has 128 more than it stands for */
            const __m512i extra = _mm512_slli_epi32(_mm512_maskz_loadu_epi32(mask(left), m->sums + output), 7);
            values = _mm512_cvtepi32_ps(_mm512_sub_epi32(line[r], extra));
            if (parts == 2) {
                const __m512 fine = _mm512_cvtepi32_ps(_mm512_sub_epi32(line[r + 1], extra));
                values = _mm512_add_ps(values, _mm512_mul_ps(fine, _mm512_set1_ps(1.0f / FINER)));
            }
            const __m512 scale = _mm512_maskz_loadu_ps(mask(left), m->scale + output);
            values = _mm512_mul_ps(_mm512_mul_ps(values, _mm512_set1_ps(x->tops[row])), scale);
        }
        if (m->bias) values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(mask(left), m->bias + output));
        if (x->base) values = _mm512_add_ps(values, load(x->base, place, left, x->type));
        store(x->y, place, left, x->type, values);
    }
}

/* The last bytes of each output, where they are no whole line, in lines of their own. */
INLINE const char *rest_of(const char *w, int64_t pitch, int64_t outputs, int64_t whole, char *into) {
    if (pitch == whole * 64) return 0;
    for (int64_t i = 0; i < outputs; i++)
        _mm512_storeu_si512(into + i * 64, _mm512_maskz_loadu_epi8(bytes_of(pitch - whole * 64), w + i * pitch + whole * 64));
    return into;
}

INLINE void outputs(const struct matrix *m, const struct factor *x, const struct tiles *tiles, int64_t first, int kind) {
    const int64_t pitch = m->inputs * (kind == BF16 ? 2 : 1), whole = pitch / 64, width = 4 * tiles->wide;
    const int64_t count = m->outputs - first < AT_ONCE ? m->outputs - first : AT_ONCE, step = tiles->lines * TILE * width;
    const char *w = (const char *)m->weight + first * pitch;
    char last[AT_ONCE * 64];
    int32_t sums[4][TILE * TILE];
    const char *rest = rest_of(w, pitch, count, whole, last);
    shape(count, tiles->wide);
    for (int64_t block = 0; block < tiles->blocks; block += 2) {
        const char *numbers = tiles->numbers + block * step;
        const int both = block + 1 < tiles->blocks, two = count > TILE;
        if (both && two)
            walk(w, pitch, whole, rest, numbers, step, width, block == 0, kind, 1, 1);
        else if (two)
            walk(w, pitch, whole, rest, numbers, step, width, block == 0, kind, 1, 0);
        else if (both)
            walk(w, pitch, whole, rest, numbers, step, width, block == 0, kind, 0, 1);
        else
            walk(w, pitch, whole, rest, numbers, step, width, block == 0, kind, 0, 0);
        _tile_stored(0, sums[0], width);
        if (both) _tile_stored(1, sums[1], width);
        if (two) _tile_stored(2, sums[2], width);
        if (both && two) _tile_stored(3, sums[3], width);
        for (int i = 0; i < 4; i++)
            if ((both || i % 2 == 0) && (two || i < 2)) give(m, x, tiles, sums[i], first + i / 2 * TILE, block + i % 2);
    }
    _tile_release();
}

void tiles_product(const struct matrix *m, const struct factor *x, const struct tiles *tiles, int64_t first) {
    if (m->kind == BF16)
        outputs(m, x, tiles, first, BF16);
    else
        outputs(m, x, tiles, first, INT8);
}

float tiles_one(const uint16_t *weight, const uint16_t *x, int64_t inputs) {
    const int64_t pitch = 2 * inputs, whole = pitch / 64;
    char last[64], ends[64];
    float sum = 0;
    const char *rest = rest_of((const char *)weight, pitch, 1, whole, last);
    shape(1, 1);
    walk((const char *)weight, pitch, whole, 0, (const char *)x, 0, 4, 0, BF16, 0, 0);
    if (rest) {
        rest_of((const char *)x, pitch, 1, whole, ends);
        _tile_loadd(6, ends, 4);
        _tile_loadd(4, rest, 64);
        _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, &sum, 4);
    _tile_release();
    return sum;
}

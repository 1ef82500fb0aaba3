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

#ifdef __AMX_TILE__ /* else the compiler knows none (library.py) */

#define MAY 0x1023 /* ARCH_REQ_XCOMP_PERM of arch_prctl(2): the kernel keeps no tiles for who has not asked */
#define DATA 18    /* XFEATURE_XTILEDATA */

int32_t tiles_state = -1; /* 1: they are used, 0: they are not (a test's word), -1: nobody has asked yet */

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

#define SOON 8 /* lines that are fetched before they are needed */

/* The factors of two tiles of outputs, or one, and two of rows, or one. */
struct walk {
    const char *w, *x, *next;  /* next: the second rows */
    const char *w_end, *x_end; /* the last lines, filled up with zeros, if the outputs or the row end in the middle */
    int64_t pitch, width, lines;
    int fetch; /* whether w may be far away */
};

/* Their products' sums, in the same order. */
INLINE void walk(const struct walk *c, int32_t sums[4][TILE * TILE], int kind, int two, int both) {
    const int outputs = two ? 2 * TILE : TILE;
    _tile_zero(0);
    if (both) _tile_zero(1);
    if (two) _tile_zero(2);
    if (two && both) _tile_zero(3);
    for (int k = 0; c->fetch && k < SOON; k++)
        for (int i = 0; i < outputs; i++) _mm_prefetch(c->w + k * 64 + i * c->pitch, _MM_HINT_T0);
    for (int64_t k = 0; k < c->lines; k++) {
        const int ends = k + 1 == c->lines;
        const char *at = ends && c->w_end ? c->w_end : c->w + k * 64;
        const int64_t step = ends && c->w_end ? 64 : c->pitch, place = k * TILE * c->width;
        _tile_loadd(6, ends && c->x_end ? c->x_end : c->x + place, c->width);
        _tile_loadd(4, at, step);
        MULTIPLY(kind, 0, 4, 6)
        if (both) {
            _tile_loadd(7, c->next + place, c->width);
            MULTIPLY(kind, 1, 4, 7)
        }
        if (two) {
            _tile_loadd(5, at + TILE * step, step);
            MULTIPLY(kind, 2, 5, 6)
            if (both) {
                MULTIPLY(kind, 3, 5, 7)
            }
        }
        for (int i = 0; c->fetch && i < outputs; i++) _mm_prefetch(at + SOON * 64 + i * step, _MM_HINT_T0);
    }
    _tile_stored(0, sums[0], c->width);
    if (both) _tile_stored(1, sums[1], c->width);
    if (two) _tile_stored(2, sums[2], c->width);
    if (two && both) _tile_stored(3, sums[3], c->width);
}

/* A tile's sums, (16, wide), a row of x in each line. */
INLINE void by_row(const int32_t *sums, int64_t wide, __m512i line[TILE]) {
    if (wide == 1) {
        line[0] = _mm512_loadu_si512(sums);
        return;
    }
    for (int i = 0; i < TILE; i++) line[i] = _mm512_maskz_loadu_epi32(mask(wide), sums + i * wide);
    turned(line);
}

/* What 16 sums of a row stand for, from `output` on, and the bias; as in products.c. */
INLINE __m512 worth(const struct matrix *m, const struct factor *x, const __m512i *sums, int64_t row, int64_t output,
                    __mmask16 held, int kind) {
    __m512 values = _mm512_castsi512_ps(sums[0]);
    if (kind == INT8) { /* a level of x has 128 more than it stands for */
        const __m512i extra = _mm512_slli_epi32(_mm512_maskz_loadu_epi32(held, m->sums + output), 7);
        values = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[0], extra));
        if (m->parts == 2) {
            const __m512 fine = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[1], extra));
            values = _mm512_add_ps(values, _mm512_mul_ps(fine, _mm512_set1_ps(1.0f / FINER)));
        }
        const __m512 scale = _mm512_maskz_loadu_ps(held, m->scale + output);
        values = _mm512_mul_ps(_mm512_mul_ps(values, _mm512_set1_ps(x->tops[row])), scale);
    }
    return m->bias ? _mm512_add_ps(values, _mm512_maskz_loadu_ps(held, m->bias + output)) : values;
}

/* What y gets of a block's sums: outputs from `output` on, 32 of a row at once, which are a whole line in bf16. */
INLINE void give(const struct matrix *m, const struct factor *x, const struct tiles *tiles,
                 int32_t sums[][TILE * TILE], int64_t output, int64_t block, int kind, int two) {
    const int64_t wide = tiles->wide, first = block * wide, left = m->outputs - output;
    const int64_t count = tiles->rows - first < wide ? tiles->rows - first : wide;
    const int parts = m->parts;
    const __mmask16 held = mask(left), more = two ? mask(left - TILE) : 0;
    __m512i line[TILE], other[TILE];
    by_row(sums[0], wide, line);
    if (two) by_row(sums[2], wide, other);
    for (int64_t r = 0; r < count; r += parts) {
        const int64_t row = (first + r) / parts, place = row * m->outputs + output;
        __m512 low = worth(m, x, line + r, row, output, held, kind);
        __m512 high = two ? worth(m, x, other + r, row, output + TILE, more, kind) : low;
        if (x->base) {
            low = _mm512_add_ps(low, load(x->base, place, left, x->type));
            if (two) high = _mm512_add_ps(high, load(x->base, place + TILE, left - TILE, x->type));
        }
        if (x->type == BF16) {
            const __mmask32 both = (__mmask32)more << 16 | held;
            _mm512_mask_storeu_epi16((uint16_t *)x->y + place, both, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            continue;
        }
        store(x->y, place, left, FP32, low);
        if (two) store(x->y, place + TILE, left - TILE, FP32, high);
    }
}

/* The last bytes of each of some lines' ends, if these are no whole 64, in lines of their own. */
INLINE const char *ends(const void *from, int64_t pitch, int64_t count, char *into) {
    const int64_t left = pitch % 64;
    if (left == 0) return 0;
    for (int64_t i = 0; i < count; i++) {
        const char *at = (const char *)from + (i + 1) * pitch - left;
        _mm512_storeu_si512(into + i * 64, _mm512_maskz_loadu_epi8(bytes_of(left), at));
    }
    return into;
}

INLINE void outputs(const struct matrix *m, const struct factor *x, const struct tiles *tiles, int64_t first, int kind) {
    const int64_t pitch = m->inputs * (kind == BF16 ? 2 : 1), size = tiles->lines * TILE * 4 * tiles->wide;
    const int64_t count = m->outputs - first < AT_ONCE ? m->outputs - first : AT_ONCE;
    const int two = count > TILE;
    char last[AT_ONCE * 64];
    int32_t sums[4][TILE * TILE];
    struct walk c = {.w = (const char *)m->weight + first * pitch, .pitch = pitch, .width = 4 * tiles->wide};
    c.w_end = ends(c.w, pitch, count, last), c.lines = tiles->lines;
    shape(count, tiles->wide);
    for (int64_t block = 0; block < tiles->blocks; block += 2) {
        const int both = block + 1 < tiles->blocks;
        c.x = tiles->numbers + block * size, c.next = c.x + size, c.fetch = block == 0;
        if (two && both)
            walk(&c, sums, kind, 1, 1);
        else if (two)
            walk(&c, sums, kind, 1, 0);
        else if (both)
            walk(&c, sums, kind, 0, 1);
        else
            walk(&c, sums, kind, 0, 0);
        for (int i = 0; i <= both; i++)
            if (two)
                give(m, x, tiles, sums + i, first, block + i, kind, 1);
            else
                give(m, x, tiles, sums + i, first, block + i, kind, 0);
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
    char last[2][64];
    int32_t sums[4][TILE * TILE];
    struct walk c = {.w = (const char *)weight, .x = (const char *)x, .pitch = 2 * inputs, .width = 4};
    c.w_end = ends(weight, c.pitch, 1, last[0]), c.x_end = ends(x, c.pitch, 1, last[1]), c.lines = (c.pitch + 63) / 64;
    shape(1, 1);
    walk(&c, sums, BF16, 0, 0);
    _tile_release();
    return _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_loadu_si512(sums[0])));
}

#endif

/* Every kernel on odd shapes, each array in a block of its own size, for a compiler that watches every access.
 *
 * Not a test of numbers (test_kernels.py, test_screened.py): what is proved is that nothing outside is touched.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

int product(const void *), norm(const void *), bend(const void *), turn(const void *), beside(const void *),
    put(const void *), attend(const void *), likeliest(const void *), screen(const void *);
int64_t run(const struct call *, int64_t);

#ifdef __AMX_TILE__
extern int32_t tiles_state;
#else
static int32_t tiles_state;
#endif

static uint32_t state = 1;
static int64_t some(int64_t most) { return 1 + (state = state * 1664525 + 1013904223) / 65536 % most; }

static void *room(int64_t bytes, int what) { /* what: 0 small numbers, 1 of any bits, among them NaN and infinity */
    unsigned char *at = malloc(bytes ? bytes : 1);
    for (int64_t k = 0; k < bytes; k++) at[k] = what ? (unsigned char)some(256) : 0;
    return at;
}

static int64_t size(int type) { return type == FP32 ? 4 : type == BF16 ? 2 : 1; }

static void products(int any) {
    for (int i = 0; i < 120; i++) {
        int kind = i % 3, type = kind == INT8 ? i / 3 % 2 : kind, parts = kind == INT8 ? 1 + i / 6 % 2 : 1;
        int64_t rows = some(20), outputs = some(50), inputs = some(200);
        void *w = room(outputs * inputs * size(kind), any), *x = room(rows * inputs * size(type), any);
        float *scale = room(outputs * 4, 0), *bias = room(outputs * 4, any);
        int32_t *sums = room(outputs * 4, 0);
        void *base = room(rows * outputs * size(type), any), *y = room(rows * outputs * size(type), 0);
        struct matrix m = {w, scale, sums, i & 8 ? bias : 0, outputs, inputs, kind, parts};
        struct product p = {&m, x, i & 16 ? base : 0, y, rows, type};
        struct call call = {product, &p};
        if (run(&call, 1) != 1) exit(1);
        if (kind != INT8) {
            float *rough = room(rows * outputs * 4, any), *lengths = room(outputs * 4, any), *errors = room(outputs * 4, any);
            float *scores = room(rows * 4, 0);
            int64_t *places = room(rows * 8, 0), looked;
            struct screen s = {&m, rough, lengths, errors, x, scores, places, &looked, rows, type};
            if (screen(&s)) exit(1);
            struct likeliest l = {y, places, rows, outputs, type};
            likeliest(&l);
            free(rough), free(lengths), free(errors), free(scores), free(places);
        }
        free(w), free(x), free(scale), free(bias), free(sums), free(base), free(y);
    }
}

static void rows(int any) {
    for (int i = 0; i < 60; i++) {
        int type = i % 2;
        int64_t count = some(5), width = i % 5 ? some(150) : i % 2 ? 64 : 128, item = size(type);
        void *x = room(count * width * item, any), *weight = room(width * item, any), *y = room(count * width * item, 0);
        struct norm n = {x, weight, i & 2 ? weight : 0, y, count, 1, width, width, 1e-6f, type};
        norm(&n);
        void *inner = room(2 * count * width * item, any);
        struct bend g = {inner, y, count, width, i % 6, 1, type}, h = {x, y, count, width, i % 6, 0, type};
        bend(&g), bend(&h);
        void *both = room(3 * count * width * item, 0);
        struct beside b = {inner, x, both, count, 2 * width * item, width * item};
        beside(&b);
        free(both);
        int64_t heads = some(4), half = some(40), wide = 2 * half + some(9) - 1, turned = 2 * half;
        void *numbers = room(count * heads * wide * item, any);
        int64_t known = some(9), *positions = room(count * 8, 0);
        for (int64_t k = 0; k < count; k++) positions[k] = some(known) - 1;
        void *cosines = room(known * turned * item, any), *sines = room(known * turned * item, any);
        struct angles angles = {cosines, sines, positions};
        struct turn t = {numbers, &angles, count, heads, heads * wide, wide, turned, i & 2, type};
        turn(&t);
        void *by = room(heads * wide * item, any);
        struct norm each = {numbers, by, 0, numbers, count, heads, wide, heads * wide, 1e-6f, type};
        norm(&each);
        free(by);
        int64_t slots = count + some(3);
        void *kept = room(count * 2 * heads * wide * item, any), *cache = room(2 * slots * heads * known * wide * item, 0);
        struct put p = {positions, kept, cache, count, i & 2 ? count : 1, slots - count, slots,
                        heads, known, 2 * heads * wide * item, wide * item};
        put(&p);
        int64_t pairs = some(4), groups = some(3), span = some(100);
        void *query = room(count * pairs * groups * width * item, any), *bias = room(count * pairs * span * item, any);
        void *keys = room(count * pairs * span * width * item, any), *values = room(count * pairs * span * width * item, any);
        void *mixed = room(count * pairs * groups * width * item, 0);
        struct seen seen = {bias, 0, span, span, 0};
        struct attend a = {query, keys, values, &seen, mixed, count, pairs, groups, width, pairs * groups * width,
                           span * width, span * width, 0.3f, type};
        if (attend(&a)) exit(1);
        int64_t reach = span > known ? span : known, all = i & 2 ? pairs * groups : 1, step = all > 1 ? 2 * reach : 0;
        char *table = room(all * 2 * reach * item, any);
        seen = (struct seen){table + (reach - 1) * item, positions, span, groups * step, step};
        if (attend(&a)) exit(1);
        free(x), free(weight), free(y), free(inner), free(numbers), free(cosines), free(sines), free(kept), free(cache);
        free(positions), free(table), free(query), free(bias), free(keys), free(values), free(mixed);
    }
}

int main(void) {
    for (int any = 0; any < 2; any++) {
        tiles_state = -1;
        products(any), rows(any);
        tiles_state = 0; /* and without tiles */
        products(any);
    }
    puts("nothing outside was touched");
}

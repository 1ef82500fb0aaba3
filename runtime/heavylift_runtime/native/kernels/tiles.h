/* Products in tiles, where the processor has them (Intel's AMX): for products.c and head.c. */
#pragma once
#include "kernels.h"

#define TILE 16 /* outputs, and rows of x, of one tile */

/* Whether this process may use them; asked once. Sums of bf16 depend on it in their last bits. */
#ifdef __AMX_TILE__
int32_t tiled(void);
#else
static inline int32_t tiled(void) { return 0; }
#endif

/* Rows of x as tiles take them: `blocks` of `wide` rows each, with zeros where there are no more. */
struct tiles {
    char *numbers;
    int64_t rows, blocks, wide, lines; /* lines: of 64 bytes in a row, the last filled up with zeros */
};

/* How that many rows are divided, in whole groups of `parts`; `numbers` is the caller's, of `tiles_size` bytes. */
struct tiles tiles_of(int64_t rows, int parts, int64_t bytes);
int64_t tiles_size(const struct tiles *tiles);

/* Block `block` of rows of so many bytes, `pitch` apart. */
void tiles_fill(const struct tiles *tiles, int64_t block, const void *x, int64_t pitch, int64_t bytes);

#define AT_ONCE (2 * TILE) /* outputs */

/* All rows by the outputs [first, first + AT_ONCE), or as many as there are. */
void tiles_product(const struct matrix *m, const struct factor *x, const struct tiles *tiles, int64_t first);

/* One row by one output in bf16, as a product has it. */
float tiles_one(const uint16_t *weight, const uint16_t *x, int64_t inputs);

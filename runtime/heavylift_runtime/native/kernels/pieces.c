/* Pieces of a file that lie at one distance, read one after the other: no return to Python for each of them, which takes
 * longer than a piece of some kilobytes does. Not what is done where one cannot be read (sources.py). */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <unistd.h>

/* How many of `count` pieces of `width` bytes, `pitch` apart from byte `start` on, came whole, before the first that
 * did not. */
int64_t pieces(int file, int64_t start, int64_t pitch, int64_t width, int64_t count, char *into) {
    for (int64_t piece = 0; piece < count; piece++)
        if (pread(file, into + piece * width, width, start + piece * pitch) != width) return piece;
    return count;
}

/* What both files of kernels have in common; `native.py` states what is asked of them. */
#ifndef PROBEGATE_NATIVE_H
#define PROBEGATE_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Bytes of codes fetched ahead of what is multiplied: hardware stops at every page. */
enum { AHEAD = 8192 };

/* Some rows of a segment: a row's template is `scale` times its codes, within its bound. */
typedef struct {
    const int8_t *codes;
    const float *bounds;
    size_t rows;
    double scale;
} piece;

/* The probes: as codes, packed as a kernel wants them, and as they are; and their cuts, which other
 * threads may raise meanwhile. */
typedef struct {
    size_t dims;
    size_t count;
    size_t groups;
    const int8_t *codes;
    const uint8_t *packed;
    const double *exact;
    const double *cuts;
    double rounding;
} probes;

/* A row the product of whose codes with a probe's reaches the lowest that counts. */
typedef struct {
    uint32_t row;
    uint32_t probe;
} hit;

/* A row whose score is within `error` of `middle`, and may reach the probe's cut. */
typedef struct {
    uint32_t row;
    uint32_t probe;
    double middle;
    double error;
} near_hit;

/* Find hits among some rows, with what is lowest for each probe. A scan ends early, after whole rows,
 * when `hits` could not hold what the next rows may add to it; `done` says how many it covers. */
typedef size_t scan(const probes *asked, const int8_t *codes, size_t rows, const int32_t *lowest,
                    const int32_t *coarse, hit *hits, size_t most, size_t *done);

scan probegate_avx2_few;

/* All pieces, one after the other: what a scan finds is multiplied again with the probes themselves,
 * and what may reach its cut is kept, its row counted from the first piece's first. It ends early,
 * after whole rows, when there is no room for more of them; at least some rows are done. */
size_t probegate_drive(scan *scan, const probes *asked, const piece *pieces, size_t count,
                       const int32_t *lowest, const int32_t *coarse, size_t stride, hit *hits,
                       near_hit *kept, size_t most, size_t *done);

/* One pass of a family: `stride` is how many numbers `lowest` and `coarse` have for each piece. */
#define PASS(name, scan)                                                                           \
    EXPORT size_t name(const probes *asked, const piece *pieces, size_t count,                     \
                       const int32_t *lowest, const int32_t *coarse, size_t stride, hit *hits,     \
                       near_hit *kept, size_t most, size_t *done)                                  \
    {                                                                                              \
        return probegate_drive(scan, asked, pieces, count, lowest, coarse, stride, hits, kept,     \
                               most, done);                                                        \
    }

#endif

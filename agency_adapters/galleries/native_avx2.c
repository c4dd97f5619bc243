/* Products of int8 codes for x86-64 with AVX2, compared with a cut where they are made.
 *
 * `native.py` states what is asked and checks every shape before the call; `scanning.py` says why
 * no row that could be in an answer is lost.
 *
 * 1. Codes are in -127..127. vpmaddubsw adds two products of an unsigned and a signed byte in
 *    int16; 2 * 127 * 127 fits, so `product` is exact.
 * 2. For many probes each is first cut to b = COARSE_BITS fewer bits: q = 2^b * u - 128 + r with
 *    u = (q + 128) >> b unsigned and r in 0..2^b - 1. With m = (2^b - 1) / 2 and S the sum of the
 *    row's codes, q.c = 2^b * u.c - (128 - m) * S + (r - m).c. The caller's `cuts` bound the last
 *    term by Cauchy-Schwarz, so that u.c below `cuts[probe] + row_term(S)` excludes q.c at or above
 *    `lowest[probe]`. What is not excluded is multiplied again, exactly (1).
 * 3. u is at most 63, so two sums of vpmaddubsw fit int16 together: 4 * 63 * 127 = 32,004.
 * 4. Integer sums do not depend on their order: one row's product is the same everywhere.
 */
#include <math.h>

#include "native.h"

/* Terms that numpy sums with eight running sums; more are halved. */
enum { PAIRWISE_BLOCK = 128 };

/* Rows that stay in the core's first cache, a multiple of HEIGHT; a tile of HEIGHT rows and two
 * groups of probes needs all sixteen registers. */
enum { COARSE_BITS = 2, GROUP = 8, STEP = 8, HEIGHT = 3, ROWS_IN_CACHE = 63 };

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) AVX2

EXPORT int probegate_avx2_supported(void) { return __builtin_cpu_supports("avx2") ? 1 : 0; }

INLINE int32_t sum_of(__m256i eight)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

INLINE int32_t product(const int8_t *row, const int8_t *probe, size_t dims)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums = _mm256_setzero_si256();
    size_t at = 0;
    for (; at + 32 <= dims; at += 32) {
        __m256i c = _mm256_loadu_si256((const __m256i *)(row + at));
        __m256i q = _mm256_loadu_si256((const __m256i *)(probe + at));
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(c), _mm256_sign_epi8(q, c));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
    }
    int32_t whole = sum_of(sums);
    for (; at < dims; at++)
        whole += (int32_t)row[at] * probe[at];
    return whole;
}

/* Few probes: each row is multiplied with every probe while it is in the core. */
AVX2 size_t probegate_avx2_few(const probes *asked, const int8_t *codes, size_t rows,
                               const int32_t *lowest, const int32_t *coarse, hit *hits, size_t most,
                               size_t *done)
{
    const size_t dims = asked->dims, count = asked->count;
    size_t found = 0, row = 0;
    (void)coarse;
    for (; row < rows && found + count <= most; row++, codes += dims) {
        /* Memory is the limit. */
        for (size_t line = 0; line < dims; line += 64)
            __builtin_prefetch(codes + AHEAD + line);
        for (size_t probe = 0; probe < count; probe++)
            if (product(codes, asked->codes + probe * dims, dims) >= lowest[probe])
                hits[found++] = (hit){(uint32_t)row, (uint32_t)probe};
    }
    *done = row;
    return found;
}

/* What hits come to with the probes themselves, in float64: those within their rows' bounds of the
 * cuts are kept, and how many they are is returned. */
static AVX2 size_t again(const probes *asked, const piece *part, size_t first, const hit *hits,
                         size_t count, near_hit *kept)
{
    const size_t dims = asked->dims;
    size_t found = 0;
    for (size_t n = 0; n < count; n++) {
        const int8_t *row = part->codes + hits[n].row * dims;
        const double *q = asked->exact + hits[n].probe * dims;
        __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
        for (size_t at = 0; at < dims; at += STEP) {
            __m128i eight = _mm_loadl_epi64((const __m128i *)(row + at));
            __m256d c = _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(eight));
            __m256d d = _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_srli_si128(eight, 4)));
            low = _mm256_add_pd(low, _mm256_mul_pd(c, _mm256_loadu_pd(q + at)));
            high = _mm256_add_pd(high, _mm256_mul_pd(d, _mm256_loadu_pd(q + at + 4)));
        }
        double four[4];
        _mm256_storeu_pd(four, _mm256_add_pd(low, high));
        const double middle = ((four[0] + four[1]) + (four[2] + four[3])) * part->scale;
        const double error = part->bounds[hits[n].row] + asked->rounding;
        if (middle + error >= asked->cuts[hits[n].probe])
            kept[found++] =
                (near_hit){(uint32_t)first + hits[n].row, hits[n].probe, middle, error};
    }
    return found;
}

size_t probegate_drive(scan *scan, const probes *asked, const piece *pieces, size_t count,
                       const int32_t *lowest, const int32_t *coarse, size_t stride, hit *hits,
                       near_hit *kept, size_t most, size_t *done)
{
    size_t found = 0, rows = 0;
    for (size_t n = 0; n < count; n++, lowest += stride, coarse += coarse ? stride : 0) {
        piece rest = pieces[n];
        while (rest.rows) {
            size_t some;
            const size_t hit = scan(asked, rest.codes, rest.rows, lowest, coarse, hits, most, &some);
            if (found + hit > most) {
                *done = rows;
                return found;
            }
            found += again(asked, &rest, rows, hits, hit, kept + found);
            rows += some;
            rest.codes += some * asked->dims;
            rest.bounds += some;
            rest.rows -= some;
        }
    }
    *done = rows;
    return found;
}

/* numpy's pairwise sum of eight products at a time, each rounded by itself (no fused addition), so
 * that a score is the same to the last bit (`matching.py`). `low` and `high` are dimensions 0 to 3
 * and 4 to 7 of each eight. */
typedef struct {
    double score, square;
} pair;

INLINE double in_order(__m256d low, __m256d high)
{
    double r[8];
    _mm256_storeu_pd(r, low);
    _mm256_storeu_pd(r + 4, high);
    return ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
}

INLINE pair block_sums(const float *x, const double *q, size_t dims)
{
    __m256d low = _mm256_cvtps_pd(_mm_loadu_ps(x)), high = _mm256_cvtps_pd(_mm_loadu_ps(x + 4));
    __m256d score_low = _mm256_mul_pd(low, _mm256_loadu_pd(q));
    __m256d score_high = _mm256_mul_pd(high, _mm256_loadu_pd(q + 4));
    __m256d square_low = _mm256_mul_pd(low, low), square_high = _mm256_mul_pd(high, high);
    for (size_t at = 8; at < dims; at += 8) {
        low = _mm256_cvtps_pd(_mm_loadu_ps(x + at));
        high = _mm256_cvtps_pd(_mm_loadu_ps(x + at + 4));
        score_low = _mm256_add_pd(score_low, _mm256_mul_pd(low, _mm256_loadu_pd(q + at)));
        score_high = _mm256_add_pd(score_high, _mm256_mul_pd(high, _mm256_loadu_pd(q + at + 4)));
        square_low = _mm256_add_pd(square_low, _mm256_mul_pd(low, low));
        square_high = _mm256_add_pd(square_high, _mm256_mul_pd(high, high));
    }
    return (pair){in_order(score_low, score_high), in_order(square_low, square_high)};
}

static AVX2 pair sums(const float *x, const double *q, size_t dims)
{
    if (dims <= PAIRWISE_BLOCK)
        return block_sums(x, q, dims);
    size_t half = dims / 2;
    half -= half % 8;
    const pair a = sums(x, q, half), b = sums(x + half, q + half, dims - half);
    return (pair){a.score + b.score, a.square + b.square};
}

/* The score of each template with the probe that is named beside it. */
EXPORT AVX2 void probegate_avx2_scores(const float *const *templates, const uint32_t *whose,
                                       size_t count, const double *probes, size_t dims,
                                       double *scores)
{
    for (size_t n = 0; n < count; n++) {
        const pair p = sums(templates[n], probes + whose[n] * dims, dims);
        const double length = sqrt(p.square);
        scores[n] = length > 0 ? p.score / length : -INFINITY;
    }
}

/* What a row's sum of codes adds to the coarse cut, rounded down (2). */
INLINE int32_t row_term(const int8_t *row, size_t dims)
{
    const __m256i bytes = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    __m256i sums = _mm256_setzero_si256();
    size_t at = 0;
    for (; at + 32 <= dims; at += 32) {
        __m256i c = _mm256_loadu_si256((const __m256i *)(row + at));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, c), ones));
    }
    int32_t whole = sum_of(sums);
    for (; at < dims; at++)
        whole += row[at];
    /* (128 - m) / 2^b is an odd number of 2^(b + 1)ths. */
    return (int32_t)(((int64_t)whole * (257 - (1 << COARSE_BITS))) >> (COARSE_BITS + 1));
}

typedef struct {
    const probes *asked;
    const int8_t *codes;
    const int32_t *cuts;
    const int32_t *lowest;
    hit *hits;
    size_t found;
} pass;

/* Multiply `height` rows with `width` groups of probes, and look again at what is not excluded. */
INLINE void tile(pass *p, size_t row, const int32_t *terms, size_t group, const int height,
                 const int width)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const size_t dims = p->asked->dims;
    const int8_t *codes = p->codes + row * dims;
    const uint8_t *packed = p->asked->packed + group * GROUP * dims;
    __m256i sums[HEIGHT][2];
    for (int r = 0; r < height; r++)
        for (int g = 0; g < width; g++)
            sums[r][g] = _mm256_setzero_si256();
    for (size_t at = 0; at < dims; at += STEP) {
        __m256i narrow[HEIGHT][2];
        for (int part = 0; part < STEP / 4; part++) {
            const uint8_t *here = packed + (at + 4 * (size_t)part) * GROUP;
            __m256i u[2];
            for (int g = 0; g < width; g++)
                u[g] = _mm256_load_si256((const __m256i *)(here + (size_t)g * GROUP * dims));
            for (int r = 0; r < height; r++) {
                int32_t four;
                __builtin_memcpy(&four, codes + (size_t)r * dims + at + 4 * (size_t)part, 4);
                __m256i c = _mm256_set1_epi32(four);
                for (int g = 0; g < width; g++) {
                    __m256i pairs = _mm256_maddubs_epi16(u[g], c);
                    narrow[r][g] = part ? _mm256_add_epi16(narrow[r][g], pairs) : pairs;
                }
            }
        }
        for (int r = 0; r < height; r++)
            for (int g = 0; g < width; g++)
                sums[r][g] = _mm256_add_epi32(sums[r][g], _mm256_madd_epi16(narrow[r][g], ones));
    }
    for (int g = 0; g < width; g++) {
        size_t first = (group + (size_t)g) * GROUP;
        __m256i cuts = _mm256_loadu_si256((const __m256i *)(p->cuts + first));
        for (int r = 0; r < height; r++) {
            __m256i needed = _mm256_add_epi32(cuts, _mm256_set1_epi32(terms[r]));
            __m256i below = _mm256_cmpgt_epi32(needed, sums[r][g]);
            unsigned near = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(below)) & 0xffu;
            for (; near; near &= near - 1) {
                size_t probe = first + (size_t)__builtin_ctz(near);
                if (probe >= p->asked->count)
                    break;
                const int8_t *code = p->asked->codes + probe * dims;
                if (product(codes + (size_t)r * dims, code, dims) >= p->lowest[probe])
                    p->hits[p->found++] = (hit){(uint32_t)(row + (size_t)r), (uint32_t)probe};
            }
        }
    }
}

/* Many probes: `packed` holds u of eight probes beside each other, four dimensions at a time. */
static AVX2 size_t many(const probes *asked, const int8_t *codes, size_t rows,
                        const int32_t *lowest, const int32_t *coarse, hit *hits, size_t most,
                        size_t *done)
{
    pass p = {asked, codes, coarse, lowest, hits, 0};
    const size_t dims = asked->dims, count = asked->count, groups = asked->groups;
    int32_t terms[ROWS_IN_CACHE];
    size_t start = 0;
    for (; start < rows && p.found + ROWS_IN_CACHE * count <= most; start += ROWS_IN_CACHE) {
        const size_t some = rows - start < ROWS_IN_CACHE ? rows - start : ROWS_IN_CACHE;
        for (size_t row = 0; row < some; row++)
            terms[row] = row_term(codes + (start + row) * dims, dims);
        for (size_t group = 0; group < groups; group += 2) {
            size_t row = 0;
            if (group + 1 < groups) {
                for (; row + HEIGHT <= some; row += HEIGHT)
                    tile(&p, start + row, terms + row, group, HEIGHT, 2);
                for (; row < some; row++)
                    tile(&p, start + row, terms + row, group, 1, 2);
            } else {
                for (; row + HEIGHT <= some; row += HEIGHT)
                    tile(&p, start + row, terms + row, group, HEIGHT, 1);
                for (; row < some; row++)
                    tile(&p, start + row, terms + row, group, 1, 1);
            }
        }
    }
    *done = start < rows ? start : rows;
    return p.found;
}

PASS(probegate_avx2_pass_few, probegate_avx2_few)
PASS(probegate_avx2_pass_many, many)

#else

EXPORT int probegate_avx2_supported(void) { return 0; }

#endif

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
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Bytes of codes fetched ahead of what is multiplied. */
enum { AHEAD = 8192 };

/* Rows that stay in the core's first cache, a multiple of HEIGHT; a tile of HEIGHT rows and two
 * groups of probes needs all sixteen registers. */
enum { COARSE_BITS = 2, GROUP = 8, STEP = 8, HEIGHT = 3, ROWS_IN_CACHE = 63 };

typedef struct {
    uint32_t row;
    uint32_t probe;
    int32_t product;
} hit;

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) AVX2

EXPORT int probegate_supported(void) { return __builtin_cpu_supports("avx2") ? 1 : 0; }

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
EXPORT AVX2 size_t probegate_scan_few(const int8_t *codes, size_t rows, size_t dims,
                                      const int8_t *probes, size_t count, const int32_t *lowest,
                                      hit *hits)
{
    size_t found = 0;
    for (size_t row = 0; row < rows; row++, codes += dims) {
        /* Memory is the limit; what hardware fetches ahead stops at every page. */
        for (size_t line = 0; line < dims; line += 64)
            __builtin_prefetch(codes + AHEAD + line);
        for (size_t probe = 0; probe < count; probe++) {
            int32_t whole = product(codes, probes + probe * dims, dims);
            if (whole >= lowest[probe])
                hits[found++] = (hit){(uint32_t)row, (uint32_t)probe, whole};
        }
    }
    return found;
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
    const int8_t *codes;
    size_t dims;
    const uint8_t *packed;
    const int8_t *probes;
    size_t count;
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
    const int8_t *codes = p->codes + row * p->dims;
    const uint8_t *packed = p->packed + group * GROUP * p->dims;
    __m256i sums[HEIGHT][2];
    for (int r = 0; r < height; r++)
        for (int g = 0; g < width; g++)
            sums[r][g] = _mm256_setzero_si256();
    for (size_t at = 0; at < p->dims; at += STEP) {
        __m256i narrow[HEIGHT][2];
        for (int part = 0; part < STEP / 4; part++) {
            const uint8_t *here = packed + (at + 4 * (size_t)part) * GROUP;
            __m256i u[2];
            for (int g = 0; g < width; g++)
                u[g] = _mm256_load_si256((const __m256i *)(here + (size_t)g * GROUP * p->dims));
            for (int r = 0; r < height; r++) {
                int32_t four;
                __builtin_memcpy(&four, codes + (size_t)r * p->dims + at + 4 * (size_t)part, 4);
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
                if (probe >= p->count)
                    break;
                int32_t whole = product(codes + (size_t)r * p->dims,
                                        p->probes + probe * p->dims, p->dims);
                if (whole >= p->lowest[probe])
                    p->hits[p->found++] = (hit){(uint32_t)(row + (size_t)r), (uint32_t)probe, whole};
            }
        }
    }
}

/* Many probes: `packed` holds u of eight probes beside each other, four dimensions at a time. */
EXPORT AVX2 size_t probegate_scan_many(const int8_t *codes, size_t rows, size_t dims,
                                       const uint8_t *packed, const int8_t *probes, size_t count,
                                       const int32_t *cuts, const int32_t *lowest, hit *hits)
{
    pass p = {codes, dims, packed, probes, count, cuts, lowest, hits, 0};
    const size_t groups = (count + GROUP - 1) / GROUP;
    int32_t terms[ROWS_IN_CACHE];
    for (size_t start = 0; start < rows; start += ROWS_IN_CACHE) {
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
    return p.found;
}

#else

EXPORT int probegate_supported(void) { return 0; }

#endif

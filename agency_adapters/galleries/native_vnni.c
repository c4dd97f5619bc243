/* Products of int8 codes for x86-64 with AVX-512 VNNI, compared with a cut where they are made.
 *
 * `native.py` states what is asked and checks every shape before the call.
 *
 * 1. vpdpbusd adds four products of an unsigned and a signed byte to an int32 and never saturates:
 *    255 * 127 * 4,096 fits with room. So every product is exact, of all eight bits.
 * 2. It needs one operand unsigned. For few probes that is the row, as c + 128, and
 *    (c + 128).q = c.q + 128 * (sum of q). For many it is the probe, as q + 128, packed once, and
 *    c.(q + 128) = c.q + 128 * (sum of c); a row's sum is made once for all probes.
 * 3. Integer sums do not depend on their order: one row's product is the same everywhere.
 */
#include "native.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) VNNI

/* Probes that may be few; probes beside each other in one register; rows that stay in the core's first cache, a multiple
 * of every height; the largest tile: rows and probes whose sums have a register each. */
enum { MOST_FEW = 8, LANES = 16, ROWS_IN_CACHE = 24, LARGEST_TILE = 24 * LANES };

EXPORT int probegate_vnni_supported(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

INLINE __mmask64 first(size_t bytes)
{
    return bytes < 64 ? ((__mmask64)1 << bytes) - 1 : ~(__mmask64)0;
}

/* 128 times the sum of some codes (2). */
INLINE int32_t term_of(const int8_t *codes, size_t dims)
{
    __m512i sums = _mm512_setzero_si512();
    for (size_t at = 0; at < dims; at += 64)
        sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1),
                                   _mm512_maskz_loadu_epi8(first(dims - at), codes + at));
    return 128 * _mm512_reduce_add_epi32(sums);
}

/* Few probes: each row is multiplied with every probe while it is in the core. */
static VNNI size_t few(const probes *asked, const int8_t *codes, size_t rows,
                       const int32_t *lowest, const int32_t *coarse, hit *hits, size_t most,
                       size_t *done)
{
    const size_t dims = asked->dims, count = asked->count;
    (void)coarse;
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    int32_t shifts[MOST_FEW];
    for (size_t probe = 0; probe < count; probe++)
        shifts[probe] = term_of(asked->codes + probe * dims, dims);
    size_t found = 0, row = 0;
    for (; row < rows && found + count <= most; row++, codes += dims) {
        for (size_t line = 0; line < dims; line += 64)
            __builtin_prefetch(codes + AHEAD + line);
        for (size_t probe = 0; probe < count; probe++) {
            const int8_t *q = asked->codes + probe * dims;
            __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
            size_t at = 0;
            for (; at + 128 <= dims; at += 128) {
                __m512i c = _mm512_xor_si512(_mm512_loadu_si512(codes + at), flip);
                even = _mm512_dpbusd_epi32(even, c, _mm512_loadu_si512(q + at));
                __m512i d = _mm512_xor_si512(_mm512_loadu_si512(codes + at + 64), flip);
                odd = _mm512_dpbusd_epi32(odd, d, _mm512_loadu_si512(q + at + 64));
            }
            for (; at < dims; at += 64) {
                const __mmask64 part = first(dims - at);
                __m512i c = _mm512_xor_si512(_mm512_maskz_loadu_epi8(part, codes + at), flip);
                even = _mm512_dpbusd_epi32(even, c, _mm512_maskz_loadu_epi8(part, q + at));
            }
            const __m512i sums = _mm512_add_epi32(even, odd);
            const int32_t whole = _mm512_reduce_add_epi32(sums) - shifts[probe];
            if (whole >= lowest[probe])
                hits[found++] = (hit){(uint32_t)row, (uint32_t)probe};
        }
    }
    *done = row;
    return found;
}

typedef struct {
    const int8_t *codes;
    size_t dims;
    const uint8_t *packed;
    size_t groups;
    const int32_t *lowest;
    hit *hits;
    size_t found;
} pass;

INLINE __m512i broadcast(const int8_t *code)
{
    int32_t four;
    __builtin_memcpy(&four, code, 4);
    return _mm512_set1_epi32(four);
}

INLINE __m512i lanes(const uint8_t *packed, int number)
{
    return _mm512_load_si512(packed + 4 * LANES * number);
}

/* Subtract a row's term, write the products down, and say whether any reaches its cut. */
INLINE unsigned reached(__m512i sums, int32_t term, const int32_t *lowest, int32_t *products)
{
    const __m512i product = _mm512_sub_epi32(sums, _mm512_set1_epi32(term));
    _mm512_storeu_si512(products, product);
    return _mm512_cmpge_epi32_mask(product, _mm512_loadu_si512(lowest));
}

/* Every sum of a tile has a register of its own and a name: gcc 12 keeps arrays and structures of
 * sums in memory as well, which halves the speed. So a tile is written once, for a row, and
 * repeated; and the instruction adds in place. */
#define ADD(sums, u, c) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(u), "v"(c))
#define COUNT(r) +1
#define SIX(one) one(0) one(1) one(2) one(3) one(4) one(5)
#define TWELVE(one) SIX(one) one(6) one(7) one(8) one(9) one(10) one(11)

#define TILE(name, rows, begin, load, add, end)                                                    \
    VNNI static unsigned name(const pass *p, const int8_t *codes, const int32_t *terms,            \
                              size_t group, int32_t *products)                                     \
    {                                                                                              \
        const size_t dims = p->dims, step = p->groups * 4 * LANES;                                 \
        const uint8_t *packed = p->packed + group * 4 * LANES;                                     \
        const int32_t *lowest = p->lowest + group * LANES;                                         \
        const __m512i zero = _mm512_setzero_si512();                                               \
        unsigned any = 0;                                                                          \
        rows(begin) for (size_t at = 0; at < dims; at += 4, packed += step)                        \
        {                                                                                          \
            /* What the part after the next needs is fetched meanwhile. */                     \
            __builtin_prefetch(codes + 2 * ROWS_IN_CACHE * dims + (rows(COUNT)) * at);               \
            load rows(add)                                                                         \
        }                                                                                          \
        rows(end) return any;                                                                      \
    }

/* Six rows with 64 probes. */
#define BEGIN_4(r) __m512i a##r = zero, b##r = zero, c##r = zero, d##r = zero;
#define LOAD_4                                                                                     \
    const __m512i u0 = lanes(packed, 0), u1 = lanes(packed, 1), u2 = lanes(packed, 2),             \
                  u3 = lanes(packed, 3);
#define ADD_4(r)                                                                                   \
    {                                                                                              \
        const __m512i code = broadcast(codes + r * dims + at);                                     \
        ADD(a##r, u0, code);                                                                       \
        ADD(b##r, u1, code);                                                                       \
        ADD(c##r, u2, code);                                                                       \
        ADD(d##r, u3, code);                                                                       \
    }
#define END_4(r)                                                                                   \
    any |= reached(a##r, terms[r], lowest, products + 4 * LANES * r);                              \
    any |= reached(b##r, terms[r], lowest + LANES, products + LANES * (4 * r + 1));                \
    any |= reached(c##r, terms[r], lowest + 2 * LANES, products + LANES * (4 * r + 2));            \
    any |= reached(d##r, terms[r], lowest + 3 * LANES, products + LANES * (4 * r + 3));
TILE(tile_of_64, SIX, BEGIN_4, LOAD_4, ADD_4, END_4)

/* Twelve rows with 32. */
#define BEGIN_2(r) __m512i a##r = zero, b##r = zero;
#define LOAD_2 const __m512i u0 = lanes(packed, 0), u1 = lanes(packed, 1);
#define ADD_2(r)                                                                                   \
    {                                                                                              \
        const __m512i code = broadcast(codes + r * dims + at);                                     \
        ADD(a##r, u0, code);                                                                       \
        ADD(b##r, u1, code);                                                                       \
    }
#define END_2(r)                                                                                   \
    any |= reached(a##r, terms[r], lowest, products + 2 * LANES * r);                              \
    any |= reached(b##r, terms[r], lowest + LANES, products + LANES * (2 * r + 1));
TILE(tile_of_32, TWELVE, BEGIN_2, LOAD_2, ADD_2, END_2)

/* Twelve rows with 16. */
#define BEGIN_1(r) __m512i a##r = zero;
#define LOAD_1 const __m512i u0 = lanes(packed, 0);
#define ADD_1(r) ADD(a##r, u0, broadcast(codes + r * dims + at));
#define END_1(r) any |= reached(a##r, terms[r], lowest, products + LANES * r);
TILE(tile_of_16, TWELVE, BEGIN_1, LOAD_1, ADD_1, END_1)

typedef unsigned tile(const pass *, const int8_t *, const int32_t *, size_t, int32_t *);

/* Write down which products of some rows of a tile reach their cuts. */
static void keep(pass *p, size_t row, size_t probe, const int32_t *products, size_t count)
{
    for (size_t n = 0; n < count; n++)
        if (products[n] >= p->lowest[probe + n])
            p->hits[p->found++] = (hit){(uint32_t)row, (uint32_t)(probe + n)};
}

/* The rows of a part, with the probes that a tile takes; the first `skip` are known already. */
INLINE void column(pass *p, size_t start, size_t skip, const int32_t *terms, size_t group,
                   tile *tile, const size_t height, const size_t width)
{
    int32_t products[LARGEST_TILE];
    for (size_t row = skip - skip % height; row < ROWS_IN_CACHE; row += height) {
        if (!tile(p, p->codes + (start + row) * p->dims, terms + row, group, products))
            continue;
        for (size_t r = row < skip ? skip - row : 0; r < height; r++)
            keep(p, start + row + r, group * LANES, products + r * width * LANES, width * LANES);
    }
}

/* Many probes: `packed` holds q + 128 of all probes beside each other, four dimensions at a
 * time, on cache lines: one or two groups of sixteen, or a multiple of four. `lowest` is as long,
 * and where there is no probe it is beyond any product. The last part ends with the last row, and
 * begins with rows that are known; rows that are fewer than a part are not worth packing for. */
static VNNI size_t many(const probes *asked, const int8_t *codes, size_t rows,
                        const int32_t *lowest, const int32_t *coarse, hit *hits, size_t most,
                        size_t *done)
{
    if (rows < ROWS_IN_CACHE)
        return probegate_avx2_few(asked, codes, rows, lowest, coarse, hits, most, done);
    const size_t dims = asked->dims, groups = asked->groups;
    pass p = {codes, dims, asked->packed, groups, lowest, hits, 0};
    const size_t most_of_part = ROWS_IN_CACHE * groups * LANES;
    int32_t terms[ROWS_IN_CACHE];
    size_t next = 0;
    for (; next < rows && p.found + most_of_part <= most; next += ROWS_IN_CACHE) {
        const size_t start = rows - next < ROWS_IN_CACHE ? rows - ROWS_IN_CACHE : next;
        const size_t skip = next - start;
        for (size_t row = 0; row < ROWS_IN_CACHE; row++)
            terms[row] = term_of(codes + (start + row) * dims, dims);
        if (groups == 1)
            column(&p, start, skip, terms, 0, tile_of_16, 12, 1);
        else if (groups == 2)
            column(&p, start, skip, terms, 0, tile_of_32, 12, 2);
        else
            for (size_t group = 0; group < groups; group += 4)
                column(&p, start, skip, terms, group, tile_of_64, 6, 4);
    }
    *done = next < rows ? next : rows;
    return p.found;
}

PASS(probegate_vnni_pass_few, few)
PASS(probegate_vnni_pass_many, many)

#else

EXPORT int probegate_vnni_supported(void) { return 0; }

#endif

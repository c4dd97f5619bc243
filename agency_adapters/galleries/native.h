/* What both files of kernels have in common; `native.py` states what is asked of them. */
#ifndef PROBEGATE_NATIVE_H
#define PROBEGATE_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Bytes of codes fetched ahead of what is multiplied: hardware stops at every page. */
enum { AHEAD = 8192 };

/* A row whose product with a probe reaches the probe's cut. */
typedef struct {
    uint32_t row;
    uint32_t probe;
    int32_t product;
} hit;

#endif

/* What both files of kernels have in common; `native.py` states what is asked of them. */
#ifndef PROBEGATE_NATIVE_H
#define PROBEGATE_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Bytes of codes fetched ahead of what is multiplied: hardware stops at every page. */
enum { AHEAD = 8192 };

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

#endif

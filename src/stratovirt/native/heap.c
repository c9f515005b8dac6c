/* SPDX-License-Identifier: MIT */
/* What a thread's heap keeps when large objects have come and gone: glibc gives none of it back, for freeing a
 * mapped one raises both M_MMAP_THRESHOLD, so that the next ones lie in the heap, and M_TRIM_THRESHOLD (mallopt(3));
 * and malloc_trim(3) leaves the end of every heap but the first alone. */
#include <malloc.h>
#include <stdlib.h>

#include "internal.h"

enum {
    MARK = 96 << 10, /* free() looks at the heap's end from 64 KiB on (FASTBIN_CONSOLIDATION_THRESHOLD) */
    KEEP = 128 << 10, /* M_TRIM_THRESHOLD as it was at first */
};

void *heap_mark(void)
{
    return malloc(MARK);
}

void heap_give_back(void *mark)
{
    mallopt(M_TRIM_THRESHOLD, KEEP);
    free(mark);
}

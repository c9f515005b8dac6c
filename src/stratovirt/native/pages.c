/* SPDX-License-Identifier: MIT */
/* What a snapshot does with every byte of guest memory: looks for what is not zero, and sums it up. */
#include <nmmintrin.h>
#include <string.h>

#include "internal.h"

static bool is_zero(const uint8_t *page, uint32_t size)
{
    return *page == 0 && memcmp(page, page + 1, size - 1) == 0;
}

void pages_filled(uintptr_t address, uint32_t count, uint32_t page_size, uint8_t *filled)
{
    const uint8_t *page = (const uint8_t *)address;
    for (uint32_t i = 0; i < count; i++, page += page_size)
        filled[i] = !is_zero(page, page_size);
}

/* The instruction's result comes after three cycles, but one can begin in each: hence lanes. */
__attribute__((target("sse4.2")))
void pages_checksum(const uint8_t *data, uint64_t length, uint32_t *lanes)
{
    uint64_t sums[CHECKSUM_LANES], words[CHECKSUM_LANES];
    for (int i = 0; i < CHECKSUM_LANES; i++)
        sums[i] = UINT32_MAX;
    for (uint64_t at = 0; at + sizeof words <= length; at += sizeof words) {
        memcpy(words, data + at, sizeof words);
        for (int i = 0; i < CHECKSUM_LANES; i++)
            sums[i] = _mm_crc32_u64(sums[i], words[i]);
    }
    for (int i = 0; i < CHECKSUM_LANES; i++)
        lanes[i] = ~(uint32_t)sums[i];
}

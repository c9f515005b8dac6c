/* SPDX-License-Identifier: MIT */
/* Which pages of guest memory a snapshot has to keep. */
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
